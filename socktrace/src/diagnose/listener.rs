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
    /// Who called `listen()`; `None` where that was not seen, and connections may have been accepted
    /// before.
    pub listened_by: Option<Owner>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Certainty, StallChange};

    fn process(pid: u32) -> Owner {
        Owner { pid, comm: b"app".to_vec(), cgroup: None, uid: None }
    }

    fn stalled(by: Option<u32>, holds: &[u32], accepted: u64) -> ListenerCase {
        let stall = Stall {
            time_ns: 9,
            listener: 7,
            local: Endpoint::default(),
            netns: None,
            selected: true,
            change: StallChange::Still,
            since_ns: 1,
            is_lower_bound: false,
            pending: 2,
            pending_peak: 2,
            blocked: 0,
            accepted_ns: None,
            owners: holds.iter().map(|pid| process(*pid)).collect(),
            hold: None,
            acceptor: None,
            clients: Vec::new(),
        };
        ListenerCase {
            listened_by: by.map(process),
            accepted,
            stalls: vec![stall],
            ..ListenerCase::default()
        }
    }

    /// Whether it is found that nobody has accepted, and how sure that is.
    fn never(case: &ListenerCase) -> Option<Certainty> {
        let found = diagnose_listener(case);
        found.iter().find(|it| it.rule == "owner-never-accepted").map(|it| it.certainty)
    }

    #[test]
    fn heirs_of_a_listener_that_never_accepted_are_found_where_listen_was_seen() {
        assert_eq!(never(&stalled(Some(5), &[6], 0)), Some(Certainty::Measured));
        assert_eq!(never(&stalled(None, &[6], 0)), None, "somebody may have accepted before");
        assert_eq!(never(&stalled(Some(5), &[5, 6], 0)), None, "who made it has it still");
        assert_eq!(never(&stalled(Some(5), &[6], 1)), None);
        assert_eq!(never(&stalled(Some(5), &[], 0)), None, "nobody is known to hold it");
    }
}
