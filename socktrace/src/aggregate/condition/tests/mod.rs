//! Conditions held against made-up reports.

mod grammar;

use socktrace_common::{DropReason, DropStage, Signal, histogram::bucket};

use super::*;
use crate::{
    aggregate::{
        AcceptErrorRow, ConnectFailureRow, DropRow, Drops, FindingRow, ListenerRow, ProcessRow,
        SignalStages,
    },
    event::{
        Address, Certainty, Endpoint, Finding, Owner, Phrase, Severity, Stall, StallChange, Unread,
        WaitTotals,
    },
};

const MS: u64 = 1_000_000;

fn check(text: &str, snapshot: &Snapshot) -> Outcome {
    Condition::parse(text).expect(text).check(snapshot)
}

fn met(text: &str, snapshot: &Snapshot) -> Option<Met> {
    match check(text, snapshot) {
        Outcome::Met(met) => Some(met),
        _ => None,
    }
}

/// What was measured; `None` if the condition is not met.
fn measured(text: &str, snapshot: &Snapshot) -> Option<u64> {
    let is_unknown = matches!(check(text, snapshot), Outcome::Unknown { .. });
    assert!(!is_unknown, "{text} is unknown");
    Some(met(text, snapshot)?.measured)
}

fn unix(name: &[u8]) -> Endpoint {
    Endpoint { address: Some(Address::Unix(name.to_vec())), kind: None }
}

fn inet(text: &str) -> Endpoint {
    Endpoint { address: text.parse().ok().map(Address::Inet), kind: None }
}

fn waits(values: &[u64]) -> WaitTotals {
    let mut totals = WaitTotals::default();
    for value in values {
        totals.count += 1;
        totals.waited += 1;
        totals.max_ns = totals.max_ns.max(*value);
        *totals.buckets.entry(u16::try_from(bucket(*value)).expect("small")).or_default() += 1;
    }
    totals
}

fn failure(target: Endpoint, errno: u32, uid: u32, count: u64) -> ConnectFailureRow {
    ConnectFailureRow { target, errno, uid, count, findings: None }
}

fn owner(pid: u32, comm: &[u8]) -> Owner {
    Owner { pid, comm: comm.to_vec(), uid: None, cgroup: None }
}

fn stall(local: Endpoint, age_ns: u64, pending_peak: u32) -> Stall {
    Stall {
        time_ns: age_ns + 5,
        local,
        change: StallChange::Closed,
        since_ns: 5,
        pending: 0,
        pending_peak,
        owners: vec![owner(30, b"slow")],
        ..Stall::of_listener(9)
    }
}

/// A client that fails, a server with two listeners, and one that stalls.
fn busy() -> Snapshot {
    let mut web = ProcessRow {
        pid: Some(12),
        comm: Some(b"web".to_vec()),
        uid: Some(33),
        connect_failures: vec![
            failure(unix(b"/run/x.sock"), 13, 33, 10),
            failure(unix(b"\0app"), 111, 0, 2),
        ],
        accept_errors: vec![AcceptErrorRow {
            errno: 24,
            listener: Some(inet("0.0.0.0:80")),
            count: 4,
            findings: None,
        }],
        ..ProcessRow::default()
    };
    let mut slept = crate::aggregate::Waits::default();
    slept.add(&waits(&[3 * MS, 7 * MS]));
    web.connect_blocked.push((unix(b"/run/y.sock"), slept));
    let mut nginx = ProcessRow {
        pid: Some(20),
        comm: Some(b"nginx".to_vec()),
        uid: Some(0),
        ..ProcessRow::default()
    };
    let mut fast = ListenerRow {
        local: inet("0.0.0.0:80"),
        owners: vec![owner(20, b"nginx"), owner(21, b"nginx")],
        effective: Some(100),
        queue_peak: Some(81),
        backlog_drops: vec![
            drop(DropReason::AcceptQueueFull, 5),
            drop(DropReason::SyncookieSent, 70),
        ],
        ..ListenerRow::default()
    };
    let mut slow = ListenerRow { local: inet("[::]:443"), ..ListenerRow::default() };
    fast.accept.add(&waits(&[MS; 98]));
    slow.accept.add(&waits(&[100 * MS; 2]));
    nginx.accept.join(&fast.accept);
    nginx.accept.join(&slow.accept);
    Snapshot {
        processes: vec![web, nginx],
        listeners: vec![fast, slow],
        stalls: vec![stall(unix(b"/run/s.sock"), 2000 * MS, 90), stall(inet("[::]:443"), 5, 1)],
        findings: vec![finding(Severity::Error), finding(Severity::Info)],
        ..Snapshot::of_nothing()
    }
}

