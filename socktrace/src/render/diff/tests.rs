//! What is told of two made-up sessions.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use socktrace_common::{DropReason, Signal, Tier, histogram::bucket};

use super::*;
use crate::{
    aggregate::{
        Drops, Waits,
        diff::{
            ConnectOf, Count, DropOf, ErrorOf, FailureOf, FindingOf, Found, ListenerOf, ProcessOf,
            Row, Stalled,
        },
    },
    event::{Address, Severity, WaitTotals, name},
};

fn side(verdict: Verdict, reasons: &[&str], seconds: u64) -> Side {
    Side {
        started: UNIX_EPOCH,
        duration: Duration::from_secs(seconds),
        host: "host".into(),
        kernel: "6.12.0".into(),
        verdict,
        reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
        stalls_left_out: 0,
    }
}

fn nothing() -> Diff {
    Diff {
        before: side(Verdict::Complete, &[], 60),
        after: side(Verdict::Complete, &[], 60),
        tiers: Vec::new(),
        connect_failures: Vec::new(),
        connects_abandoned: Vec::new(),
        connect_blocked: Vec::new(),
        accept_errors: Vec::new(),
        accept_waits: Vec::new(),
        backlog_drops: Vec::new(),
        stalls: Vec::new(),
        findings: Vec::new(),
    }
}

fn row<K, V>(of: K, change: Change, before: V, after: V) -> Row<K, V> {
    Row { of, change, before: Some(before), after: Some(after) }
}

fn web() -> ProcessOf {
    ProcessOf { comm: Some(b"we\x1bb".to_vec()), unit: Some(b"web\xff.service".to_vec()) }
}

fn listener() -> ListenerOf {
    ListenerOf { local: "0.0.0.0:80".parse().ok().map(Address::Inet) }
}

fn failure(change: Change, before: u64, after: u64) -> Row<FailureOf, Count> {
    let target = Some(Address::Unix(b"/run/x\n".to_vec()));
    let of = FailureOf { process: web(), target, errno: 13 };
    row(of, change, Count(before), Count(after))
}

fn web_to_x() -> ConnectOf {
    ConnectOf { process: web(), target: Some(Address::Unix(b"/run/x\n".to_vec())) }
}

fn waits(ns: u64) -> Waits {
    let index = u16::try_from(bucket(ns)).expect("small");
    let mut waits = Waits::default();
    waits.add(&WaitTotals {
        count: 1,
        waited: 1,
        sum_ns: ns,
        max_ns: ns,
        buckets: [(index, 1)].into(),
    });
    waits
}

/// Something of each kind.
fn all() -> Diff {
    let error = ErrorOf { process: web(), listener: listener(), errno: 24 };
    let drop = DropOf { listener: listener(), reason: Drops::Tcp(DropReason::AcceptQueueFull) };
    let finding = |rule: &str| FindingOf { rule: rule.into(), subject: name(b"/run/x\n") };
    let found = |severity| Found { severity, count: 3 };
    let stalled = Stalled { count: 2, oldest_ns: Some(1_500_000_000) };
    Diff {
        connect_failures: vec![failure(Change::Worse, 6, 252)],
        connects_abandoned: vec![row(web_to_x(), Change::Gone, Count(12), Count(0))],
        connect_blocked: vec![row(web_to_x(), Change::New, Waits::default(), waits(1_000_000))],
        accept_errors: vec![row(error, Change::Gone, Count(6), Count(0))],
        accept_waits: vec![
            row(listener(), Change::Better, waits(9_000_000), waits(1_000_000)),
            row(ListenerOf { local: None }, Change::New, Waits::default(), waits(1_000_000)),
        ],
        backlog_drops: vec![row(drop, Change::Same, Count(5), Count(5))],
        stalls: vec![row(listener(), Change::New, Stalled::default(), stalled)],
        findings: vec![
            row(finding("r1"), Change::New, Found::default(), found(Some(Severity::Error))),
            row(finding("r2"), Change::New, Found::default(), found(Some(Severity::Info))),
        ],
        ..nothing()
    }
}

#[test]
fn what_got_worse_is_told_first_then_what_got_better_with_the_numbers() {
    let text = render_text(&all());
    let told: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!(
        told,
        [
            "worse: connect failures of we\\x1bb [web\\xff.service] to /run/x\\n (EACCES): 0.10/s → \
             4.2/s (6 → 252)",
            "new: blocked connects of we\\x1bb [web\\xff.service] to /run/x\\n: p99 - ms → 1.000 ms, p50 - ms → \
             1.000 ms",
            "new: stalls of 0.0.0.0:80: 2, the oldest 1500.000 ms",
            "new: finding r1 about /run/x\\n",
            "gone: abandoned connects of we\\x1bb [web\\xff.service] to /run/x\\n: 0.20/s (12) before",
            "gone: accept errors of we\\x1bb [web\\xff.service] on 0.0.0.0:80 (EMFILE): 0.10/s (6) \
             before",
            "better: accept waits on 0.0.0.0:80: p99 9.000 ms → 1.000 ms, p50 9.000 ms → 1.000 ms",
        ]
    );
}

