//! Prints the HTML report of a session that never was: a busy web server with a burst, a stall, failures,
//! findings of every kind, and names that try to be more than names. With the argument `empty`, that of a
//! session in which nothing happened.

mod course;
mod findings;
mod rows;

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use socktrace::aggregate::{
    Completeness, NamespaceRow, Session, SessionSignal, SignalStages, Snapshot, Timeline,
    Unattributed, Verdict,
};
use socktrace::event::{Meanwhile, Misses, NetstatDelta, Unread};
use socktrace::render::{Cost, html::render_report};
use socktrace_common::{Signal, Tier};

use self::course::{BEGIN, READINGS, SECOND, timeline};

fn main() {
    let snapshot = match std::env::args().nth(1).as_deref() {
        Some("empty") => empty(),
        _ => busy(),
    };
    let cost = Cost { cpu: Duration::from_millis(1_384), peak_rss_bytes: 31_457_280 };
    print!("{}", render_report(&snapshot, Some(cost)));
}

fn session() -> Session {
    let signal = |signal| SessionSignal {
        signal,
        tier: Some(if signal == Signal::BacklogDrop { Tier::Tracepoint } else { Tier::Fentry }),
        loses: match signal {
            Signal::BacklogDrop => vec!["the reason of a drop, and at which packet".to_owned()],
            _ => Vec::new(),
        },
        refused: match signal {
            Signal::BacklogDrop => {
                vec![(Tier::Fentry, "tcp_conn_request is not in BTF".to_owned())]
            }
            _ => Vec::new(),
        },
    };
    Session {
        // 2026-03-11T14:02:11.25Z
        started: UNIX_EPOCH + Duration::from_millis(1_773_237_731_250),
        started_ns: BEGIN,
        host: "web-7.fra1.example.net".to_owned(),
        kernel: "6.12.48+deb13-amd64".to_owned(),
        command: [
            "/usr/local/bin/replay",
            "--target",
            "http://127.0.0.1:80/a b",
            "<script>\u{202e}",
        ]
        .map(|word| word.as_bytes().to_vec())
        .to_vec(),
        signals: Signal::ALL.map(signal).to_vec(),
        untested: None,
        somaxconn: Some(4_096),
        netns: Some(4_026_531_840),
    }
}

fn completeness(seen: u64) -> Completeness {
    let stages = |signal| {
        let lost_buffer = if signal == Signal::Accept { seen / 413 } else { 0 };
        SignalStages {
            signal,
            seen: seen + lost_buffer,
            filtered: seen / 2,
            below_threshold: seen / 4,
            sampled_out: 0,
            delivered: seen - seen / 2 - seen / 4,
            lost_buffer,
            lost_decode: 0,
            unpaired: 3,
            full_tally: 0,
            full_pending: 0,
            full_name: 0,
        }
    };
    Completeness {
        verdict: Verdict::Incomplete,
        reasons: vec![
            "214 accept events were lost (counts are exact, their detail is missing); raise \
             --buffer-bytes or filter"
                .to_owned(),
        ],
        signals: Signal::ALL.map(stages).to_vec(),
        misses: Misses {
            programs: BTreeMap::from([
                ("accept_fexit".to_owned(), Some(17)),
                ("listen_fentry".to_owned(), None),
            ]),
            unseen: BTreeMap::new(),
        },
    }
}

fn busy() -> Snapshot {
    let timeline = timeline();
    let counted = NetstatDelta { overflows: 812, drops: 1_290, syn_queue: 0, cookies: 318 };
    let namespace = |netns, own, counted| NamespaceRow {
        netns,
        own,
        counted,
        while_read: Meanwhile::default(),
        unattributed: counted.map(|_| Unattributed::default()),
        surplus: 0,
    };
    Snapshot {
        runs: None,
        session: session(),
        duration: Duration::from_nanos(READINGS * SECOND / 2),
        completeness: completeness(88_412),
        processes: rows::processes(&timeline),
        listeners: rows::listeners(&timeline),
        stalls: rows::stalls(),
        stalls_left_out: 0,
        abandoned_other: 0,
        findings: findings::findings(&timeline),
        namespaces: vec![
            namespace(4_026_531_840, true, Some(counted)),
            namespace(4_026_532_551, false, None),
        ],
        unread: Some(Unread {
            not_entered: vec![4_026_532_551],
            descriptors_of: Some(2),
            ..Unread::default()
        }),
        timeline,
    }
}

fn empty() -> Snapshot {
    Snapshot {
        runs: None,
        session: Session { command: Vec::new(), ..session() },
        duration: Duration::from_secs(5),
        completeness: Completeness {
            verdict: Verdict::Complete,
            reasons: Vec::new(),
            ..completeness(0)
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
