//! Whether a line can be printed once it was read.
//!
//! Hostile bytes are written escaped, and escaped again where they are printed. The other texts of a session are
//! socktrace's own words and printed as they are: a file in which they move a terminal was not written by it.

/// Puts blanks in the place of what JSON escapes for want of a letter: own words stand on one line.
pub(super) fn make_plain(line: &mut [u8]) {
    let mut at = 0;
    while let Some(found) = line[at..].iter().position(|byte| *byte == b'\\') {
        at += found;
        let length = match line.get(at + 1) {
            Some(b'n' | b't' | b'r' | b'b' | b'f') => 2,
            Some(b'u') => 6,
            _ => {
                at += 2;
                if at >= line.len() {
                    return;
                }
                continue;
            }
        };
        let end = line.len().min(at + length);
        line[at..end].fill(b' ');
        at = end;
    }
}

/// Whether no string of a line has a control character, a newline and a tab among them, or one that turns
/// the direction of writing; as it stands there, or escaped as JSON escapes.
pub(super) fn is_plain(line: &[u8]) -> bool {
    // Nearly all lines. JSON itself forbids what is below a blank.
    if !line.iter().any(|byte| *byte >= 0x7f || *byte == b'\\') {
        return true;
    }
    let Ok(text) = str::from_utf8(line) else { return false };
    if text.chars().any(moves_terminal) {
        return false;
    }
    let mut rest = text;
    while let Some((_, escaped)) = rest.split_once('\\') {
        let Some(meant) = meant_by(escaped) else { return false };
        // A newline would begin a line of its own, of any content.
        if matches!(meant, '\n' | '\t') || moves_terminal(meant) {
            return false;
        }
        rest = escaped.get(1..).unwrap_or_default();
    }
    true
}

/// The character that an escape sequence of JSON stands for, or the half of one; `None` if it is none.
fn meant_by(escaped: &str) -> Option<char> {
    match escaped.chars().next()? {
        kind @ ('"' | '\\' | '/') => Some(kind),
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'u' => {
            let code = u32::from_str_radix(escaped.get(1..5)?, 16).ok()?;
            Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
        }
        _ => None,
    }
}

const fn moves_terminal(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{8}'
            | '\u{b}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_any_language_are_plain_and_so_is_what_was_escaped() {
        let lines = [
            r#"{"a":"b\\n\\t\"\\x1b[31m\\u{202e}\/"}"#,
            "{\t\"a\" : \"b\"}",
            r#"{"a":"\u00e9 \ud83d\ude00"}"#,
            "{\"a\":\"\u{e9}\u{fffd}\u{1f600}\"}",
        ];
        for line in lines {
            assert!(is_plain(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn own_words_are_written_on_one_line_and_names_as_they_are() {
        for (words, written) in [
            ("a\nb\t\r\u{8}\u{c}c\u{1b}[2J\u{0}", "a  b        c      [2J      "),
            (r#"\\n "\\" \\\\t/"#, r#"\\n "\\" \\\\t/"#),
            ("", ""),
        ] {
            let mut line = serde_json::to_vec(&[words]).expect("text");
            make_plain(&mut line);
            assert!(is_plain(&line), "{}", String::from_utf8_lossy(&line));
            let read: Vec<String> = serde_json::from_slice(&line).expect("JSON");
            assert_eq!(read, [written]);
        }
    }

    #[test]
    fn what_moves_a_terminal_is_found_however_it_is_written() {
        let lines: [&[u8]; 12] = [
            b"{\"a\":\"\\ncomplete: all of it\"}",
            b"{\"a\":\"\\u0009\"}",
            b"{\"a\":\"\\u001b[31m\"}",
            b"{\"a\":\"\\\\\\u001B\"}",
            b"{\"a\":\"\\u202e\"}",
            b"{\"a\":\"\\r\"}",
            b"{\"a\":\"\\u12\"}",
            b"{\"a\":\"\\",
            b"{\"a\":\"\x7f\"}",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":\"\xe2\x80\xae\"}",
            b"{\"a\":\"\xc2\x9b\"}",
        ];
        for line in lines {
            assert!(!is_plain(line), "{}", String::from_utf8_lossy(line));
        }
    }
}
