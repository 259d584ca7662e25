//! Where incidents happen: a work directory of one's own, and the record that they fill.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::record::{Abandoned, Accepts, Failure, Listen, Netstat, Seen, TcpDrops};
use super::socket::{Address, Listener};

/// The place of a run and what was seen there so far.
pub struct Stage {
    dir: TempDir,
    port: Option<u16>,
    /// What was seen so far.
    pub seen: Seen,
}

impl Stage {
    /// A fresh directory under `/tmp` (or `TMPDIR`) that everybody may search; `port` is the one that
    /// `tcp_refused_sync` must use.
    ///
    /// # Errors
    /// When `/tmp` or `/proc` cannot be used.
    pub fn new(port: Option<u16>) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("scenario-").tempdir()?;
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
        let mut seen = Seen { somaxconn: somaxconn()?, ..Seen::default() };
        (seen.pid, seen.uid, seen.comm) = whoami()?;
        Ok(Self { dir, port, seen })
    }

    /// The work directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the work directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The port that was asked for, 0 if none.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(0)
    }

    /// Notes failed connects.
    pub fn failed(&mut self, failure: Failure) {
        self.seen.failures.push(failure);
    }

    /// Notes connects that a process of this user took back.
    pub fn abandoned(&mut self, at: &Address, pid: u32, count: u64) {
        let (family, uid) = (at.family().to_owned(), self.seen.uid);
        self.seen.abandoned.push(Abandoned { pid, uid, family, target: at.text(), count });
    }

    /// Notes accepted connections.
    pub fn accepted(&mut self, accepts: Accepts) {
        self.seen.accepts.push(accepts);
    }

    /// Notes a listener of this process and its backlog.
    pub fn listens(&mut self, name: &str, listener: &Listener) {
        let requested = listener.backlog;
        self.seen.listens.push(Listen {
            name: name.to_owned(),
            pid: self.seen.pid,
            family: listener.family.to_owned(),
            local: listener.address.clone(),
            inode: listener.inode,
            requested,
            effective: requested.min(self.seen.somaxconn),
        });
    }

    /// Notes what the kernel counted of connections that a TCP listener of this process threw away.
    pub fn dropped(
        &mut self,
        name: &str,
        listener: &Listener,
        netstat: Netstat,
        at_least_ack: u64,
    ) {
        self.seen.tcp_drops.push(TcpDrops {
            name: name.to_owned(),
            pid: self.seen.pid,
            comm: self.seen.comm.clone(),
            listener: listener.address.clone(),
            inode: listener.inode,
            netstat,
            at_least_ack,
        });
    }

    /// The record; the directory is removed.
    pub fn into_seen(self) -> Seen {
        self.seen
    }
}

/// Pid, uid and comm of this process.
///
/// # Errors
/// When `/proc` is not there.
pub fn whoami() -> Result<(u32, u32, String)> {
    let comm = std::fs::read("/proc/self/comm").context("/proc/self/comm")?;
    let comm = comm.strip_suffix(b"\n").unwrap_or(&comm);
    let comm = String::from_utf8_lossy(comm).into_owned();
    Ok((std::process::id(), nix::unistd::geteuid().as_raw(), comm))
}

fn somaxconn() -> Result<u32> {
    let path = "/proc/sys/net/core/somaxconn";
    let text = std::fs::read_to_string(path).context(path)?;
    text.trim().parse().context(path)
}
