//! What systemd would make: sockets, runtime directories, and whether their units run.
//!
//! Owns the reading of unit files and `tmpfiles.d` as systemd itself would read them (`files`,
//! `syntax`), sockets (`socket`), services (`service`), directories (`tmpfiles`), and whether a
//! unit's cgroup has processes (`state`). systemd is not asked: it may have read an older version
//! of a file, and units that it was given over D-Bus with properties alone are in no file but below
//! `/run/systemd/transient`.
//!
//! Units are those of the system's manager; those of users are not read. Of a template (`NAME@`)
//! what depends on the instance is unknown and left out. Syntax: systemd.syntax(7).

mod files;
mod service;
mod socket;
mod state;
mod syntax;
mod tmpfiles;

pub use service::{ServiceUnit, ServiceUnits};
pub use socket::{BindIpv6Only, Listen, ListenAddress, ListenKind, SocketUnit, SocketUnits};
pub use state::UnitState;
pub use tmpfiles::{TmpfilesDirectories, TmpfilesDirectory};

#[cfg(test)]
mod fake {
    //! A fake tree of unit files.

    use std::fs;

    use super::super::Host;

    pub(super) fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
            fs::write(path, text).expect("a fake file");
        }
        let host = Host::at(root.path());
        (root, host)
    }
}
