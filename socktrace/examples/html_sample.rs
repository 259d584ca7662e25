//! Prints the HTML report of a session that never was: a busy web server with three listeners, a burst,
//! a stall, failures, findings of every kind, and names that try to be more than names. With the argument
//! `empty`, that of a session in which nothing happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use socktrace::aggregate::{
    AcceptErrorRow, Completeness, ConnectFailureRow, DropRow, Drops, FindingRow, Interval,
    ListenerRow, NamespaceRow, ProcessRow, Session, SessionSignal, SignalStages, Snapshot,
    Timeline, Unattributed, Verdict, Waits,
};
use socktrace::event::{
    Address, Certainty, Endpoint, Finding, Misses, NetstatDelta, Owner, Phrase, Severity, Stall,
    StallChange, Unread, WaitTotals, Waiting, name, word,
};
use socktrace::render::{html::render_report, text::Cost};
use socktrace_common::{DropReason, DropStage, Signal, Tier, histogram::bucket};

const SECOND: u64 = 1_000_000_000;
const BEGIN: u64 = 84_213 * SECOND;
/// Readings, twice a second.
const READINGS: u64 = 360;

const WEB: u64 = 41_207;
const TLS: u64 = 41_208;
const APP: u64 = 52_919;

fn main() {
    let snapshot = match std::env::args().nth(1).as_deref() {
        Some("empty") => empty(),
        _ => busy(),
    };
    let cost = Cost { cpu: Duration::from_millis(1_384), peak_rss_bytes: 31_457_280 };
    print!("{}", render_report(&snapshot, cost));
}

/// A generator that always makes the same numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// Around `median`, most of it within a factor of three, some of it far above.
    fn wait(&mut self, median: u64) -> u64 {
        let halves = (0..4).map(|_| self.below(1_000) as f64 / 1_000.0).sum::<f64>() - 2.0;
        let tail = if self.below(220) == 0 { 6.0 + self.below(30) as f64 } else { 1.0 };
        (median as f64 * 2.4_f64.powf(halves * 1.6) * tail) as u64
    }
}

fn put(totals: &mut WaitTotals, ns: u64, times: u64) {
    totals.count += times;
    totals.waited += times;
    totals.sum_ns += ns * times;
    totals.max_ns = totals.max_ns.max(ns);
    let bucket = u16::try_from(bucket(ns)).unwrap_or(0);
    *totals.buckets.entry(bucket).or_default() += times;
}

fn timeline() -> Timeline {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let interval = |n: u64| {
        let mut it = Interval {
            begin_ns: BEGIN + n * SECOND / 2,
            end_ns: BEGIN + (n + 1) * SECOND / 2,
            ..Interval::default()
        };
        // From reading 150 on the application behind is slow; from 210 on it is stopped for a while.
        let burst = (150..205).contains(&n);
        let stopped = (210..246).contains(&n);
        let slowness = if burst { 1 << ((n - 150).min(40) / 4) } else { 1 };
        for (inode, median, many) in [(WEB, 70_000, 90), (TLS, 160_000, 60), (APP, 24_000, 40)] {
            if inode == APP && stopped {
                continue;
            }
            let mut totals = WaitTotals::default();
            let slow = if inode == WEB || inode == APP { slowness } else { 1 };
            for _ in 0..many / 3 + random.below(many) {
                put(&mut totals, random.wait(median * slow), 1 + random.below(3));
            }
            it.accepts.insert(inode, totals);
        }
        let queue = if burst { 40 + u32::try_from((n - 150) * 9).unwrap_or(0) } else { 0 };
        it.queues.insert(WEB, (queue + u32::try_from(random.below(6)).unwrap_or(0)).min(511));
        if stopped {
            it.queues.insert(APP, u32::try_from((n - 209) * 5).unwrap_or(0).min(129));
        }
        if n % 11 == 0 {
            it.queues.insert(TLS, 2);
        }
        if (185..206).contains(&n) {
            it.drops.insert(WEB, 20 + random.below(160));
            it.drops.insert(TLS, random.below(24));
        }
        if stopped && n > 232 {
            it.drops.insert(APP, 6 + random.below(20));
            it.connect_failures.insert(11, 6 + random.below(20));
        }
        if n % 3 == 0 {
            it.connect_failures.insert(13, 1 + random.below(4));
        }
        if (90..130).contains(&n) && n % 2 == 0 {
            it.connect_failures.insert(111, 3 + random.below(9));
        }
        if (196..204).contains(&n) {
            it.accept_errors.insert(24, 10 + random.below(50));
        }
        it
    };
    let mut interval = interval;
    Timeline { intervals: (0..READINGS).map(&mut interval).collect() }
}

