//! A [`Phrase`] as printable text on one line: names escaped, words of commands quoted for a shell.

use std::borrow::Cow;

use super::escape::{escape, unix_name};
use crate::event::{Part, Phrase};

/// The phrase as text.
pub fn text(phrase: &Phrase) -> String {
    let part = |part: &Part| match part {
        Part::Text(text) => text.to_string(),
        Part::Name(bytes) => unix_name(bytes).into_owned(),
        Part::Word(bytes) => quoted(bytes).into_owned(),
    };
    phrase.0.iter().map(part).collect()
}

/// One word for a POSIX shell, where it has printable characters only; else for bash, ksh, zsh and
/// busybox, which know `$'…'`. Never an option: a leading `-` gets `./` before it.
fn quoted(bytes: &[u8]) -> Cow<'_, str> {
    if bytes.first() == Some(&b'-') {
        return Cow::Owned(quoted(&[b"./", bytes].concat()).into_owned());
    }
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_/.,:@%+=-".contains(byte);
    let escaped = escape(bytes);
    match escaped {
        Cow::Borrowed(text) if !bytes.is_empty() && bytes.iter().all(plain) => Cow::Borrowed(text),
        Cow::Borrowed(text) if !text.contains('\'') => Cow::Owned(format!("'{text}'")),
        _ => Cow::Owned(format!("$'{}'", escape_for_dollar(bytes))),
    }
}

/// Every byte that is not a plain printable one as `\xNN`.
fn escape_for_dollar(bytes: &[u8]) -> String {
    let one = |byte: &u8| match byte {
        b'\'' | b'\\' => format!("\\{}", char::from(*byte)),
        b' '..=b'~' => char::from(*byte).to_string(),
        // Three digits in octal: `\x` would swallow a hex digit that follows.
        _ => format!("\\{byte:03o}"),
    };
    bytes.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::event::{name, phrase, word};

    #[test]
    fn names_are_escaped_and_an_abstract_one_has_its_sign() {
        let said = phrase!["of ", name(b"\0a\x1b"), " and ", name(b"/run/a\nb")];
        assert_eq!(text(&said), "of @a\\x1b and /run/a\\nb");
    }

    #[test]
    fn a_shell_reads_a_quoted_word_as_the_bytes_that_it_was() {
        let words: [&[u8]; 9] = [
            b"/run/app.sock",
            b"a b",
            b"it's",
            b"$(touch /tmp/x)`id`\"",
            b"back\\slash",
            b"new\nline1",
            b"\x1b[31m\x9bred",
            b"\xff\xfe0",
            b"",
        ];
        for bytes in words {
            let quoted = text(&word(bytes));
            assert!(!quoted.chars().any(char::is_control), "{quoted:?}");
            let script = format!("printf %s {quoted}");
            let out = Command::new("bash").args(["-c", &script]).output().expect("bash");
            assert_eq!(out.stdout, bytes, "{quoted}");
        }
        assert_eq!(text(&word(b"-rf")), "./-rf");
    }
}
