//! Listeners, processes and stalls.

use std::sync::Arc;

use socktrace::aggregate::{
    AcceptErrorRow, ConnectFailureRow, DropRow, Drops, ListenerRow, ProcessRow, Timeline, Waits,
};
use socktrace::event::{
    Address, Endpoint, Finding, Owner, Stall, StallChange, WaitTotals, Waiting,
};
use socktrace_common::{DropReason, DropStage};

use crate::course::{
    APP, BEGIN, DATABASE, SECOND, TLS, WEB, accepted, dropped, failed, put, total,
};
use crate::findings::{hostile, socket_mode};

/// As long as a path can be.
const DATABASE_PATH: &[u8] = b"/run/user/1001/containers/overlay/8f31c0d2a9e64b7f9d3e5a6b7c8d9e0f/merged/var/run/postgresql/.s.PGSQL.5432";

pub(crate) fn tcp(address: &str) -> Endpoint {
    Endpoint { address: address.parse().ok().map(Address::Inet), kind: None }
}

pub(crate) fn unix(path: &[u8]) -> Endpoint {
    Endpoint { address: Some(Address::Unix(path.to_vec())), kind: None }
}

pub(crate) fn owner(pid: u32, comm: &str) -> Owner {
    let cgroup = format!("/system.slice/{comm}.service").into_bytes();
    Owner { pid, comm: comm.as_bytes().to_vec(), uid: None, cgroup: Some(cgroup) }
}

pub(crate) fn listeners(timeline: &Timeline) -> Vec<ListenerRow> {
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
        socket_unit: None,
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
        ListenerRow {
            netns: None,
            owners: Vec::new(),
            listened_by: None,
            last_acceptor: None,
            requested: None,
            somaxconn: None,
            ..listener(DATABASE, unix(DATABASE_PATH), vec![owner(3_004, "postgres")], 200, 0)
        },
    ]
}

pub(crate) fn processes(timeline: &Timeline) -> Vec<ProcessRow> {
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

pub(crate) fn stalls() -> Vec<Stall> {
    let stall = |since: u64, until: u64, change| Stall {
        time_ns: BEGIN + until,
        listener: APP,
        local: unix(b"/run/shop/checkout.sock"),
        netns: Some(4_026_531_840),
        selected: true,
        change,
        since_ns: BEGIN + since,
        longest_ns: until - since,
        is_lower_bound: false,
        pending: 129,
        pending_peak: 129,
        blocked: 4,
        accepted_ns: Some(BEGIN + since),
        owners: vec![owner(2_290, "gunicorn")],
        seen_in_part: false,
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