fn tcp(address: &str) -> Endpoint {
    Endpoint { address: address.parse().ok().map(Address::Inet), kind: None }
}

fn unix(path: &[u8]) -> Endpoint {
    Endpoint { address: Some(Address::Unix(path.to_vec())), kind: None }
}

fn owner(pid: u32, comm: &str) -> Owner {
    let cgroup = format!("/system.slice/{comm}.service").into_bytes();
    Owner { pid, comm: comm.as_bytes().to_vec(), cgroup: Some(cgroup) }
}

/// What was accepted from a listener in the whole session.
fn accepted(timeline: &Timeline, inode: u64) -> Waits {
    let mut waits = Waits::default();
    timeline.intervals.iter().filter_map(|it| it.accepts.get(&inode)).for_each(|it| waits.add(it));
    waits
}

fn total(timeline: &Timeline, of: impl Fn(&Interval) -> Option<u64>) -> u64 {
    timeline.intervals.iter().filter_map(of).sum()
}

fn dropped(timeline: &Timeline, inode: u64) -> u64 {
    total(timeline, |it| it.drops.get(&inode).copied())
}

fn failed(timeline: &Timeline, errno: u32) -> u64 {
    total(timeline, |it| it.connect_failures.get(&errno).copied())
}

fn listeners(timeline: &Timeline) -> Vec<ListenerRow> {
    let workers = || (0..4).map(|n| owner(1_812 + n, "nginx")).collect::<Vec<_>>();
    let drop = |reason, stage, count| DropRow { reason, stage, count };
    let (web, tls) = (dropped(timeline, WEB), dropped(timeline, TLS));
    let listener = |inode, local, owners: Vec<Owner>, limit, peak| ListenerRow {
        inode,
        local,
        netns: Some(4_026_531_840),
        last_acceptor: owners.last().cloned(),
        listened_by: owners.first().cloned(),
        owners,
        requested: Some(limit),
        effective: u32::try_from(limit).ok(),
        somaxconn: Some(4_096),
        pending_oldest_ns: None,
        queue_now: Some(0),
        queue_peak: Some(peak),
        accept: accepted(timeline, inode),
        backlog_drops: Vec::new(),
    };
    vec![
        ListenerRow {
            backlog_drops: vec![
                drop(Drops::Tcp(DropReason::AcceptQueueFull), Some(DropStage::Syn), web / 3),
                drop(Drops::Tcp(DropReason::AcceptQueueFull), Some(DropStage::Ack), web - web / 3),
                drop(Drops::Tcp(DropReason::SyncookieSent), Some(DropStage::Syn), 318),
            ],
            ..listener(WEB, tcp("0.0.0.0:80"), workers(), 511, 511)
        },
        ListenerRow {
            backlog_drops: vec![drop(Drops::TcpUnknown, None, tls)],
            ..listener(TLS, tcp("[::]:443"), workers(), 511, 2)
        },
        ListenerRow {
            backlog_drops: vec![drop(Drops::UnixBacklogFull, None, dropped(timeline, APP))],
            pending_oldest_ns: Some(3_204_118_731),
            queue_now: Some(7),
            ..listener(
                APP,
                unix(b"/run/shop/checkout.sock"),
                vec![owner(2_290, "gunicorn")],
                128,
                129,
            )
        },
    ]
}

fn finding(
    (severity, certainty): (Severity, Certainty),
    rule: &'static str,
    [subject, fact, consequence, fix]: [Phrase; 4],
    evidence: Vec<Phrase>,
) -> Finding {
    Finding { severity, certainty, rule: rule.into(), subject, fact, consequence, fix, evidence }
}

fn socket_mode() -> Finding {
    finding(
        (Severity::Error, Certainty::Measured),
        "unix-socket-mode",
        [
            name(b"/run/shop/checkout.sock"),
            Phrase::from("the socket's mode 0660 gives others nothing"),
            "its group is www-data (33), and the client is deploy (1001)".into(),
            Phrase::from("chmod o+w ")
                .then(word(b"/run/shop/checkout.sock"))
                .then(", or make the client's user a member of www-data"),
        ],
        vec![
            "srw-rw---- root:www-data /run/shop/checkout.sock".into(),
            "client: fsuid 1001, fsgid 1001, groups 1001, CapEff 0000000000000000".into(),
        ],
    )
}

