//! Reading files whose length somebody else decides.
//!
//! Owns the bound on bytes and the refusal of what is no regular file: a FIFO or a device in the
//! place of a file would block the reader or never end. Files of `/proc`, `/sys` and sysctl are
//! regular ones.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::HostError;

/// Longest line that is handed over in one piece. A row of `/proc/net/tcp6` has 180 bytes, one of
/// `/proc/net/unix` 170.
const MOST_LINE: u64 = 4096;

/// The beginning of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bounded {
    /// At most as many bytes as were asked for.
    pub(super) bytes: Vec<u8>,
    /// Whether the file has more.
    pub(super) cut: bool,
}

/// Reads at most `most` bytes of a regular file.
pub(super) fn read_bounded(path: &Path, most: u64) -> Result<Bounded, HostError> {
    let mut bytes = Vec::new();
    let file = open_regular(path).map_err(HostError::read(path))?;
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(HostError::read(path))?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let cut = bytes.len() > most;
    bytes.truncate(most);
    Ok(Bounded { bytes, cut })
}

/// Hands over line by line, without newlines, up to `most` bytes of a regular file; whether that
/// was all of it. A line of more than [`MOST_LINE`] bytes comes in pieces.
pub(super) fn read_lines(
    path: &Path,
    most: u64,
    mut each: impl FnMut(&[u8]),
) -> Result<bool, HostError> {
    let file = open_regular(path).map_err(HostError::read(path))?;
    let mut reader = BufReader::new(file);
    let (mut line, mut left) = (Vec::new(), most);
    while left > 0 {
        line.clear();
        let piece = left.min(MOST_LINE);
        let read = reader.by_ref().take(piece).read_until(b'\n', &mut line);
        match read.map_err(HostError::read(path))? {
            0 => return Ok(true),
            read => left = left.saturating_sub(read as u64),
        }
        each(line.strip_suffix(b"\n").unwrap_or(&line));
    }
    Ok(reader.fill_buf().map_err(HostError::read(path))?.is_empty())
}

/// `O_NONBLOCK`: to open a FIFO for reading would wait for a writer.
fn open_regular(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_long_file_is_cut_and_says_so() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("file");
        fs::write(&path, b"12345").expect("a file");
        let whole = Bounded { bytes: b"12345".to_vec(), cut: false };
        assert_eq!(read_bounded(&path, 5).expect("bytes"), whole);
        let cut = Bounded { bytes: b"1234".to_vec(), cut: true };
        assert_eq!(read_bounded(&path, 4).expect("bytes"), cut);
    }

    #[test]
    fn lines_come_one_by_one_until_the_bound() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("file");
        fs::write(&path, [b"a\n\nb\n".as_slice(), &[b'x'; 5000]].concat()).expect("a file");
        let lines = |most| {
            let mut found = Vec::new();
            let whole = read_lines(&path, most, |line| found.push(line.len())).expect("lines");
            (found, whole)
        };
        assert_eq!(lines(1 << 20), (vec![1, 0, 1, 4096, 904], true));
        assert_eq!(lines(5005), (vec![1, 0, 1, 4096, 904], true));
        assert_eq!(lines(4), (vec![1, 0, 1], false));
    }

    #[test]
    fn what_would_block_or_never_end_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        for path in [fifo.as_path(), Path::new("/dev/zero"), dir.path()] {
            assert!(read_bounded(path, 10).is_err(), "{}", path.display());
            assert!(read_lines(path, 10, |_| {}).is_err(), "{}", path.display());
        }
    }
}
