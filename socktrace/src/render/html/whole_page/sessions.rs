//! Sessions that never were: one in which nothing happened, and one in which every name is hostile and
//! every number is once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use socktrace_common::{DropReason, DropStage, Signal, Tier, histogram::bucket};

use crate::{
    aggregate::{
        AbandonedRow, AcceptErrorRow, Completeness, ConnectFailureRow, DropRow, Drops, FindingRow,
        Interval, ListenerRow, NamespaceRow, ProcessRow, Session, SessionSignal, SignalStages,
        Snapshot, Timeline, Unattributed, Verdict, Waits,
    },
    event::{
        Address, Certainty, Endpoint, Finding, Meanwhile, Misses, NetstatDelta, Owner, Severity,
        Stall, StallChange, WaitTotals, Waiting, name, phrase, word,
    },
};

/// What must never be seen as it is: markup, quotes that end an attribute, what moves or hides text.
const HOSTILE: &[u8] =
    "</td></script><script>x()</script>\"'&amp;\n\r\t\u{202e}\u{2066}\u{0}\x1b[31m".as_bytes();
const SECOND: u64 = 1_000_000_000;

/// Nothing happened.
pub(super) fn empty() -> Snapshot {
    Snapshot {
        runs: None,
        session: Session {
            started: UNIX_EPOCH + Duration::from_secs(1_773_237_731),
            started_ns: 0,
            host: "host".into(),
            kernel: "6.1.0".into(),
            command: Vec::new(),
            signals: Vec::new(),
            untested: None,
            somaxconn: None,
            netns: None,
        },
        duration: Duration::from_secs(10),
        completeness: Completeness {
            verdict: Verdict::Complete,
            reasons: Vec::new(),
            signals: Vec::new(),
            misses: Misses::default(),
        },
        processes: Vec::new(),
        listeners: Vec::new(),
        stalls: Vec::new(),
        stalls_left_out: 0,
        abandoned_other: 0,
        findings: Vec::new(),
        namespaces: Vec::new(),
        unread: None,
        timeline: Timeline::default(),
    }
}

pub(super) fn text(hostile: &[u8]) -> String {
    String::from_utf8_lossy(hostile).into_owned()
}

fn unix() -> Endpoint {
    Endpoint { address: Some(Address::Unix([b"/run/", HOSTILE].concat())), kind: None }
}

fn owner() -> Owner {
    Owner {
        pid: 70_001,
        comm: HOSTILE.to_vec(),
        uid: None,
        cgroup: Some([b"/", HOSTILE, b".service"].concat()),
    }
}

/// Numbers that stand for themselves: each is once in the snapshot.
pub(super) fn waits(first: u64) -> Waits {
    let mut waits = Waits::default();
    waits.add(&totals(first));
    waits
}

pub(super) fn totals(first: u64) -> WaitTotals {
    let ns = first * 1_000_003;
    let at = u16::try_from(bucket(ns)).expect("there are 624");
    WaitTotals {
        count: first + 5,
        waited: first,
        sum_ns: ns * first,
        max_ns: ns,
        buckets: BTreeMap::from([(at, first)]),
    }
}

fn finding(severity: Severity) -> Finding {
    let hostile = || name(HOSTILE);
    Finding {
        severity,
        certainty: Certainty::Inferred,
        rule: "a-rule".into(),
        subject: hostile(),
        fact: phrase!["is ", hostile()],
        consequence: hostile(),
        fix: phrase!["chmod g+w ", word(HOSTILE), ", or ask ", hostile()],
        evidence: vec![hostile(), phrase!["evidence 70002"]],
    }
}

pub(super) fn interval(begin: u64, listener: u64) -> Interval {
    Interval {
        begin_ns: begin * SECOND,
        end_ns: (begin + 1) * SECOND,
        accepts: BTreeMap::from([(listener, totals(40))]),
        drops: BTreeMap::from([(listener, 3)]),
        connect_failures: BTreeMap::from([(13, 2)]),
        accept_errors: BTreeMap::from([(24, 1)]),
        queues: BTreeMap::from([(listener, 5)]),
    }
}

pub(super) fn listener(inode: u64) -> ListenerRow {
    ListenerRow {
        inode,
        local: unix(),
        netns: Some(70_010),
        owners: vec![owner()],
        socket_unit: None,
        listened_by: Some(owner()),
        last_acceptor: Some(owner()),
        requested: Some(70_011),
        effective: Some(70_012),
        somaxconn: Some(70_013),
        pending_oldest_ns: Some(70_014_015_000),
        queue_now: Some(70_016),
        queue_peak: Some(70_017),
        accept: waits(70_018),
        backlog_drops: vec![DropRow {
            reason: Drops::Tcp(DropReason::AcceptQueueFull),
            stage: Some(DropStage::Syn),
            count: 70_019,
        }],
    }
}