fn hostile() -> Finding {
    finding(
        (Severity::Error, Certainty::Inferred),
        "unix-stale-socket",
        [
            name("/tmp/<script>alert(\"x\")</script>\u{202e}kcos.\n".as_bytes()),
            "no socket is bound to the file: it was left behind by a server of deploy (1001) that is gone".into(),
            "every connect to it is refused".into(),
            Phrase::from("restart its socket unit (systemctl restart ")
                .then(word(b"'; rm -rf \"<b>\" &amp;.socket"))
                .then(")"),
        ],
        vec![name(b"\0abstract\x1b[31m&<i>")],
    )
}

fn queue_full(lost: u64) -> Finding {
    finding(
        (Severity::Error, Certainty::Measured),
        "accept-queue-full",
        [
            "0.0.0.0:80 of nginx (pid 1812), nginx (pid 1813), nginx (pid 1814) and 1 more".into(),
            format!(
                "{lost} connections were thrown away: the accept queue was full, and it accepts more \
                 slowly than connections come"
            )
            .into(),
            "clients wait for a second or longer and try again, or give up".into(),
            "accept faster (more workers, or what they wait for); a larger backlog only delays this".into(),
        ],
        vec!["backlog 511 asked for, 511 in force, somaxconn 4096, longest queue seen 511".into()],
    )
}

fn findings(timeline: &Timeline) -> Vec<FindingRow> {
    let row = |finding, count, listener, pids: &[u32]| FindingRow {
        finding,
        count,
        listener,
        goes_on: listener == Some(APP),
        pids: pids.iter().copied().collect::<BTreeSet<_>>(),
    };
    let stopped = finding(
        (Severity::Error, Certainty::Measured),
        "stall-owner-stopped",
        [
            "/run/shop/checkout.sock of gunicorn (pid 2290)".into(),
            "129 connections waited for up to 18.2 s, and gunicorn is stopped (SIGSTOP)".into(),
            "nobody accepts until it goes on".into(),
            "let it go on (kill -CONT 2290), and find who stopped it".into(),
        ],
        vec!["last accept 17.9 s before".into()],
    );
    let capped = finding(
        (Severity::Warning, Certainty::Measured),
        "backlog-near-limit",
        [
            "[::]:443 of nginx (pid 1812)".into(),
            "its backlog of 511 is below somaxconn, and bursts come close".into(),
            Phrase::default(),
            "raise the backlog that the server passes to listen()".into(),
        ],
        Vec::new(),
    );
    let route = finding(
        (Severity::Info, Certainty::Unknown),
        "unexplained",
        [
            "10.4.0.17:5432".into(),
            "nothing that socktrace looked at explains the refusal".into(),
            "the server may have been restarting".into(),
            "on that host, run socktrace diagnose 10.4.0.17:5432".into(),
        ],
        vec!["route: via 10.4.0.1 dev eth0".into()],
    );
    vec![
        row(stopped, dropped(timeline, APP), Some(APP), &[2_290]),
        row(
            queue_full(dropped(timeline, WEB)),
            dropped(timeline, WEB),
            Some(WEB),
            &[1_812, 1_813, 1_814, 1_815],
        ),
        row(socket_mode(), failed(timeline, 13), None, &[7_741]),
        row(hostile(), 12, None, &[9_001]),
        row(capped, dropped(timeline, TLS), Some(TLS), &[1_812]),
        row(route, failed(timeline, 111), None, &[2_291]),
    ]
}

