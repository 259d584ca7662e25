//! Why a host file could not be read, with the file as the subject.
//!
//! Owns the error of every file reader in `host`; `sock_diag` has its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A host file that could not be read or understood.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel refused to hand the file over, or it is not there.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file, directory or link.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The file is there and does not hold what its man page says.
    #[error("{}:{line}: expected {expected}", path.display())]
    Malformed {
        /// The file or link.
        path: PathBuf,
        /// The line, from 1; the last one read when something is missing altogether.
        line: usize,
        /// What should have been there.
        expected: &'static str,
    },
}

impl HostError {
    /// Whether the process or cgroup went away: ENOENT when its directory is gone, ESRCH when it
    /// ended between open and read. Never true for a permission that is missing.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Read { source, .. } => {
                matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
            }
            Self::Malformed { .. } => false,
        }
    }

    /// Whether a permission is missing.
    pub fn is_forbidden(&self) -> bool {
        let Self::Read { source, .. } = self else { return false };
        source.kind() == io::ErrorKind::PermissionDenied
    }

    /// For `map_err`: the same I/O error, with its path.
    pub(super) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Read { path: path.to_owned(), source }
    }
}

/// What a parser, which knows no path, says of bytes it does not understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed {
    /// The line, from 1.
    pub(super) line: usize,
    /// What should have been there.
    pub(super) expected: &'static str,
}

/// Reads a whole file and hands it to a parser.
pub(super) fn read_with<T>(
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) -> Result<T, HostError> {
    let bytes = fs::read(path).map_err(HostError::read(path))?;
    parse(&bytes).map_err(|Malformed { line, expected }| HostError::Malformed {
        path: path.to_owned(),
        line,
        expected,
    })
}
