//! The lines of `/proc/PID/mountinfo`.
//!
//! Owns their fields and their escaping. Does not choose among mounts: `cgroup` and `netns` do.
//! Fields: proc(5); `show_mountinfo()`.

use std::path::Path;

use super::bounded::read_bounded;
use super::{HostError, numbered_lines, words};

/// What is read of it: 100,000 mounts (`fs.mount-max`) with paths of a page each would be gigabytes.
const MOST: u64 = 16 << 20;

/// The lines of the file, as many as [`MOST`] has room for.
pub(super) fn read_mountinfo(path: &Path) -> Result<Vec<u8>, HostError> {
    let mut read = read_bounded(path, MOST)?;
    if read.cut {
        let lines = read.bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        read.bytes.truncate(lines);
    }
    Ok(read.bytes)
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// What of the filesystem is at the top: a directory, or a namespace's name on nsfs.
    pub(super) root: Vec<u8>,
    /// Where it is, as seen from the root of the process.
    pub(super) point: Vec<u8>,
}

/// The mounts of one type of filesystem, in the order of the file. Lines that lack a field are
/// none.
pub(super) fn parse_mounts<'a>(
    bytes: &'a [u8],
    kind: &'static [u8],
) -> impl Iterator<Item = Mount> + 'a {
    numbered_lines(bytes).filter_map(move |(_, text)| {
        let mut fields = words(text).skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (fields.skip_while(|word| *word != b"-").nth(1) == Some(kind))
            .then(|| Mount { root: unescape_octal(root), point: unescape_octal(point) })
    })
}

/// `mangle_path()` writes space, tab, newline, backslash and `#` as `\ooo`.
pub(super) fn unescape_octal(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match (byte, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => plain.push(*byte),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_file_that_is_too_long_whole_lines_are_read() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let line = [vec![b'x'; 4095], vec![b'\n']].concat();
        let most = usize::try_from(MOST).expect("a number");
        std::fs::write(file.path(), line.repeat(most / 4096 - 1)).expect("written");
        assert_eq!(read_mountinfo(file.path()).expect("read").len(), most - 4096);
        std::fs::write(file.path(), [b"y\n".to_vec(), line.repeat(most / 4096)].concat())
            .expect("written");
        let read = read_mountinfo(file.path()).expect("read");
        assert_eq!((read.len(), read.last()), (most - 4096 + 2, Some(&b'\n')));
    }

    #[test]
    fn mounts_of_a_type_are_found_behind_any_number_of_optional_fields() {
        let info = b"24 1 0:5 / /proc rw shared:1 - proc nsfs rw\n\
            25 1 0:4 net:[7] /run/n\\040s\\134 rw,nosuid shared:4 master:1 - nsfs nsfs rw\n\
            26 1 0:4 net:[8] /cut rw\n27 1 0:4\n\n\
            28 1 0:4 mnt:[9] /m rw - nsfs nsfs rw\n";
        let found: Vec<Mount> = parse_mounts(info, b"nsfs").collect();
        let mount =
            |root: &[u8], point: &[u8]| Mount { root: root.to_vec(), point: point.to_vec() };
        assert_eq!(found, [mount(b"net:[7]", b"/run/n s\\"), mount(b"mnt:[9]", b"/m")]);
    }
}