fn process() -> ProcessRow {
    let found: Option<Arc<[Finding]>> = Some(vec![finding(Severity::Error)].into());
    ProcessRow {
        pid: Some(70_020),
        start_time_ns: Some(70_021_022_000_000),
        comm: Some(HOSTILE.to_vec()),
        uid: Some(70_023),
        cgroup: owner().cgroup,
        accept: waits(70_024),
        accept_errors: vec![AcceptErrorRow {
            errno: 24,
            listener: Some(unix()),
            count: 70_025,
            findings: found.clone(),
        }],
        accept_would_block: 70_026,
        connect_failures: vec![ConnectFailureRow {
            target: unix(),
            errno: 13,
            uid: 70_027,
            count: 70_028,
            findings: found,
        }],
        connects_abandoned: vec![AbandonedRow { target: unix(), uid: 70_031, count: 70_032 }],
        connect_blocked: vec![(unix(), waits(70_029))],
        backlog_drops: vec![(
            unix(),
            DropRow { reason: Drops::UnixBacklogFull, stage: None, count: 70_030 },
        )],
    }
}

fn stall() -> Stall {
    Stall {
        time_ns: 9 * SECOND,
        listener: 70_040,
        local: unix(),
        netns: None,
        selected: true,
        change: StallChange::Still,
        since_ns: 2 * SECOND,
        longest_ns: 0,
        is_lower_bound: true,
        pending: 70_041,
        pending_peak: 70_042,
        blocked: 70_043,
        accepted_ns: Some(SECOND),
        owners: vec![owner()],
        seen_in_part: false,
        hold: None,
        acceptor: Some(text(HOSTILE)),
        clients: vec![Waiting {
            pid: Some(70_044),
            comm: Some(HOSTILE.to_vec()),
            address: None,
            count: 70_045,
        }],
    }
}

/// Everything happened, to somebody with a hostile name.
pub(super) fn hostile() -> Snapshot {
    let stages = SignalStages {
        signal: Signal::Accept,
        seen: 70_050,
        filtered: 70_051,
        below_threshold: 70_052,
        sampled_out: 70_053,
        delivered: 70_054,
        lost_buffer: 70_055,
        lost_decode: 70_056,
        unpaired: 70_057,
        full_tally: 70_058,
        full_pending: 70_059,
        full_name: 70_060,
    };
    let counted =
        NetstatDelta { overflows: 70_061, drops: 70_062, syn_queue: 70_063, cookies: 70_064 };
    let rest = Unattributed { drops: 70_065, cookies: 70_066 };
    let mut snapshot = empty();
    snapshot.session.host = text(HOSTILE);
    snapshot.session.kernel = text(HOSTILE);
    snapshot.session.command = vec![HOSTILE.to_vec()];
    snapshot.session.untested = Some(text(HOSTILE));
    snapshot.session.signals = vec![SessionSignal {
        signal: Signal::Accept,
        tier: Some(Tier::Kprobe),
        loses: vec![text(HOSTILE)],
        refused: vec![(Tier::Fentry, text(HOSTILE))],
    }];
    snapshot.completeness = Completeness {
        verdict: Verdict::Unknown,
        reasons: vec![text(HOSTILE)],
        signals: vec![stages],
        misses: Misses {
            programs: BTreeMap::from([(text(HOSTILE), Some(70_067)), ("none".into(), None)]),
            unseen: BTreeMap::new(),
        },
    };
    snapshot.processes = vec![process(), ProcessRow::default()];
    snapshot.listeners = vec![listener(70_040), ListenerRow::default()];
    snapshot.stalls = vec![stall()];
    snapshot.findings = [Severity::Error, Severity::Warning, Severity::Info]
        .map(|severity| FindingRow {
            finding: finding(severity),
            count: 70_068,
            listener: Some(70_040),
            goes_on: true,
            pids: BTreeSet::from([70_069]),
        })
        .to_vec();
    snapshot.namespaces = vec![NamespaceRow {
        netns: 70_070,
        own: true,
        counted: Some(counted),
        while_read: Meanwhile { drops: 70_071, cookies: 70_072 },
        unattributed: Some(rest),
        surplus: 0,
    }];
    snapshot.timeline.intervals = (0..10).map(|n| interval(n, 70_040)).collect();
    snapshot
}
