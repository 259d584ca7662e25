//! The facts of one listener over a session, and how they are judged.

use super::{
    rule::{Outcome, finding},
    rules,
};
use crate::event::{Endpoint, Finding, MemoryCounters, Owner, Stall, phrase};

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
    /// Connections that were accepted; `None` where somebody may have accepted whom nobody looked at.
    pub accepted: Option<u64>,
    /// Whether accepts are seen whatever they are made by: system calls of 64-bit programs, those of 32-bit ones, io_uring.
    pub every_accept_seen: bool,
    /// Half of them waited no longer, nanoseconds; `None` where no wait is known.
    pub median_ns: Option<u64>,
    /// None waited longer, nanoseconds.
    pub longest_ns: Option<u64>,
    /// What it threw away.
    pub thrown: Thrown,
    /// When it did not accept.
    pub stalls: Vec<Stall>,
    /// What tells whether the host was short of memory meanwhile.
    pub memory: MemoryCounters,
    /// `net.ipv4.tcp_syncookies` of its network namespace.
    pub syncookies: Option<u64>,
    /// Unix clients that slept in `connect()` because its backlog was full.
    pub slept: Slept,
}

/// Clients that slept until there was room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slept {
    /// How many.
    pub count: u64,
    /// The longest of them, nanoseconds.
    pub longest_ns: u64,
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
    /// Of those, at the last packet of the handshake.
    pub other_at_ack: u64,
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

