//! Two made-up sessions, and what became of their rows.

use socktrace_common::DropReason;

use super::*;
use crate::{
    aggregate::{
        AbandonedRow, AcceptErrorRow, ConnectFailureRow, DropRow, Drops, FindingRow, ListenerRow,
        ProcessRow,
    },
    event::{Address, Certainty, Endpoint, Finding, Phrase, Severity},
};

fn inet(text: &str) -> Endpoint {
    Endpoint { address: text.parse().ok().map(Address::Inet), kind: None }
}

fn client(pid: u32, cgroup: &[u8], count: u64) -> ProcessRow {
    let target = Endpoint { address: Some(Address::Unix(b"/run/x.sock".to_vec())), kind: None };
    let failure = ConnectFailureRow { target, errno: 13, uid: 0, count, findings: None };
    ProcessRow {
        pid: Some(pid),
        comm: Some(b"web".to_vec()),
        cgroup: Some(cgroup.to_vec()),
        connect_failures: vec![failure],
        ..ProcessRow::default()
    }
}

fn of(processes: Vec<ProcessRow>) -> Snapshot {
    Snapshot { processes, ..Snapshot::of_nothing() }
}

fn changes<K, V>(rows: &[Row<K, V>]) -> Vec<Change> {
    rows.iter().map(|row| row.change).collect()
}

#[test]
fn a_program_is_the_same_with_other_pids_and_in_another_scope_but_not_in_another_unit() {
    let before = of(vec![
        client(5, b"/a.slice/web.service", 10),
        client(6, b"/a.slice/web.service", 10),
        client(7, b"/b.slice/session-1.scope", 7),
    ]);
    let after = of(vec![
        client(50, b"/a.slice/web.service", 40),
        client(51, b"/b.slice/session-9.scope", 7),
        client(52, b"/a.slice/other.service", 1),
    ]);
    let diff = Diff::between(&before, &after);
    let told: Vec<_> = diff
        .connect_failures
        .iter()
        .map(|row| (row.change, row.of.process.unit.as_deref(), row.before, row.after))
        .collect();
    let [some, none] = [|n| Some(Count(n)), |_| Some(Count(0))];
    let (web, other) = (b"web.service".as_slice(), b"other.service".as_slice());
    assert_eq!(
        told,
        [
            (Change::Worse, Some(web), some(20), some(40)),
            (Change::New, Some(other), none(0), some(1)),
            (Change::Same, None, some(7), some(7)),
        ]
    );
}

#[test]
fn occurrences_are_compared_by_their_rates() {
    let before = of(vec![client(5, b"/", 10)]);
    let longer = Snapshot { duration: Duration::from_secs(100), ..of(vec![client(5, b"/", 100)]) };
    assert_eq!(changes(&Diff::between(&before, &longer).connect_failures), [Change::Same]);
    let fewer = Snapshot { duration: Duration::from_secs(100), ..of(vec![client(5, b"/", 10)]) };
    assert_eq!(changes(&Diff::between(&before, &fewer).connect_failures), [Change::Better]);
}

#[test]
fn what_one_session_did_not_trace_is_unknown_and_not_gone() {
    let before = of(vec![client(5, b"/", 10)]);
    let mut after = Snapshot::of_nothing();
    assert_eq!(changes(&Diff::between(&before, &after).connect_failures), [Change::Gone]);
    for row in &mut after.session.signals {
        row.tier = row.tier.filter(|_| row.signal != Signal::ConnectFailure);
    }
    let diff = Diff::between(&before, &after);
    assert_eq!(changes(&diff.connect_failures), [Change::Unknown]);
    assert_eq!(diff.connect_failures[0].after, None);
    let signal = Signal::ConnectFailure;
    let tiers = TierChange { signal, before: Some(Tier::Fentry), after: None };
    assert_eq!(diff.tiers, [tiers]);
}

