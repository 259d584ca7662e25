//! The axis that every table is keyed by: what socktrace watches, and through which hooks.

/// One kind of incident that socktrace counts in the kernel and describes in events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "loader", derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema))]
#[cfg_attr(feature = "loader", serde(rename_all = "snake_case"))]
#[repr(u32)]
pub enum Signal {
    /// A connection left the accept queue.
    Accept = 0,
    /// `accept()` failed.
    AcceptError = 1,
    /// One attempt to connect failed.
    ConnectFailure = 2,
    /// A listener threw a connection away.
    BacklogDrop = 3,
    /// A socket began to listen.
    Listen = 4,
    /// A Unix connect slept until the listener's backlog had room.
    ConnectBlocked = 5,
}

impl Signal {
    /// How many signals there are.
    pub const COUNT: usize = 6;
    /// Every signal, in wire order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Accept,
        Self::AcceptError,
        Self::ConnectFailure,
        Self::BacklogDrop,
        Self::Listen,
        Self::ConnectBlocked,
    ];

    /// The stem that this signal has in every layer.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::AcceptError => "accept_error",
            Self::ConnectFailure => "connect_failure",
            Self::BacklogDrop => "backlog_drop",
            Self::Listen => "listen",
            Self::ConnectBlocked => "connect_blocked",
        }
    }

    /// The signal with this wire number, if there is one.
    pub const fn from_wire(number: u32) -> Option<Self> {
        if (number as usize) < Self::COUNT { Some(Self::ALL[number as usize]) } else { None }
    }
}

/// The kind of hooks a signal is observed through, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "loader", derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema))]
#[cfg_attr(feature = "loader", serde(rename_all = "snake_case"))]
#[repr(u32)]
pub enum Tier {
    /// BPF trampolines on function entry and exit.
    Fentry = 1,
    /// Kprobes (and kretprobes on functions that do not block).
    Kprobe = 2,
    /// Tracepoints and raw tracepoints only.
    Tracepoint = 3,
}

impl Tier {
    /// Every tier, best first.
    pub const ALL: [Self; 3] = [Self::Fentry, Self::Kprobe, Self::Tracepoint];

    /// The name that flags, reports and tables use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
        }
    }
}
