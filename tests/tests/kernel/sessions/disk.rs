//! A small disk of a test's own, which nobody else sees and which ends with the test.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

const NONE: Option<&str> = None;

/// It.
pub(super) struct Disk(tempfile::TempDir);

/// Runs `test` on a thread with a mount namespace of its own, which what it starts inherits.
pub(super) fn on_a_disk(
    options: &str,
    test: impl FnOnce(&Disk) -> Result<()> + Send,
) -> Result<()> {
    let mounted = || -> Result<Disk> {
        let disk = Disk(tempfile::tempdir().context("a mount point")?);
        unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace")?;
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).context("/")?;
        let none = MsFlags::empty();
        mount(Some("tmpfs"), disk.dir(), Some("tmpfs"), none, Some(options)).context("tmpfs")?;
        Ok(disk)
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| mounted().and_then(|disk| test(&disk)));
        thread.join().map_err(|_| anyhow!("the test panicked"))?
    })
}

impl Disk {
    /// Where it is mounted.
    pub(super) fn dir(&self) -> &Path {
        self.0.path()
    }

    /// Leaves no block free.
    pub(super) fn fill(&self) -> Result<()> {
        let path = self.dir().join("ballast");
        let mut file: File = OpenOptions::new().create(true).append(true).open(path)?;
        while file.write_all(&[0x55; 4096]).is_ok() {}
        Ok(())
    }

    /// Nothing can be written any more.
    pub(super) fn make_read_only(&self) -> Result<()> {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(NONE, self.dir(), NONE, flags, NONE).context("remounting")
    }
}
