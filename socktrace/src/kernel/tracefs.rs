//! Where tracefs is: perf tracepoints are opened by an id that only tracefs tells.
//!
//! Where it is not mounted, socktrace mounts it for itself alone, in a mount namespace of one
//! short-lived thread: nothing is left behind and nothing else on the host sees it.

use std::{io, path::Path, thread};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::Refused;

/// Where the loader (and the aya crate) looks.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// How tracefs can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracefs {
    /// It is mounted.
    Mounted,
    /// It is not, but can be, privately.
    Private,
}

impl Tracefs {
    /// Looks for it, and tries the private mount where it is missing.
    pub fn find() -> Result<Self, Refused> {
        if mounted() {
            return Ok(Self::Mounted);
        }
        on_private_thread(|| ()).map(|()| Self::Private).map_err(|error| {
            Refused(format!(
                "tracefs is not mounted, and mounting it privately failed ({error}); run: mount -t \
                 tracefs tracefs /sys/kernel/tracing"
            ))
        })
    }

    /// Runs `work` where tracefs is there.
    pub fn with<T: Send>(self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        match self {
            Self::Mounted => Ok(work()),
            Self::Private => on_private_thread(work),
        }
    }
}

fn mounted() -> bool {
    PLACES.iter().any(|place| Path::new(place).join("events").is_dir())
}

fn on_private_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            mount_privately()?;
            Ok(work())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// For the calling thread only: nothing mounted here is seen elsewhere, and all of it goes away
/// with the thread.
fn mount_privately() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tracefs"), PLACES[0], Some("tracefs"), flags, none)?;
    Ok(())
}
