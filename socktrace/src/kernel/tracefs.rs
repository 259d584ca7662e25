//! Where tracefs is: perf tracepoints are opened by an id that only tracefs tells.
//!
//! Where it is not mounted, socktrace mounts it for itself alone.

use std::{io, path::Path};

use super::{Refused, private_mount};

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
    private_mount::with("tracefs", PLACES[0], work)
}
