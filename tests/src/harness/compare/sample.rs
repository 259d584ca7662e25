//! A small record and the report that fits it, for the unit tests of every comparison.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::harness::report::Report;
use crate::scenario::record::{
    AcceptErrors, Accepts, Failure, Listen, Netstat, Seen, TcpDrops, UnixDrops,
};

const MS: u64 = 1_000_000;

/// What a scenario of one process saw.
pub(super) fn seen() -> Seen {
    let (pid, comm) = (10, "st".to_owned());
    let tcp = "127.0.0.1:80".to_owned();
    let unix = "/run/b.sock".to_owned();
    let netstat = Netstat {
        listen_overflows: 7,
        listen_drops: 7,
        reqq_full_drop: 0,
        reqq_full_do_cookies: 2,
    };
    Seen {
        pid,
        comm: comm.clone(),
        somaxconn: 4096,
        failures: vec![Failure {
            pid,
            uid: 5,
            comm: comm.clone(),
            family: "unix".to_owned(),
            target: "/run/x.sock".to_owned(),
            errno: "EACCES".to_owned(),
            count: 3,
            ..Failure::default()
        }],
        accepts: vec![Accepts {
            pid,
            comm: comm.clone(),
            family: "inet".to_owned(),
            listener: tcp.clone(),
            inode: 77,
            count: 2,
            lower_ns: vec![10 * MS, 2 * MS],
            upper_ns: vec![11 * MS, 3 * MS],
            ..Accepts::default()
        }],
        accept_errors: vec![accept_error(&comm, &tcp)],
        tcp_drops: vec![TcpDrops {
            pid,
            comm: comm.clone(),
            listener: tcp.clone(),
            inode: 77,
            netstat,
            at_least_ack: 2,
            ..TcpDrops::default()
        }],
        unix_drops: vec![UnixDrops {
            pid,
            comm,
            listener: unix,
            inode: 78,
            count: 6,
            ..UnixDrops::default()
        }],
        listens: vec![listen(&tcp)],
        netstat,
        ..Seen::default()
    }
}

fn accept_error(comm: &str, listener: &str) -> AcceptErrors {
    AcceptErrors {
        pid: 10,
        comm: comm.to_owned(),
        listener: listener.to_owned(),
        inode: 77,
        errno: "EMFILE".to_owned(),
        count: 4,
        would_block: 5,
        ..AcceptErrors::default()
    }
}

fn listen(local: &str) -> Listen {
    Listen {
        pid: 10,
        family: "inet".to_owned(),
        local: local.to_owned(),
        inode: 77,
        requested: 9000,
        effective: 4096,
        ..Listen::default()
    }
}

/// The report that fits [`seen`].
pub(super) fn good() -> Value {
    let tcp_drops = json!([
        {"listener": "127.0.0.1:80", "reason": "accept_queue_full", "stage": "syn", "count": 5},
        {"listener": "127.0.0.1:80", "reason": "accept_queue_full", "stage": "ack", "count": 2},
        {"listener": "127.0.0.1:80", "reason": "syncookie_sent", "stage": "syn", "count": 2},
    ]);
    let unix_drops = json!([
        {"listener": "/run/b.sock", "reason": "unix_backlog_full", "stage": "connect", "count": 6},
    ]);
    let wait = json!({"p50": 2 * MS, "p90": 11 * MS, "p99": 11 * MS, "p999": 11 * MS,
                      "max": 11 * MS, "sum": 13 * MS});
    let both = [tcp_drops.as_array(), unix_drops.as_array()].into_iter().flatten().flatten();
    let all_drops: Vec<&Value> = both.collect();
    json!({
        "session": {"signals": [{"signal": "accept", "tier": "fentry"},
                                {"signal": "backlog_drop", "tier": "fentry"}]},
        "completeness": {"verdict": "complete", "events_seen": 9, "events_delivered": 4,
            "events_lost": 0, "signals": [
                {"signal": "connect_failure", "seen": 9, "filtered": 5, "below_threshold": 0,
                 "sampled_out": 0, "delivered": 4, "lost": {"buffer": 0, "decode": 0}}]},
        "processes": [{"pid": 10, "comm": "st", "uid": 5,
            "accept": {"count": 2, "wait_ns": wait},
            "accept_errors": [{"errno": "EMFILE", "count": 4}],
            "connect_failures": [{"family": "unix", "target": "/run/x.sock", "errno": "EACCES",
                                  "count": 3, "cause": "mode", "certainty": "measured"}],
            "backlog_drops": all_drops}],
        "listeners": [
            {"family": "inet", "local": "127.0.0.1:80", "inode": 77,
             "owners": [{"pid": 10, "comm": "st"}],
             "backlog": {"requested": 9000, "effective": 4096, "somaxconn": 4096},
             "queue": {"now": 0, "peak": 4097},
             "accept": {"count": 2, "wait_ns": wait}, "backlog_drops": tcp_drops},
            {"family": "unix", "local": "/run/b.sock", "inode": 78,
             "queue": {"now": null, "peak": null},
             "owners": [{"pid": 10, "comm": "st"}], "backlog_drops": unix_drops}],
    })
}

/// A report from its JSON.
pub(super) fn report(json: &Value) -> Result<Report> {
    serde_json::from_value(json.clone()).context("a sample report")
}