fn drop(reason: DropReason, count: u64) -> DropRow {
    DropRow { reason: Drops::Tcp(reason), stage: Some(DropStage::Syn), count }
}

fn finding(severity: Severity) -> FindingRow {
    let finding = Finding {
        severity,
        certainty: Certainty::Inferred,
        rule: "unix-stale-socket".into(),
        subject: Phrase::default(),
        fact: Phrase::default(),
        consequence: Phrase::default(),
        fix: Phrase::default(),
        evidence: Vec::new(),
    };
    FindingRow { finding, count: 1, listener: None, goes_on: false, pids: [12].into() }
}

#[test]
fn counts_are_summed_over_the_rows_that_the_filters_want() {
    let busy = busy();
    for (text, expected) in [
        ("connect_failures>0", Some(12)),
        ("connect_failures{errno=EACCES}>0", Some(10)),
        ("connect_failures { errno = econnrefused , comm = web } >= 2", Some(2)),
        ("connect_failures{target=/run/x.sock}>10", None),
        ("connect_failures{target=@app}==2", Some(2)),
        ("connect_failures{uid=0}>0", Some(2)),
        ("connect_failures{pid=20}>0", None),
        ("accept_errors{errno=24,listener=0.0.0.0:80}>3", Some(4)),
        ("accepts{comm=nginx}<1", None),
        ("accepts{comm=apache}<1", Some(0)),
        ("accepts{listener=[::]:443}<=2", Some(2)),
        ("connect_blocked>1", Some(2)),
        ("backlog_drops>0", Some(5)),
        ("backlog_drops{reason=syncookie_sent}>0", Some(70)),
        ("backlog_drops{comm=nginx,listener=0.0.0.0:80}!=0", Some(5)),
        ("stalls>0", Some(2)),
        ("stalls{listener=/run/s.sock}==1", Some(1)),
        ("findings{severity=error}>0", Some(1)),
        ("findings{rule=unix-stale-socket}>1", Some(2)),
        ("events_lost>0", None),
    ] {
        assert_eq!(measured(text, &busy), expected, "{text}");
    }
}

#[test]
fn waits_of_several_rows_are_one_distribution() {
    let busy = busy();
    let is_about = |text: &str, ns: u64| {
        let told = measured(text, &busy).expect(text);
        assert!(told >= ns && told <= ns + ns / 16, "{text}: {told}");
    };
    is_about("accept_wait_p50>0ms", MS);
    is_about("accept_wait_p99>50ms", 100 * MS);
    is_about("accept_wait_max>=100ms", 100 * MS);
    is_about("accept_wait_p99{listener=0.0.0.0:80}<50ms", MS);
    is_about("accept_wait_p99{comm=nginx}>50ms", 100 * MS);
    is_about("connect_blocked_max{target=/run/y.sock}>5ms", 7 * MS);
    is_about("stall_max>1s", 2000 * MS);
    assert_eq!(measured("accept_wait_p90>50ms", &busy), None);
    assert_eq!(measured("stall_max{pid=30,listener=[::]:443}>1s", &busy), None);
}

#[test]
fn queues_are_the_fullest_that_was_seen_and_a_share_is_of_the_backlog_that_applies() {
    let busy = busy();
    assert_eq!(measured("queue_peak>80", &busy), Some(90), "a stall has a queue, too");
    assert_eq!(measured("queue_peak{comm=nginx}>80", &busy), Some(81));
    assert_eq!(measured("queue_fill>80%", &busy), Some(8100));
    assert_eq!(measured("queue_fill>=81.01%", &busy), None);
}

