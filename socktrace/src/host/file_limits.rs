//! How many files the whole host may have open, and how many it has.
//!
//! Owns `/proc/sys/fs/{file-nr,file-max,nr_open}`. Does not own a process's limit and its open
//! descriptors (`process`). Past `file-max` every call that makes a descriptor fails with ENFILE,
//! accept(2) among them, except for `CAP_SYS_ADMIN` (`alloc_empty_file()`).

use std::path::Path;

use super::bounded::read_bounded;
use super::{Host, decimal, words};

/// Open files of the host. `None` where it could not be read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FileLimits {
    /// Open file descriptions now, of all processes together (`nr_files`). The kernel's counter is
    /// per CPU and may be off by a batch for each of them.
    pub open: Option<u64>,
    /// The limit on them: `fs.file-max`.
    pub max: Option<u64>,
    /// How far `RLIMIT_NOFILE` of a process can be raised: `fs.nr_open`.
    pub nr_open: Option<u64>,
}

impl Host {
    /// Reads how many files are open, and the limits.
    pub fn read_file_limits(&self) -> FileLimits {
        let number =
            |name: &str| read_first_number(&self.below(Path::new("proc/sys/fs").join(name)));
        FileLimits { open: number("file-nr"), max: number("file-max"), nr_open: number("nr_open") }
    }
}

/// `file-nr` has three: open, a zero, and `file-max`.
fn read_first_number(path: &Path) -> Option<u64> {
    let read = read_bounded(path, 256).ok()?;
    words(&read.bytes).next().and_then(decimal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_missing_or_no_number_is_unknown() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = root.path().join("proc/sys/fs");
        fs::create_dir_all(&dir).expect("a fake tree");
        fs::write(dir.join("file-nr"), "1184\t0\t9223372036854775807\n").expect("a file");
        fs::write(dir.join("file-max"), "-1\n").expect("a file");
        let limits = Host::at(root.path()).read_file_limits();
        assert_eq!(limits, FileLimits { open: Some(1184), max: None, nr_open: None });
    }

    #[test]
    fn this_host_has_fewer_open_than_it_may() {
        let limits = Host::default().read_file_limits();
        assert!(limits.open.is_some() && limits.open < limits.max, "{limits:?}");
        assert!(limits.nr_open.is_some_and(|most| most > 0));
    }
}
