//! What the user asked for, as the probe layer takes it.

use std::path::PathBuf;

use socktrace_common::{Signal, Tier};

use crate::transport::Transport;

/// The tier asked for, per signal; `None` is the best that attaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierRequest([Option<Tier>; Signal::COUNT]);

impl TierRequest {
    /// The same tier for every signal.
    pub fn all(tier: Option<Tier>) -> Self {
        Self([tier; Signal::COUNT])
    }

    /// Asks for `tier` for one signal.
    pub fn set(&mut self, signal: Signal, tier: Option<Tier>) {
        self.0[signal as usize] = tier;
    }

    /// What is asked for `signal`.
    pub fn of(&self, signal: Signal) -> Option<Tier> {
        self.0[signal as usize]
    }
}

/// What to look at; an empty list or `None` means everything.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Process ids.
    pub pids: Vec<u32>,
    /// `comm` of the process.
    pub comm: Option<Vec<u8>>,
    /// Real uid.
    pub uid: Option<u32>,
    /// Port of the listener, or the port a client connects to.
    pub ports: Vec<u16>,
    /// Errnos, positive.
    pub errnos: Vec<u32>,
    /// Address families, as `AF_*`.
    pub families: Vec<u16>,
    /// Whether only a command and its descendants are wanted.
    pub follow: bool,
}

impl Filters {
    /// Whether any filter selects processes.
    pub fn select_processes(&self) -> bool {
        !self.pids.is_empty() || self.comm.is_some() || self.uid.is_some() || self.follow
    }
}

/// How to attach.
#[derive(Clone, Debug)]
pub struct Options {
    /// Tier per signal.
    pub tiers: TierRequest,
    /// How events travel.
    pub transport: Transport,
    /// BTF to use instead of the running kernel's own.
    pub btf: Option<PathBuf>,
    /// Size of the event buffer (ring), or of each CPU's (perf).
    pub buffer_bytes: u32,
    /// Accepts that waited less send no event; 0 sends all.
    pub slow_ns: u64,
    /// What to look at.
    pub filters: Filters,
    /// Whether the hooks are tried once they are attached.
    pub self_test: bool,
    /// Whether the kernel times each run of a program, of socktrace's and of all others.
    pub timed: bool,
}

impl Options {
    /// To learn how long connections wait, and nothing else: no event is wanted.
    pub fn for_ages() -> Self {
        Self {
            tiers: TierRequest::default(),
            transport: Transport::Ring,
            btf: None,
            buffer_bytes: 64 << 10,
            slow_ns: u64::MAX,
            filters: Filters::default(),
            self_test: true,
            timed: false,
        }
    }
}