fn processes(timeline: &Timeline) -> Vec<ProcessRow> {
    let process = |pid: u32, comm: &[u8], uid| ProcessRow {
        pid: Some(pid),
        start_time_ns: Some(u64::from(pid) * 1_234_567_891),
        comm: Some(comm.to_vec()),
        uid: Some(uid),
        cgroup: Some(
            format!("/system.slice/{}.service", String::from_utf8_lossy(comm)).into_bytes(),
        ),
        ..ProcessRow::default()
    };
    let failure = |target, errno, uid, count, findings: Option<Finding>| ConnectFailureRow {
        target,
        errno,
        uid,
        count,
        findings: findings.map(|finding| Arc::from(vec![finding])),
    };
    let mut blocked = WaitTotals::default();
    (0..58).for_each(|n| put(&mut blocked, n * 310_000_000 + 4_000_000, 1));
    let mut slept = Waits::default();
    slept.add(&blocked);
    let mut rows: Vec<ProcessRow> = (0..4)
        .map(|n| ProcessRow {
            accept_would_block: 1_200 + u64::from(n) * 77,
            ..process(1_812 + n, b"nginx", 33)
        })
        .collect();
    rows[0].accept = accepted(timeline, WEB);
    rows[1].accept = accepted(timeline, TLS);
    rows[2].accept_errors = vec![AcceptErrorRow {
        errno: 24,
        listener: Some(tcp("0.0.0.0:80")),
        count: total(timeline, |it| it.accept_errors.get(&24).copied()),
        findings: None,
    }];
    rows.push(ProcessRow {
        accept: accepted(timeline, APP),
        backlog_drops: vec![(
            unix(b"/run/shop/checkout.sock"),
            DropRow { reason: Drops::UnixBacklogFull, stage: None, count: dropped(timeline, APP) },
        )],
        ..process(2_290, b"gunicorn", 998)
    });
    rows.push(ProcessRow {
        connect_failures: vec![
            failure(unix(b"/run/shop/checkout.sock"), 11, 33, failed(timeline, 11), None),
            failure(tcp("10.4.0.17:5432"), 111, 33, failed(timeline, 111), None),
        ],
        connect_blocked: vec![(unix(b"/run/shop/checkout.sock"), slept)],
        ..process(2_291, b"shop-worker", 33)
    });
    rows.push(ProcessRow {
        connect_failures: vec![failure(
            unix(b"/run/shop/checkout.sock"),
            13,
            1_001,
            failed(timeline, 13),
            Some(socket_mode()),
        )],
        ..process(7_741, b"deploy-check", 1_001)
    });
    rows.push(ProcessRow {
        connect_failures: vec![failure(
            unix("/tmp/<script>alert(\"x\")</script>\u{202e}kcos.\n".as_bytes()),
            111,
            1_001,
            12,
            Some(hostile()),
        )],
        ..process(9_001, b"<img src=x>'\"&\n", 1_001)
    });
    rows.push(ProcessRow {
        pid: None,
        connect_failures: vec![failure(unix(b"\0bus"), 2, 0, 3, None)],
        ..ProcessRow::default()
    });
    rows
}

fn stalls() -> Vec<Stall> {
    let stall = |since: u64, until: u64, change| Stall {
        time_ns: BEGIN + until,
        listener: APP,
        local: unix(b"/run/shop/checkout.sock"),
        netns: Some(4_026_531_840),
        selected: true,
        change,
        since_ns: BEGIN + since,
        is_lower_bound: false,
        pending: 129,
        pending_peak: 129,
        blocked: 4,
        accepted_ns: Some(BEGIN + since),
        owners: vec![owner(2_290, "gunicorn")],
        hold: None,
        acceptor: Some("stopped (SIGSTOP)".to_owned()),
        clients: vec![Waiting {
            pid: Some(2_291),
            comm: Some(b"shop-worker".to_vec()),
            address: None,
            count: 129,
        }],
    };
    vec![
        stall(105 * SECOND, 123 * SECOND + SECOND / 5, StallChange::Closed),
        Stall {
            listener: WEB,
            local: tcp("0.0.0.0:80"),
            acceptor: Some("on CPU (1 of 4 threads)".to_owned()),
            owners: (0..4).map(|n| owner(1_812 + n, "nginx")).collect(),
            clients: vec![Waiting {
                pid: None,
                comm: None,
                address: "10.4.0.9".parse().ok(),
                count: 480,
            }],
            blocked: 0,
            pending: 0,
            pending_peak: 511,
            ..stall(96 * SECOND, 103 * SECOND, StallChange::Closed)
        },
        Stall {
            pending: 7,
            pending_peak: 7,
            is_lower_bound: true,
            ..stall(176 * SECOND + SECOND * 4 / 5, 180 * SECOND, StallChange::Still)
        },
    ]
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
        unattributed: counted.map(|_| Unattributed::default()),
    };
    Snapshot {
        session: session(),
        duration: Duration::from_nanos(READINGS * SECOND / 2),
        completeness: completeness(88_412),
        processes: processes(&timeline),
        listeners: listeners(&timeline),
        stalls: stalls(),
        stalls_left_out: 0,
        findings: findings(&timeline),
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
        findings: Vec::new(),
        namespaces: Vec::new(),
        unread: None,
        timeline: Timeline::default(),
    }
}
