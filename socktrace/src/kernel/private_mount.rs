//! A filesystem of the kernel's that is not mounted, for one short-lived thread in a mount namespace of its own:
//! nothing is left behind and nothing else on the host sees it.

use std::{io, thread};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// Runs `work` on a thread that sees the filesystem `kind` at `place`.
pub(super) fn with<T: Send>(
    kind: &str,
    place: &str,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            mount_here(kind, place)?;
            Ok(work())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// For the calling thread only: what is mounted here goes away with it.
fn mount_here(kind: &str, place: &str) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(kind), place, Some(kind), flags, none)?;
    Ok(())
}