#[test]
fn listeners_are_matched_by_their_address_whatever_their_inodes() {
    let row = |inode, local: &str, count| ListenerRow {
        inode,
        local: inet(local),
        backlog_drops: vec![
            DropRow { reason: Drops::Tcp(DropReason::AcceptQueueFull), stage: None, count },
            DropRow { reason: Drops::TcpUnknown, stage: None, count: 3 },
        ],
        ..ListenerRow::default()
    };
    let listeners = vec![row(1, "0.0.0.0:80", 5), row(2, "0.0.0.0:80", 5)];
    let before = Snapshot { listeners, ..Snapshot::of_nothing() };
    let listeners = vec![row(9, "0.0.0.0:80", 1), row(8, "[::]:80", 1)];
    let after = Snapshot { listeners, ..Snapshot::of_nothing() };
    let diff = Diff::between(&before, &after);
    let told: Vec<_> = diff
        .backlog_drops
        .iter()
        .map(|row| (row.change, row.of.reason, row.before, row.after))
        .collect();
    let full = Drops::Tcp(DropReason::AcceptQueueFull);
    let (new, better) = (Change::New, Change::Better);
    let count = |n| Some(Count(n));
    assert_eq!(
        told,
        [
            (new, Drops::TcpUnknown, count(0), count(3)),
            (new, full, count(0), count(1)),
            (better, full, count(10), count(1)),
            (better, Drops::TcpUnknown, count(6), count(3)),
        ]
    );
}

#[test]
fn a_finding_without_a_count_is_there_or_not() {
    let finding = |rule: &'static str, subject: &'static str| FindingRow {
        finding: Finding {
            severity: Severity::Error,
            certainty: Certainty::Inferred,
            rule: rule.into(),
            subject: subject.into(),
            fact: Phrase::default(),
            consequence: Phrase::default(),
            fix: Phrase::default(),
            evidence: Vec::new(),
        },
        count: 0,
        listener: None,
        goes_on: false,
        pids: BTreeSet::new(),
    };
    let session = |findings| Snapshot { findings, ..Snapshot::of_nothing() };
    let before = session(vec![finding("stall", "a"), finding("stall", "b")]);
    let after = session(vec![finding("stall", "b"), finding("drop", "b")]);
    let diff = Diff::between(&before, &after);
    let told: Vec<_> = diff.findings.iter().map(|row| (row.change, row.of.rule.as_str())).collect();
    let expected = [(Change::New, "drop"), (Change::Gone, "stall"), (Change::Same, "stall")];
    assert_eq!(told, expected);
}

#[test]
fn errors_of_accept_are_matched_by_program_listener_and_errno() {
    let server = |pid, errno, count| ProcessRow {
        pid: Some(pid),
        accept_errors: vec![AcceptErrorRow {
            errno,
            listener: Some(inet("0.0.0.0:80")),
            count,
            findings: None,
        }],
        ..ProcessRow::default()
    };
    let before = of(vec![server(1, 24, 50), server(1, 23, 1)]);
    let after = of(vec![server(2, 24, 500)]);
    let diff = Diff::between(&before, &after);
    assert_eq!(changes(&diff.accept_errors), [Change::Worse, Change::Gone]);
}

#[test]
fn connects_that_slept_or_were_taken_back_are_matched_by_program_and_target() {
    let client = |pid, count, target: &str| ProcessRow {
        pid: Some(pid),
        connects_abandoned: vec![AbandonedRow { target: inet(target), uid: 0, count }],
        connect_blocked: vec![(inet(target), Waits::default())],
        ..ProcessRow::default()
    };
    let before = of(vec![client(1, 50, "127.0.0.1:80"), client(2, 1, "127.0.0.1:80")]);
    let after = of(vec![client(3, 500, "127.0.0.1:80"), client(3, 1, "127.0.0.1:81")]);
    let diff = Diff::between(&before, &after);
    assert_eq!(changes(&diff.connects_abandoned), [Change::Worse, Change::New]);
    assert_eq!(diff.connects_abandoned[0].before, Some(Count(51)));
    assert_eq!(diff.connect_blocked.len(), 2);
}

#[test]
fn a_session_is_the_same_as_itself() {
    let session = of(vec![client(5, b"/", 10)]);
    let diff = Diff::between(&session, &session);
    assert_eq!(changes(&diff.connect_failures), [Change::Same]);
    assert_eq!((&diff.before, diff.tiers.len()), (&diff.after, 0));
}
