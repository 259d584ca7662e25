//! The syntax of unit files, and what a value stands for: systemd.syntax(7), systemd.unit(5).
//!
//! Owns lines, sections, specifiers, switches, modes and paths. What a value cannot be understood as
//! is `None`, and as systemd does, its user then keeps what was set before.

/// `KEY=VALUE` in a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) section: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// Every assignment of a file, in order. Lines that are none are passed over.
pub(super) fn assignments(text: &[u8]) -> Vec<Assignment> {
    let (mut section, mut found) = (Vec::new(), Vec::new());
    for line in logical_lines(text) {
        let line = line.trim_ascii();
        if let Some(name) = line.strip_prefix(b"[") {
            section = name.strip_suffix(b"]").unwrap_or_default().to_vec();
        } else if let Some(equals) = line.iter().position(|&byte| byte == b'=') {
            let (key, value) = line.split_at(equals);
            let value = value.strip_prefix(b"=").unwrap_or_default().trim_ascii().to_vec();
            let key = key.trim_ascii().to_vec();
            found.push(Assignment { section: section.clone(), key, value });
        }
    }
    found
}

/// Lines without comments; one that ends with an odd number of backslashes goes on in the next, and
/// a comment between is none of it.
fn logical_lines(text: &[u8]) -> Vec<Vec<u8>> {
    let (mut lines, mut open) = (Vec::new(), Vec::new());
    for line in text.split(|&byte| matches!(byte, b'\n' | b'\r' | 0)) {
        if matches!(line.trim_ascii_start().first(), Some(b'#' | b';')) {
            continue;
        }
        let backslashes = line.iter().rev().take_while(|&&byte| byte == b'\\').count();
        if let Some(line) = line.strip_suffix(b"\\").filter(|_| backslashes % 2 == 1) {
            open.extend_from_slice(line);
            open.push(b' ');
        } else {
            open.extend_from_slice(line);
            lines.push(std::mem::take(&mut open));
        }
    }
    lines.push(open);
    lines
}

/// The value with its specifiers replaced, for a unit of the system's manager; the name is empty
/// where there is no unit. `None` where one is not known here, as an instance is not of a template.
pub(super) fn expand(value: &[u8], unit: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value.iter();
    while let Some(&byte) = rest.next() {
        if byte == b'%' {
            plain.extend_from_slice(specifier(*rest.next()?, unit)?);
        } else {
            plain.push(byte);
        }
    }
    Some(plain)
}

fn specifier(letter: u8, unit: &[u8]) -> Option<&[u8]> {
    match letter {
        b'%' => Some(b"%"),
        b't' => Some(b"/run"),
        b'S' => Some(b"/var/lib"),
        b'C' => Some(b"/var/cache"),
        b'L' => Some(b"/var/log"),
        b'E' => Some(b"/etc"),
        b'T' => Some(b"/tmp"),
        b'V' => Some(b"/var/tmp"),
        b'h' => Some(b"/root"),
        b'u' | b'g' => Some(b"root"),
        b'U' | b'G' => Some(b"0"),
        _ => unit_specifier(letter, unit),
    }
}

/// Of `p@i.TYPE`: `%n` is all of it, `%N` is `p@i`, `%p` is `p` and `%i` is `i`.
fn unit_specifier(letter: u8, unit: &[u8]) -> Option<&[u8]> {
    let stem = unit.iter().rposition(|&byte| byte == b'.').and_then(|dot| unit.get(..dot))?;
    let at = stem.iter().position(|&byte| byte == b'@');
    let instance = at.and_then(|at| stem.get(at + 1..));
    let is_template = instance.is_some_and(<[u8]>::is_empty);
    match letter {
        b'p' => Some(at.and_then(|at| stem.get(..at)).unwrap_or(stem)),
        b'n' if !is_template => Some(unit),
        b'N' if !is_template => Some(stem),
        b'i' if !is_template => Some(instance.unwrap_or_default()),
        _ => None,
    }
}

/// The words of a list, without their quotes; quotes within a word stay.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.map(|word| match word {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
        _ => word,
    })
}

/// A switch.
pub(super) fn switch(value: &[u8]) -> Option<bool> {
    match value.to_ascii_lowercase().as_slice() {
        b"1" | b"yes" | b"y" | b"true" | b"t" | b"on" => Some(true),
        b"0" | b"no" | b"n" | b"false" | b"f" | b"off" => Some(false),
        _ => None,
    }
}