#[test]
fn tables_have_all_that_is_not_the_same() {
    let text = render_text(&all());
    for title in [
        "CONNECT FAILURES",
        "ABANDONED CONNECTS",
        "BLOCKED CONNECTS",
        "ACCEPT ERRORS",
        "ACCEPT WAITS",
        "STALLS",
        "FINDINGS",
    ] {
        assert!(text.contains(&format!("\n{title}\n")), "{title}: {text}");
    }
    assert!(!text.contains("\nDROPS\n"), "{text}");
    assert!(text.contains("the same in both: 1 rows"), "{text}");
    let row = text.lines().find(|line| line.starts_with("worse ")).unwrap_or_default();
    let cells: Vec<&str> = row.split_whitespace().take(7).collect();
    assert_eq!(cells, ["worse", "6", "0.10", "252", "4.2", "EACCES", "/run/x\\n"]);
    assert!(text.contains("before: 60.0 s from 1970-01-01T00:00:00.000000000Z on host"), "{text}");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text}");
}

#[test]
fn two_sessions_that_differ_by_noise_only_say_so() {
    assert!(render_text(&nothing()).starts_with("No difference beyond noise was seen.\n"));
    let better = Diff { connect_failures: vec![failure(Change::Better, 9, 1)], ..nothing() };
    assert!(render_text(&better).starts_with("Nothing got worse.\nbetter: connect failures"));
}

#[test]
fn many_changes_are_counted_beyond_the_first() {
    let rows = (0..20).map(|n| failure(Change::Worse, n, n * 100)).collect();
    let text = render_text(&Diff { connect_failures: rows, ..nothing() });
    assert_eq!(text.lines().filter(|line| line.starts_with("worse: ")).count(), SHOWN);
    assert!(text.contains("\n… and 8 more in the tables below.\n"), "{text}");
}

#[test]
fn what_makes_the_sessions_differ_by_themselves_comes_before_everything() {
    let tier = |signal, before, after| TierChange { signal, before, after };
    let diff = Diff {
        before: side(Verdict::Incomplete, &["4 listen events were lost"], 60),
        after: Side { stalls_left_out: 3, ..side(Verdict::Unknown, &["a", "b"], 60) },
        tiers: vec![
            tier(Signal::Accept, Some(Tier::Fentry), Some(Tier::Tracepoint)),
            tier(Signal::BacklogDrop, Some(Tier::Fentry), None),
        ],
        ..nothing()
    };
    let text = render_text(&diff);
    let told: Vec<&str> = text.lines().take(5).collect();
    assert_eq!(
        told,
        [
            "before is incomplete: 4 listen events were lost. What follows may be too low: something \
             is missing.",
            "after is unknown: a; b. What follows may be too low: it is not known how much is missing.",
            "after: 3 stalls were too many to keep, so they are not compared.",
            "accept was traced in the fentry tier before and in the tracepoint tier after: they do not \
             see the same.",
            "backlog_drop was not traced after, so nothing can be said of its rows.",
        ]
    );
}

#[test]
fn a_session_without_a_length_has_no_rates() {
    let diff = Diff {
        before: side(Verdict::Complete, &[], 0),
        connect_failures: vec![failure(Change::Unknown, 6, 252)],
        ..nothing()
    };
    let json = render_json(&diff);
    assert_eq!(json["connect_failures"][0]["before"], json!({"count": 6, "per_second": null}));
    assert!(render_text(&diff).contains("unknown       6   -"), "{}", render_text(&diff));
}

#[test]
fn json_has_every_row_with_both_sides() {
    let json = render_json(&all());
    assert_eq!(json["schema_version"], 1);
    let failure = &json["connect_failures"][0];
    assert_eq!(
        *failure,
        json!({
            "comm": "we\\x1bb",
            "unit": "web\\xff.service",
            "unit_hex": "776562ff2e73657276696365",
            "family": "unix",
            "target": "/run/x\\n",
            "errno": "EACCES",
            "change": "worse",
            "before": {"count": 6, "per_second": 0.1},
            "after": {"count": 252, "per_second": 4.2},
        })
    );
    let waits = &json["accept_waits"];
    assert_eq!(waits[0]["before"]["wait_ns"]["max"], 9_000_000);
    assert_eq!(waits[1]["before"], json!({"count": 0, "wait_ns": null}));
    assert_eq!((&waits[1]["listener"], &waits[1]["family"]), (&Value::Null, &json!("unknown")));
    assert_eq!(json["backlog_drops"][0]["reason"], "accept_queue_full");
    assert_eq!(json["stalls"][0]["after"]["oldest_ns"], 1_500_000_000);
    assert_eq!(json["findings"][0]["before"]["severity"], Value::Null);
    assert_eq!(json["findings"][0]["subject"], "/run/x\\n");
    assert_eq!(json["after"]["verdict"], "complete");
}

#[test]
fn a_side_that_did_not_look_is_null() {
    let unknown = Row { after: None, ..failure(Change::Unknown, 6, 0) };
    let tiers = vec![TierChange {
        signal: Signal::ConnectFailure,
        before: Some(Tier::Kprobe),
        after: None,
    }];
    let json = render_json(&Diff { connect_failures: vec![unknown], tiers, ..nothing() });
    assert_eq!(json["connect_failures"][0]["after"], Value::Null);
    let tier = json!({"signal": "connect_failure", "before": "kprobe", "after": "none"});
    assert_eq!(json["tiers"], json!([tier]));
}