/// The findings of a failure, with how long the queue that it met has stood. Only a full queue is explained by
/// that: to what else was found it adds nothing.
pub fn with_queue(findings: &[Finding], stall: &Stall) -> Vec<Finding> {
    let told = |finding: &Finding| {
        let mut finding = finding.clone();
        if [rules::BACKLOG_FULL, rules::ACCEPT_QUEUE_FULL].contains(&&*finding.rule) {
            finding.fact = phrase![finding.fact, "; ", rules::stood(stall)];
        }
        finding
    };
    findings.iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Certainty, Hold, Part, Phrase, Severity, StallChange};

    fn process(pid: u32) -> Owner {
        Owner { pid, comm: b"app".to_vec(), cgroup: None, uid: None }
    }

    fn stalled(by: Option<u32>, holds: &[u32], accepted: u64) -> ListenerCase {
        let stall = Stall {
            time_ns: 9,
            change: StallChange::Still,
            since_ns: 1,
            pending: 2,
            pending_peak: 2,
            owners: holds.iter().map(|pid| process(*pid)).collect(),
            ..Stall::of_listener(7)
        };
        ListenerCase {
            listened_by: by.map(process),
            accepted: Some(accepted),
            every_accept_seen: true,
            stalls: vec![stall],
            ..ListenerCase::default()
        }
    }

    /// Whether it is found that nobody has accepted, and how sure that is.
    fn never(case: &ListenerCase) -> Option<Certainty> {
        let found = diagnose_listener(case);
        found.iter().find(|it| it.rule == "owner-never-accepted").map(|it| it.certainty)
    }

    /// A backlog of 1, with two connections in the queue and three clients that did not wait.
    fn turned_away() -> ListenerCase {
        ListenerCase {
            effective: Some(1),
            thrown: Thrown { unix_backlog_full: 3, ..Thrown::default() },
            ..stalled(Some(5), &[5], 0)
        }
    }

    /// Of words of socktrace's own.
    fn plain(phrase: &Phrase) -> String {
        let text = |part: &Part| match part {
            Part::Text(text) => text.to_string(),
            Part::Name(_) | Part::Word(_) => unreachable!("a name"),
        };
        phrase.0.iter().map(text).collect()
    }

    fn fact(case: &ListenerCase, rule: &str) -> String {
        let found = diagnose_listener(case);
        let found = found.iter().find(|it| it.rule == rule).expect("a finding");
        let more: String = found.evidence[1..].iter().map(plain).collect();
        format!("{} | {more}", plain(&found.fact))
    }

    #[test]
    fn clients_that_are_turned_away_are_told_for_how_long_the_queue_has_stood() {
        let turned = |case: &ListenerCase| fact(case, "unix-clients-turned-away");
        let mut case = turned_away();
        case.stalls[0].time_ns = 2_100_000_001;
        let said = turned(&case);
        let oldest = "; the oldest connection has waited for 2.1 s, and nobody has accepted \
                      since the recording began";
        assert!(said.contains(oldest), "{said}");
        case.stalls[0].is_lower_bound = true;
        case.stalls[0].blocked = 2;
        let said = turned(&case);
        assert!(said.contains("for at least 2.1 s"), "{said}");
        assert!(said.contains("; 2 clients sleep in connect()"), "{said}");
        case.stalls[0].change = StallChange::Closed;
        let said = turned(&case);
        assert!(
            said.contains("waited for at least 2.1 s; 2 clients slept in connect() | "),
            "{said}"
        );
    }

    /// How sure the cause of a full backlog is, and its words.
    fn full(case: &ListenerCase) -> (Certainty, String) {
        let found = diagnose_listener(case);
        let is_it = |it: &&Finding| it.rule == "unix-clients-turned-away";
        let found = found.iter().find(is_it).expect("a finding");
        (found.certainty, plain(&found.fact))
    }

    #[test]
    fn which_of_three_limits_is_to_be_changed_hangs_on_how_fast_it_accepts_and_what_cut_its_backlog()
     {
        let fix = |median_ns, (requested, effective, somaxconn)| {
            let case = ListenerCase {
                accepted: Some(9),
                median_ns,
                requested: Some(requested),
                effective: Some(effective),
                somaxconn: Some(somaxconn),
                stalls: Vec::new(),
                ..turned_away()
            };
            let found = diagnose_listener(&case);
            let is_it = |it: &&Finding| it.rule == "unix-clients-turned-away";
            plain(&found.iter().find(is_it).expect("a finding").fix)
        };
        let (quick, slow) = (Some(1_000), Some(2_000_000_000));
        let (capped, own) = ((4096, 128, 128), (128, 128, 4096));
        assert!(fix(quick, capped).starts_with("raise net.core.somaxconn, which caps the backlog"));
        assert!(
            fix(quick, own).starts_with("raise the backlog that the server passes to listen()")
        );
        for limits in [capped, own] {
            assert!(fix(slow, limits).starts_with("accept faster"), "{}", fix(slow, limits));
        }
        assert_eq!(fix(None, capped), "raise net.core.somaxconn, or accept faster");
        assert_eq!(fix(None, own), "raise the backlog of listen(), or accept faster");
    }

    #[test]
    fn that_nobody_accepted_is_said_only_where_accepts_are_looked_at() {
        let quiet = ListenerCase { stalls: Vec::new(), ..turned_away() };
        let (certainty, words) = full(&quiet);
        assert_eq!(certainty, Certainty::Measured);
        assert!(words.contains("nobody accepted meanwhile"), "{words}");
        let (certainty, words) = full(&ListenerCase { accepted: None, ..quiet });
        assert_ne!(certainty, Certainty::Measured);
        assert!(words.contains("how fast it accepts is not known"), "{words}");
    }

    #[test]
    fn what_calls_that_are_not_seen_may_have_done_is_not_measured() {
        let case = ListenerCase { stalls: Vec::new(), ..turned_away() };
        let (certainty, words) = full(&ListenerCase { every_accept_seen: false, ..case });
        assert_eq!(certainty, Certainty::Inferred);
        assert!(words.contains("nobody accepted meanwhile"), "{words}");
        let inherited = stalled(Some(5), &[6], 0);
        assert_eq!(never(&inherited), Some(Certainty::Measured));
        let unseen = ListenerCase { every_accept_seen: false, ..inherited.clone() };
        assert_eq!(never(&unseen), Some(Certainty::Inferred));
        let mut hidden = inherited;
        hidden.stalls[0].seen_in_part = true;
        assert_eq!(never(&hidden), Some(Certainty::Inferred));
    }

    #[test]
    fn what_held_the_owner_up_is_measured_where_all_owners_are_known_and_it_lasted() {
        let stopped = |in_part| {
            let mut case = stalled(Some(5), &[5], 0);
            let stall = &mut case.stalls[0];
            stall.hold = Some(Hold::Stopped);
            stall.seen_in_part = in_part;
            let found = diagnose_listener(&case);
            found.iter().find(|it| it.rule == "owner-stopped").map(|it| it.certainty)
        };
        assert_eq!(stopped(false), Some(Certainty::Measured));
        assert_eq!(stopped(true), Some(Certainty::Inferred));
    }

    #[test]
    fn a_stall_in_which_the_queue_was_not_full_does_not_make_a_cause_measured() {
        let mut case = ListenerCase { accepted: None, ..turned_away() };
        assert_eq!(full(&case).0, Certainty::Measured);
        case.stalls[0].pending_peak = 1;
        assert_eq!(full(&case).0, Certainty::Inferred);
    }

    #[test]
    fn a_stall_whose_queue_was_not_full_tells_nothing_of_clients_that_were_turned_away() {
        let not_full = ListenerCase { effective: Some(2), ..turned_away() };
        let unknown = ListenerCase { effective: None, ..turned_away() };
        let none = ListenerCase { stalls: Vec::new(), ..turned_away() };
        for case in [not_full, unknown, none] {
            let said = fact(&case, "unix-clients-turned-away");
            assert!(!said.contains("oldest"), "{said}");
        }
        let slept = Slept { count: 2, longest_ns: 300_400_000 };
        let case = ListenerCase { stalls: Vec::new(), slept, ..turned_away() };
        let said = fact(&case, "unix-clients-turned-away");
        assert!(
            said.ends_with(" | 2 clients waited for room in connect(), for up to 300.4 ms"),
            "{said}"
        );
    }

    /// Connections that were thrown away for another reason than room, of them so many at the last packet.
    fn thrown_otherwise(other: u64, other_at_ack: u64) -> ListenerCase {
        let thrown = Thrown { other, other_at_ack, ..Thrown::default() };
        ListenerCase { thrown, ..ListenerCase::default() }
    }

    fn otherwise(case: &ListenerCase) -> (Certainty, String) {
        let rule = "thrown-away-otherwise";
        let found = diagnose_listener(case);
        let one = found.iter().find(|it| it.rule == rule).expect("a finding");
        (one.certainty, fact(case, rule))
    }

    #[test]
    fn want_of_memory_is_named_where_the_host_was_at_its_last_reserves() {
        let memory = MemoryCounters { reserve_drops: Some(7), ..MemoryCounters::default() };
        let case = ListenerCase { memory, ..thrown_otherwise(2, 0) };
        let (certainty, said) = otherwise(&case);
        assert_eq!(certainty, Certainty::Inferred);
        assert!(said.contains("2 connections were thrown away, and not for want of room: the host had no free memory"), "{said}");
        assert!(said.contains("7 packets"), "{said}");
    }

    #[test]
    fn tcp_that_is_short_of_memory_is_told_and_is_no_cause() {
        let memory = MemoryCounters {
            reserve_drops: Some(0),
            pressures: Some(1),
            aborts: Some(3),
            tcp_pages: Some(20),
            tcp_pressure: Some(20),
        };
        let (certainty, said) = otherwise(&ListenerCase { memory, ..thrown_otherwise(2, 0) });
        assert_eq!(certainty, Certainty::Unknown);
        assert!(said.contains("; TCP was short of memory meanwhile | TCP came above"), "{said}");
        assert!(said.contains("aborted 3 connections, held 20 pages in the end"), "{said}");
        let calm =
            MemoryCounters { pressures: Some(0), aborts: None, tcp_pages: Some(19), ..memory };
        let (_, said) = otherwise(&ListenerCase { memory: calm, ..thrown_otherwise(2, 0) });
        assert!(!said.contains("short of memory"), "{said}");
    }

    #[test]
    fn candidates_are_those_that_what_is_known_leaves() {
        let quarter = "a quarter of net.ipv4.tcp_max_syn_backlog";
        let said = |syncookies, at_ack| {
            otherwise(&ListenerCase { syncookies, ..thrown_otherwise(2, at_ack) }).1
        };
        for syncookies in [None, Some(0)] {
            assert!(said(syncookies, 0).contains(quarter), "{syncookies:?}");
            assert!(said(syncookies, 1).contains("a security module"), "one at the first packet");
        }
        assert!(said(Some(0), 0).contains("(net.ipv4.tcp_syncookies is 0)"));
        assert!(!said(Some(1), 0).contains(quarter));
        let at_ack = said(Some(0), 2);
        assert!(!at_ack.contains(quarter) && !at_ack.contains("security"), "{at_ack}");
        assert!(at_ack.contains("no memory for the connection, or no route back"), "{at_ack}");
    }

    #[test]
    fn the_two_queues_of_a_listener_are_told_apart_by_what_is_known_of_each() {
        let flooded = |peak, effective, accept_queue_full| {
            let thrown = Thrown { syn_queue_full: 4, accept_queue_full, ..Thrown::default() };
            let case = ListenerCase { effective, peak, thrown, ..stalled(Some(5), &[5], 0) };
            let found = diagnose_listener(&case);
            let rules: Vec<String> = found.iter().map(|it| it.rule.to_string()).collect();
            let both = rules.iter().any(|rule| rule == "accept-queue-full");
            assert_eq!(both, accept_queue_full != 0, "{rules:?}");
            fact(&case, "syn-queue-full")
        };
        let full = "its accept queue was full, too";
        assert!(flooded(Some(3), Some(8), 1).contains(full), "it threw connections away");
        assert!(flooded(Some(9), Some(8), 0).contains(full));
        // Connections wait, and there is room for more.
        assert!(flooded(Some(3), Some(8), 0).contains("its accept queue had room"));
        for (peak, effective) in [(None, Some(8)), (Some(3), None)] {
            assert!(flooded(peak, effective, 0).contains("is not known"));
        }
    }

    #[test]
    fn only_a_full_backlog_is_explained_by_how_long_its_queue_has_stood() {
        let finding = |rule: &'static str| Finding {
            severity: Severity::Error,
            certainty: Certainty::Measured,
            rule: rule.into(),
            subject: Phrase::default(),
            fact: "a fact".into(),
            consequence: Phrase::default(),
            fix: Phrase::default(),
            evidence: Vec::new(),
        };
        let mut stall = turned_away().stalls.remove(0);
        (stall.time_ns, stall.accepted_ns) = (3_000_000_001, Some(0));
        let found = with_queue(&[finding(rules::BACKLOG_FULL), finding("owner-held-up")], &stall);
        let facts: Vec<String> = found.iter().map(|it| plain(&it.fact)).collect();
        assert_eq!(
            facts,
            [
                "a fact; the oldest connection has waited for 3.0 s, and nobody has \
                 accepted for 3.0 s",
                "a fact"
            ]
        );
        stall.accepted_ns = Some(2);
        let found = with_queue(&[finding(rules::ACCEPT_QUEUE_FULL)], &stall);
        assert!(plain(&found[0].fact).ends_with(", and it accepts slowly"));
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