/// A file mode, in octal.
pub(super) fn mode(value: &[u8]) -> Option<u32> {
    let is_octal = value.iter().all(|byte| (b'0'..=b'7').contains(byte)) && !value.is_empty();
    let mode = u32::from_str_radix(str::from_utf8(value).ok().filter(|_| is_octal)?, 8).ok()?;
    (mode <= 0o7777).then_some(mode)
}

/// An absolute path without empty and `.` components, and with `/run` for `/var/run`, as systemd
/// makes it of what a unit says. `None` for one that is relative or climbs by `..`.
pub(super) fn normal_path(path: &[u8]) -> Option<Vec<u8>> {
    let rest = path.strip_prefix(b"/")?;
    let mut plain = Vec::with_capacity(path.len());
    for name in rest.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
        if name == b".." {
            return None;
        }
        plain.push(b'/');
        plain.extend_from_slice(name);
    }
    match plain.strip_prefix(b"/var/run") {
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => Some([b"/run", rest].concat()),
        _ if plain.is_empty() => Some(b"/".to_vec()),
        _ => Some(plain),
    }
}

/// Whether a path is `dir` or below it; both normal.
pub(super) fn is_in(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_on_behind_a_backslash_and_comments_are_none() {
        let text =
            b"ignored\n[Socket]\n# no=1\n ; no=2\n ListenStream = /a\\\n# between\n b \nX=\\\\\n\
            Y\n[Broken\nA=1\nB=\\";
        let found = assignments(text);
        let pairs: Vec<_> = found
            .iter()
            .map(|one| (one.section.as_slice(), one.key.as_slice(), one.value.as_slice()))
            .collect();
        let expected: [(&[u8], &[u8], &[u8]); 4] = [
            (b"Socket", b"ListenStream", b"/a  b"),
            (b"Socket", b"X", b"\\\\"),
            (b"", b"A", b"1"),
            (b"", b"B", b""),
        ];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn specifiers_of_a_template_are_unknown() {
        let plain = |value: &str, unit: &str| {
            let plain = expand(value.as_bytes(), unit.as_bytes())?;
            Some(String::from_utf8(plain).expect("a fake text"))
        };
        assert_eq!(plain("%t/%p/%i%%", "a@b.socket").as_deref(), Some("/run/a/b%"));
        assert_eq!(plain("%n %N", "a.socket").as_deref(), Some("a.socket a"));
        assert_eq!(plain("%i", "a.socket").as_deref(), Some(""));
        for (value, unit) in
            [("%i", "a@.socket"), ("%n", "a@.socket"), ("%z", "a.socket"), ("%", "a.socket")]
        {
            assert_eq!(plain(value, unit), None, "{value} {unit}");
        }
    }

    #[test]
    fn paths_are_made_normal_or_refused() {
        let normal = |path: &str| {
            normal_path(path.as_bytes()).map(|path| String::from_utf8(path).expect("a fake text"))
        };
        for (path, expected) in [
            ("/var/run/a//./b/", Some("/run/a/b")),
            ("/var/runner", Some("/var/runner")),
            ("/var/run", Some("/run")),
            ("//", Some("/")),
            ("a", None),
            ("/a/../b", None),
            ("", None),
        ] {
            assert_eq!(normal(path).as_deref(), expected, "{path}");
        }
        assert!(is_in(b"/run/a", b"/run/a") && is_in(b"/run/a/b", b"/run/a"));
        assert!(!is_in(b"/run/ab", b"/run/a") && !is_in(b"/run", b"/run/a"));
    }

    #[test]
    fn a_mode_and_a_switch_are_understood_or_unknown() {
        assert_eq!(
            (mode(b"0660"), mode(b"7777"), mode(b"10000")),
            (Some(0o660), Some(0o7777), None)
        );
        assert_eq!((mode(b""), mode(b"+7"), mode(b"8")), (None, None, None));
        assert_eq!((switch(b"Yes"), switch(b"off"), switch(b"")), (Some(true), Some(false), None));
        assert_eq!(
            list(b" a \"b\" 'c' d\" \" ").collect::<Vec<_>>(),
            [b"a".as_slice(), b"b", b"c", b"d\"", b"\""]
        );
    }
}
