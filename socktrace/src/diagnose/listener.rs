//! The facts of one listener over a session, and how they are judged.

use super::{
    rule::{Outcome, finding},
    rules,
};
use crate::event::{Endpoint, Finding, Owner, Stall};

/// What a listener went through.
#[derive(Clone, Debug, Default)]
pub struct ListenerCase {
    /// Its address.
    pub local: Endpoint,
    /// Who holds it.
    pub owners: Vec<Owner>,
    /// The backlog that was asked for.
    pub requested: Option<i32>,
    /// The backlog that applies.
    pub effective: Option<u32>,
    /// `net.core.somaxconn` of its network namespace.
    pub somaxconn: Option<u32>,
    /// The longest accept queue that was seen.
    pub peak: Option<u32>,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Half of them waited no longer, nanoseconds; `None` where no wait is known.
    pub median_ns: Option<u64>,
    /// None waited longer, nanoseconds.
    pub longest_ns: Option<u64>,
    /// What it threw away.
    pub thrown: Thrown,
    /// When it did not accept.
    pub stalls: Vec<Stall>,
}

/// Connections that a listener threw away, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thrown {
    /// The accept queue was full (TCP).
    pub accept_queue_full: u64,
    /// The SYN queue was full.
    pub syn_queue_full: u64,
    /// A syncookie was sent instead of keeping the request: no loss by itself.
    pub syncookies: u64,
    /// The backlog was full for a client that does not wait (Unix).
    pub unix_backlog_full: u64,
    /// It was closed with them in its queue.
    pub closed: u64,
    /// Of some other reason: memory, a security module, the route back.
    pub other: u64,
    /// The tier cannot tell.
    pub unknown: u64,
}

/// Every finding about a listener, the most harmful first.
pub fn diagnose_listener(case: &ListenerCase) -> Vec<Finding> {
    let found = rules::LISTENER_TABLE.iter().flat_map(|rule| match (rule.decide)(case) {
        Outcome::Found(found) => found.into_iter().map(|it| finding(rule.name, it)).collect(),
        Outcome::Clear | Outcome::Unknown(_) => Vec::new(),
    });
    let mut found: Vec<Finding> = found.collect();
    found.sort_by_key(|finding| finding.severity);
    found
}
