//! What the eBPF programs and the loader agree on, byte for byte.
//!
//! Owns the signals, the wire layout of events, the keys and values of the kernel maps, the
//! parameters that the loader writes before the programs load, and the histogram's buckets.
//! Owns no behaviour beyond arithmetic: nothing here reads a kernel, a file or a clock.
//!
//! Wire types are plain integers with explicit padding and no implicit holes; every size is
//! asserted here, so a change that breaks the loader or a saved session fails to compile.
#![no_std]
#![expect(
    clippy::inline_always,
    reason = "a BPF program is one function: an outlined body would cost a call and a stack frame"
)]

mod event;
pub mod histogram;
mod params;
mod pending;
#[cfg(feature = "loader")]
mod pod;
mod signal;
mod stage;
mod tally;
mod who;

pub use event::{
    AcceptErrorEvent, AcceptEvent, BacklogDropEvent, ConnectBlockedEvent, ConnectFailureEvent,
    ConnectReturnedEvent, EventHeader, ListenEvent, WAIT_UNKNOWN,
};
pub use params::{ABSENT, Offsets, Params, family_bit, filter, loads, preempted};
pub use pending::{AcceptStart, BlockedCall, DROP_ENTRY_WORDS, UnixMeeting};
pub use signal::{Signal, Tier};
pub use stage::Stage;
pub use tally::{
    AcceptErrorKey, AcceptKey, BACKLOG_UNKNOWN, ConnectBlockedKey, ConnectFailureKey, DropKey,
    DropReason, DropStage, ListenerInfo, TaskInfo, WaitTally,
};
pub use who::{Actor, Credentials, Endpoint, TaskKey};

/// Declares a wire type: `#[repr(C)]`, copyable, with its size asserted.
macro_rules! wire {
    ($size:literal, $(#[$meta:meta])* pub struct $name:ident { $($body:tt)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct $name { $($body)* }
        const _: () = assert!(size_of::<$name>() == $size, "the wire size changed");
    };
}
pub(crate) use wire;