#[test]
fn what_is_met_names_the_row_with_the_most_of_it() {
    let found = met(" connect_failures > 0 ", &busy()).expect("it is met");
    let (whose, most) = found.most.expect("somebody failed");
    assert_eq!((found.condition.as_str(), found.measured, most), ("connect_failures > 0", 12, 10));
    assert_eq!(whose.processes, [Who { pid: Some(12), comm: Some(b"web".to_vec()) }]);
    assert_eq!((whose.errno, whose.target), (Some(13), Some(unix(b"/run/x.sock"))));
    let found = met("accept_wait_p99>50ms", &busy()).expect("it is met");
    assert_eq!(found.most.expect("a row").0.processes[0].pid, Some(20));
    let found = met("accepts<1000", &busy()).expect("it is met");
    assert_eq!(found.most, None, "nobody has too much of it");
}

#[test]
fn what_nobody_measured_is_unknown_and_no_breach() {
    let nothing = Snapshot::of_nothing();
    for text in ["accept_wait_p99>0ms", "accept_wait_max<1s", "queue_peak>=0", "queue_fill<1%"] {
        assert!(matches!(check(text, &nothing), Outcome::Unknown { .. }), "{text}");
    }
    let mut unknown_waits = busy();
    unknown_waits.processes[1].accept = crate::aggregate::Waits::default();
    unknown_waits.processes[1].accept.add(&WaitTotals { count: 3, ..WaitTotals::default() });
    assert!(matches!(check("accept_wait_p50>0ms", &unknown_waits), Outcome::Unknown { .. }));
    assert_eq!(measured("accepts==3", &unknown_waits), Some(3));
}

#[test]
fn nothing_that_failed_is_known_and_no_breach() {
    let nothing = Snapshot::of_nothing();
    for text in ["connect_failures>0", "stall_max>=0ms", "connect_blocked_max<1s", "stalls>0"] {
        assert_eq!(check(text, &nothing), Outcome::NotMet, "{text}");
    }
}

#[test]
fn a_signal_that_was_not_traced_leaves_its_metrics_unknown() {
    let mut blind = busy();
    for row in &mut blind.session.signals {
        row.tier = row.tier.filter(|_| row.signal != Signal::ConnectFailure);
    }
    let why = "connect_failure was not traced".to_owned();
    assert_eq!(check("connect_failures>0", &blind), Outcome::Unknown { why });
    assert_eq!(measured("backlog_drops>0", &blind), Some(5));
}

#[test]
fn what_had_no_room_in_a_map_is_counted_but_of_nobody() {
    let mut busy = busy();
    let before = measured("connect_failures>0", &busy).expect("some failed");
    let full = SignalStages { full_tally: 100, ..SignalStages::nothing_of(Signal::ConnectFailure) };
    busy.completeness.signals = vec![full];
    assert_eq!(measured("connect_failures>100", &busy), Some(before + 100));
    assert_eq!(measured("connect_failures{errno=EACCES}>1", &busy), Some(10), "it only grows");
    let unknown = check("connect_failures{errno=EACCES}>50", &busy);
    let why = "100 occurrences are in no row: a map was full".to_owned();
    assert_eq!(unknown, Outcome::Unknown { why });
}

#[test]
fn failures_that_were_not_looked_into_may_have_any_finding() {
    let unread = Some(Unread { uninvestigated: 3, ..Unread::default() });
    let busy = Snapshot { unread, ..busy() };
    for text in ["findings==0", "findings>99", "findings{rule=unix-acl}>0"] {
        assert!(matches!(check(text, &busy), Outcome::Unknown { .. }), "{text}");
    }
}

#[test]
fn stalls_that_were_too_many_to_keep_are_counted_but_of_nobody() {
    let busy = Snapshot { stalls_left_out: 7, ..busy() };
    assert_eq!(measured("stalls>8", &busy), Some(9));
    assert_eq!(measured("stalls{pid=30}>1", &busy), Some(2), "it only grows");
    let elsewhere = "stall_max{pid=999}>1s";
    for text in
        ["stalls{pid=30}>2", "stalls{pid=30}<3", "stall_max>1h", elsewhere, "queue_peak>99999"]
    {
        assert!(matches!(check(text, &busy), Outcome::Unknown { .. }), "{text}");
    }
}
