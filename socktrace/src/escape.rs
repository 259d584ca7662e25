//! The one way hostile bytes become text, in a terminal, a text file or JSON.
//!
//! Owns which characters may pass and how the others are written. Does not know what the bytes
//! are, except for the names of Unix sockets. Escaping is reversible: no two inputs of
//! [`escape`] give the same text.

use std::borrow::Cow;
use std::fmt::Write;

/// The bytes as printable text on one line.
///
/// Printable UTF-8 stays. `\` becomes `\\`; newline, tab and return `\n`, `\t`, `\r`; the other
/// ASCII controls and every byte that is not UTF-8 `\xNN`; controls and invisible characters beyond
/// ASCII `\u{N}`.
pub fn escape(bytes: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(is_escaped) => Cow::Borrowed(text),
        _ => Cow::Owned(escape_all(bytes)),
    }
}

/// Whether the bytes are not UTF-8, so that a reader who needs them exactly wants [`hex`] too.
pub fn needs_hex(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_err()
}

/// The bytes as lowercase hex digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        push(&mut text, format_args!("{byte:02x}"));
    }
    text
}

/// The name of a Unix socket, as unix(7) stores it in `sun_path`.
///
/// An abstract name (leading NUL) is shown with a leading `@`, its other NULs escaped; a path ends
/// at its first NUL. A path that begins with `@` has it escaped, so that it cannot pass for an
/// abstract name. An unnamed socket gives an empty text.
pub fn unix_name(name: &[u8]) -> Cow<'_, str> {
    if let [0, rest @ ..] = name {
        return Cow::Owned(format!("@{}", escape(rest)));
    }
    match name.split(|&byte| byte == 0).next().unwrap_or_default() {
        [b'@', rest @ ..] => Cow::Owned(format!("\\x40{}", escape(rest))),
        path => escape(path),
    }
}

/// Undoes [`escape`]; `None` for a text that it cannot have written.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let kind = escaped.chars().next()?;
        rest = escaped.get(1..)?;
        match kind {
            '\\' => bytes.push(b'\\'),
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            'r' => bytes.push(b'\r'),
            'x' => {
                bytes.push(u8::from_str_radix(rest.get(..2)?, 16).ok()?);
                rest = rest.get(2..)?;
            }
            'u' => {
                let (number, after) = rest.strip_prefix('{')?.split_once('}')?;
                let character = char::from_u32(u32::from_str_radix(number, 16).ok()?)?;
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
            }
            _ => return None,
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

/// Undoes [`unix_name`]; `None` for a text that it cannot have written.
pub fn parse_unix_name(text: &str) -> Option<Vec<u8>> {
    match text.strip_prefix('@') {
        Some(rest) => Some([&[0], unescape(rest)?.as_slice()].concat()),
        None => unescape(text),
    }
}

fn escape_all(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\r' => text.push_str("\\r"),
                c if c.is_ascii_control() => {
                    push(&mut text, format_args!("\\x{:02x}", u32::from(c)));
                }
                c if is_escaped(c) => push(&mut text, format_args!("\\u{{{:x}}}", u32::from(c))),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            push(&mut text, format_args!("\\x{byte:02x}"));
        }
    }
    text
}

/// Whether a character could move the cursor, reorder the line, break it, or hide.
fn is_escaped(character: char) -> bool {
    character == '\\'
        || character.is_control()
        || matches!(
            character,
            '\u{ad}'                        // soft hyphen
            | '\u{61c}'                     // Arabic letter mark
            | '\u{180e}'                    // Mongolian vowel separator
            | '\u{200b}'..='\u{200f}'       // zero width, left-to-right and right-to-left mark
            | '\u{2028}'..='\u{202e}'       // line and paragraph separator, bidi embedding
            | '\u{2060}'..='\u{206f}'       // invisible operators, bidi isolates
            | '\u{feff}'                    // byte order mark
            | '\u{fff9}'..='\u{fffb}'       // interlinear annotation
            | '\u{e0000}'..='\u{e0fff}'     // tags, variation selectors
        )
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    let _ = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_safe_and_reversible(bytes: &[u8]) {
        let text = escape(bytes);
        assert_eq!(unescape(&text).as_deref(), Some(bytes), "{text:?}");
        assert!(!text.chars().any(|c| c != '\\' && is_escaped(c)), "{text:?}");
    }

    #[test]
    fn printable_text_passes_without_a_copy() {
        for text in ["nginx: worker", "/run/app.sock", "größe 日本語 🙂", "", "\"quoted\""] {
            assert!(matches!(escape(text.as_bytes()), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn what_could_deceive_a_reader_is_written_out() {
        for (bytes, text) in [
            (b"a\nb\tc\rd".as_slice(), "a\\nb\\tc\\rd"),
            (b"\x1b[2J\x07\x00\x7f", "\\x1b[2J\\x07\\x00\\x7f"),
            (b"\\n", "\\\\n"),
            (b"\xff\xc3(\xed\xa0\x80", "\\xff\\xc3(\\xed\\xa0\\x80"),
            ("\u{85}\u{9b}".as_bytes(), "\\u{85}\\u{9b}"),
            (
                "a\u{202e}b\u{2066}\u{61c}\u{200f}".as_bytes(),
                "a\\u{202e}b\\u{2066}\\u{61c}\\u{200f}",
            ),
            (
                "\u{2028}\u{feff}\u{200b}\u{e0041}".as_bytes(),
                "\\u{2028}\\u{feff}\\u{200b}\\u{e0041}",
            ),
            (b"\xf0\x9f\x99", "\\xf0\\x9f\\x99"),
        ] {
            assert_eq!(escape(bytes), text, "{bytes:?}");
        }
    }

    #[test]
    fn every_character_and_every_pair_of_bytes_comes_back() {
        for character in '\0'..=char::MAX {
            assert_safe_and_reversible(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        for pair in 0..=u16::MAX {
            assert_safe_and_reversible(&pair.to_be_bytes());
        }
    }

    #[test]
    fn random_mixtures_come_back() {
        let pieces: [&[u8]; 14] = [
            b"\\",
            b"x",
            b"u{",
            b"}",
            b"n",
            b"0",
            b"f",
            b"\n",
            b"\x1b",
            b"\xff",
            b"\xe2\x80",
            "\u{202e}".as_bytes(),
            "é".as_bytes(),
            b"\0",
        ];
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).expect("31 bits")
        };
        for _ in 0..100_000 {
            let length = next() % 12;
            let bytes: Vec<u8> =
                (0..length).flat_map(|_| pieces[next() % pieces.len()]).copied().collect();
            assert_safe_and_reversible(&bytes);
        }
    }

    #[test]
    fn hex_is_offered_for_what_is_not_text() {
        assert!(needs_hex(b"\xff"));
        assert!(!needs_hex("é\n".as_bytes()));
        assert_eq!(hex(b"\x00\xffa"), "00ff61");
    }

    #[test]
    fn an_abstract_name_is_never_taken_for_a_path() {
        for (name, text) in [
            (b"/run/app.sock\0".as_slice(), "/run/app.sock"),
            (b"/run/a\0garbage", "/run/a"),
            (b"/tmp/a\nb\x1b\xff", "/tmp/a\\nb\\x1b\\xff"),
            (b"\0app", "@app"),
            (b"\0a\0b\0", "@a\\x00b\\x00"),
            (b"\0", "@"),
            (b"@app", "\\x40app"),
            (b"\0@app", "@@app"),
            (b"", ""),
        ] {
            assert_eq!(unix_name(name), text, "{name:?}");
        }
    }
}
