//! The checkup of a process: from facts about it to the steps of `socktrace diagnose PID`. Pure.
//!
//! Owns which facts each step takes, what it says, and what it finds. Reads nothing and knows no clock:
//! `evidence::process` gathers, and tells how far apart it looked twice.

mod descriptors;
mod identity;
mod listeners;
mod memory;
mod next;
mod other;
mod pipes;
mod sockets;
mod table;
mod tcp;
mod udp;
mod unix;
mod words;

pub use descriptors::DescriptorFacts;
pub use identity::{Held, Identity};
pub use memory::MemoryFacts;
pub use pipes::{Pipe, PipeFacts};
pub use sockets::{
    Listener, ListenerAddress, SocketFacts, TcpConnection, Twice, UnixConnection, Unlisted,
};
pub use table::TABLE as RULES;

use super::Check;

/// A process, as reports name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// Its `comm`.
    pub comm: Vec<u8>,
}

/// Everything known of the process that is looked at.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Who it is and what it does.
    pub identity: Identity,
    /// Its descriptors.
    pub descriptors: DescriptorFacts,
    /// Its sockets.
    pub sockets: SocketFacts,
    /// Its pipes.
    pub pipes: PipeFacts,
    /// Memory and CPU.
    pub memory: MemoryFacts,
}

/// Every step, in the order in which an operator would take it.
pub fn checkup(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![
        identity::check(facts),
        descriptors::check(facts),
        listeners::check(facts),
        unix::check(facts),
        tcp::check(facts),
        udp::check(facts),
        pipes::check(facts),
        other::check(facts),
        memory::check(facts),
    ];
    for check in &mut checks {
        check.findings.sort_by_key(|finding| finding.severity);
    }
    if !checks.iter().any(Check::is_bad) {
        checks.push(next::check(facts));
    }
    checks
}
