//! The report and events as JSON: names and units are fixed, see `docs/json.md`.
//!
//! Every byte of a traced program goes through [`escape`]; where escaping loses bytes, a `_hex`
//! field beside it keeps them.

use std::time::SystemTime;

use serde_json::{Map, Value, json};
use socktrace_common::Credentials;

use super::{
    escape::{escape, hex, needs_hex, unix_name},
    findings, other, stalls,
    unread::unread_sentences,
};
use crate::{
    aggregate::{
        Aggregator, ConnectFailureRow, DropRow, ListenerRow, NamespaceRow, ProcessRow, Session,
        SessionSignal, Snapshot, Waits,
    },
    diagnose::errno_name,
    event::{
        Address, Body, Diagnosis, Endpoint, Event, Finding, NetstatDelta, Owner, ProgramRuns, Runs,
        Stall, Unread,
    },
    transport::Clock,
};

/// Version of the report and of events: within it, fields are only added.
pub const SCHEMA_VERSION: u32 = 1;

/// The whole report.
pub fn render_report(snapshot: &Snapshot) -> Value {
    let clock = Clock::anchored_at(snapshot.session.started_ns, snapshot.session.started);
    let own = snapshot.namespaces.iter().find(|namespace| namespace.own);
    let rest = own.and_then(|own| own.unattributed);
    json!({
        "schema_version": SCHEMA_VERSION,
        "session": session(&snapshot.session, snapshot.duration.as_nanos()),
        "completeness": completeness(snapshot),
        "probes": snapshot.runs.as_ref().map(runs),
        "processes": snapshot.processes.iter().map(process).collect::<Vec<_>>(),
        "listeners": snapshot
            .listeners
            .iter()
            .map(listener)
            .collect::<Vec<_>>(),
        "netstat": own.and_then(|own| own.counted).map(netstat),
        "unattributed": rest.map(|rest| rest.drops),
        "unattributed_syncookies": rest.map(|rest| rest.cookies),
        "namespaces": snapshot.namespaces.iter().map(namespace).collect::<Vec<_>>(),
        "unseen": snapshot.unread.as_ref().map(unseen),
        "stalls": snapshot.stalls.iter().map(|it| stalls::object(it, &clock)).collect::<Vec<_>>(),
        "stalls_left_out": snapshot.stalls_left_out,
        "other": other::object(snapshot),
        "findings": snapshot
            .findings
            .iter()
            .map(|row| findings::row(row, snapshot.duration.as_secs_f64()))
            .collect::<Vec<_>>(),
    })
}

fn session(session: &Session, duration_ns: u128) -> Value {
    json!({
        "started": time(session.started),
        "duration_ns": u64::try_from(duration_ns).unwrap_or(u64::MAX),
        "host": escape(session.host.as_bytes()),
        "kernel": session.kernel,
        "command": session.command.iter().map(|arg| escape(arg)).collect::<Vec<_>>(),
        "netns": session.netns,
        "untested": session.untested,
        "signals": session.signals.iter().map(signal).collect::<Vec<_>>(),
    })
}

/// A signal's tier, what it loses and what was refused; also what `check --json` prints.
pub fn signal(row: &SessionSignal) -> Value {
    let refused = row.refused.iter().map(|(tier, why)| json!({"tier": tier.name(), "why": why}));
    json!({
        "signal": row.signal.name(),
        "tier": row.tier.map_or("none", |tier| tier.name()),
        "loses": if row.loses.is_empty() { Value::Null } else { json!(row.loses.join("; ")) },
        "refused": refused.collect::<Vec<_>>(),
    })
}

fn completeness(snapshot: &Snapshot) -> Value {
    let completeness = &snapshot.completeness;
    let signals = completeness.signals.iter().map(|row| {
        json!({
            "signal": row.signal.name(),
            "seen": row.seen,
            "filtered": row.filtered,
            "below_threshold": row.below_threshold,
            "sampled_out": row.sampled_out,
            "delivered": row.delivered,
            "lost": {"buffer": row.lost_buffer, "decode": row.lost_decode},
            "unpaired": row.unpaired,
            "full": {"tally": row.full_tally, "pending": row.full_pending, "name": row.full_name},
        })
    });
    json!({
        "verdict": completeness.verdict.name(),
        "events_seen": completeness.seen(),
        "events_delivered": completeness.delivered(),
        "events_lost": completeness.lost(),
        "reasons": completeness.reasons,
        "signals": signals.collect::<Vec<_>>(),
        "missed": completeness.misses.programs,
    })
}

fn runs(runs: &Runs) -> Value {
    let row = |(program, of): (&String, &ProgramRuns)| json!({"program": program, "runs": of.count, "run_time_ns": of.time_ns});
    runs.0.iter().map(row).collect()
}

fn namespace(row: &NamespaceRow) -> Value {
    json!({
        "netns": row.netns,
        "own": row.own,
        "netstat": row.counted.map(netstat),
        "drops_while_read": row.while_read.drops,
        "syncookies_while_read": row.while_read.cookies,
        "unattributed": row.unattributed.map(|rest| rest.drops),
        "unattributed_syncookies": row.unattributed.map(|rest| rest.cookies),
    })
}

fn netstat(netstat: NetstatDelta) -> Value {
    json!({
        "listen_overflows": netstat.overflows,
        "listen_drops": netstat.drops,
        "req_q_full_drop": netstat.syn_queue,
        "req_q_full_do_cookies": netstat.cookies,
    })
}

fn unseen(unread: &Unread) -> Value {
    json!({
        "namespaces_of": unread.namespaces_of,
        "not_entered": unread.not_entered,
        "not_listed": unread.not_listed,
        "interrupted": unread.interrupted,
        "malformed": unread.malformed,
        "descriptors_of": unread.descriptors_of,
        "owners_left_out": unread.owners_left_out,
        "uninvestigated": unread.uninvestigated,
        "reasons": unread_sentences(unread),
    })
}

fn process(row: &ProcessRow) -> Value {
    let mut object = Map::new();
    if let Some(pid) = row.pid {
        object.insert("pid".into(), json!(pid));
    }
    if let Some(start) = row.start_time_ns {
        object.insert("start_time_ns".into(), json!(start));
    }
    put_bytes(&mut object, "comm", row.comm.as_deref());
    object.insert("uid".into(), json!(row.uid));
    put_bytes(&mut object, "cgroup", row.cgroup.as_deref());
    let unit = row.cgroup.as_deref().and_then(crate::host::systemd_unit);
    put_bytes(&mut object, "unit", unit);
    let container = row.cgroup.as_deref().and_then(crate::host::container);
    object.insert("container".into(), json!(container.map(|container| container.id)));
    object.insert("accept".into(), Value::Object(counted_waits(&row.accept)));
    object.insert("accept_would_block".into(), json!(row.accept_would_block));
    let errors = row.accept_errors.iter().map(|error| {
        let mut object = Map::new();
        object.insert("errno".into(), json!(errno_name(error.errno)));
        if let Some(listener) = &error.listener {
            put_endpoint(&mut object, "listener", listener);
        }
        object.insert("count".into(), json!(error.count));
        if let Some(found) = error.findings.as_deref().and_then(<[_]>::first) {
            object.insert("rule".into(), json!(found.rule));
        }
        Value::Object(object)
    });
    object.insert("accept_errors".into(), errors.collect());
    let failures = row.connect_failures.iter().map(connect_failure);
    object.insert("connect_failures".into(), failures.collect());
    let abandoned = row.connects_abandoned.iter().map(|row| {
        let mut object = Map::new();
        put_target(&mut object, &row.target);
        object.insert("uid".into(), json!(row.uid));
        object.insert("count".into(), json!(row.count));
        Value::Object(object)
    });
    object.insert("connects_abandoned".into(), abandoned.collect());
    let drops = row.backlog_drops.iter().map(|(local, drop)| {
        let mut object = drop_row(drop);
        put_endpoint(&mut object, "listener", local);
        Value::Object(object)
    });
    object.insert("backlog_drops".into(), drops.collect());
    let blocked = row.connect_blocked.iter().map(|(target, waits)| {
        let mut object = counted_waits(waits);
        put_target(&mut object, target);
        Value::Object(object)
    });
    object.insert("connect_blocked".into(), blocked.collect());
    Value::Object(object)
}

/// Count and distribution of waits.
fn counted_waits(waits: &Waits) -> Map<String, Value> {
    let distribution = waits.any().then(|| {
        json!({
            "p50": waits.permille_ns(500),
            "p90": waits.permille_ns(900),
            "p99": waits.permille_ns(990),
            "p999": waits.permille_ns(999),
            "max": waits.max_ns(),
            "sum": waits.sum_ns(),
        })
    });
    let mut object = Map::new();
    object.insert("count".into(), json!(waits.count()));
    object.insert("wait_unknown".into(), json!(waits.unknown()));
    object.insert("wait_ns".into(), json!(distribution));
    object
}

fn connect_failure(row: &ConnectFailureRow) -> Value {
    let mut object = Map::new();
    put_target(&mut object, &row.target);
    object.insert("errno".into(), json!(errno_name(row.errno)));
    object.insert("uid".into(), json!(row.uid));
    object.insert("count".into(), json!(row.count));
    put_why(&mut object, row.findings.as_deref(), &row.target, row.errno);
    Value::Object(object)
}

fn put_why(
    object: &mut Map<String, Value>,
    found: Option<&[Finding]>,
    target: &Endpoint,
    errno: u32,
) {
    let why = findings::why(found, target, errno);
    object.insert("cause".into(), json!(why.cause));
    object.insert("fix".into(), json!(why.fix));
    object.insert("certainty".into(), json!(why.certainty.name()));
    object.insert("rule".into(), json!(why.rule));
}

fn drop_row(drop: &DropRow) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("reason".into(), json!(drop.reason.name()));
    object.insert("stage".into(), json!(drop.stage_name()));
    object.insert("count".into(), json!(drop.count));
    object
}

/// The unit that all owners belong to.
pub(super) fn common_unit(owners: &[Owner]) -> Option<&[u8]> {
    let mut units =
        owners.iter().map(|it| it.cgroup.as_deref().and_then(crate::host::systemd_unit));
    let first = units.next()?;
    units.all(|unit| unit == first).then_some(first)?
}

fn listener(row: &ListenerRow) -> Value {
    let mut object = Map::new();
    object.insert("family".into(), json!(family(&row.local)));
    put_endpoint(&mut object, "local", &row.local);
    object.insert("netns".into(), json!(row.netns));
    object.insert("inode".into(), json!((row.inode != 0).then_some(row.inode)));
    object.insert("owners".into(), row.owners.iter().map(owner).collect());
    object.insert("listened_by".into(), json!(row.listened_by.as_ref().map(owner)));
    object.insert("last_acceptor".into(), json!(row.last_acceptor.as_ref().map(owner)));
    object.insert(
        "backlog".into(),
        json!({
            "requested": row.requested,
            "effective": row.effective,
            "somaxconn": row.somaxconn,
        }),
    );
    object.insert("queue".into(), json!({"now": row.queue_now, "peak": row.queue_peak}));
    object.insert("pending_oldest_ns".into(), json!(row.pending_oldest_ns));
    put_bytes(&mut object, "unit", common_unit(&row.owners));
    put_bytes(&mut object, "socket_unit", row.socket_unit.as_deref());
    object.insert("accept".into(), Value::Object(counted_waits(&row.accept)));
    let drops = row.backlog_drops.iter().map(|drop| Value::Object(drop_row(drop)));
    object.insert("backlog_drops".into(), drops.collect());
    Value::Object(object)
}

pub(super) fn owner(owner: &Owner) -> Value {
    let mut object = Map::new();
    object.insert("pid".into(), json!(owner.pid));
    put_bytes(&mut object, "comm", Some(&owner.comm));
    Value::Object(object)
}

/// One event as one object.
pub fn render_event(event: &Event, clock: &Clock, so_far: &Aggregator) -> Value {
    let mut object = Map::new();
    object.insert("schema_version".into(), json!(SCHEMA_VERSION));
    object.insert("time".into(), json!(time(clock.wall(event.time_ns))));
    object.insert("monotonic_ns".into(), json!(event.time_ns));
    object.insert("signal".into(), json!(event.body.signal().name()));
    if let Some(actor) = &event.actor {
        object.insert("pid".into(), json!(actor.key.tgid));
        object.insert("tid".into(), json!(actor.tid));
        object.insert("start_time_ns".into(), json!(actor.key.start_ns));
        put_bytes(&mut object, "comm", Some(&actor.task.comm));
        object.insert("uid".into(), json!(actor.task.uid));
    }
    put_body(&mut object, &event.body, so_far);
    Value::Object(object)
}

/// One change of a stall as one object.
pub fn render_stall(stall: &Stall, clock: &Clock) -> Value {
    stalls::event(stall, clock)
}

/// What was found out, an object for each finding.
pub fn render_diagnosis(diagnosis: &Diagnosis, clock: &Clock) -> Vec<Value> {
    findings::events(diagnosis, clock)
}

fn put_body(object: &mut Map<String, Value>, body: &Body, so_far: &Aggregator) {
    let put_listener = |object: &mut Map<String, Value>, inode: Option<u64>| {
        let local = inode.and_then(|inode| so_far.listener_address(inode));
        object.insert("family".into(), json!(local.map_or("unknown", family)));
        put_endpoint(object, "listener", local.unwrap_or(&Endpoint::default()));
        object.insert("inode".into(), json!(inode));
    };
    match body {
        Body::Accept { listener, wait_ns, peer } => {
            put_listener(object, *listener);
            put_endpoint(object, "peer", peer);
            object.insert("wait_ns".into(), json!(wait_ns));
        }
        Body::AcceptError { listener, errno } => {
            put_listener(object, *listener);
            object.insert("errno".into(), json!(errno_name(*errno)));
        }
        Body::ConnectFailure { errno, target, credentials } => {
            put_target(object, target);
            object.insert("errno".into(), json!(errno_name(*errno)));
            put_why(object, None, target, *errno);
            object.insert("credentials".into(), json!(credentials.as_deref().map(rights)));
        }
        Body::ConnectBlocked { listener, target, wait_ns, errno } => {
            put_target(object, target);
            object.insert("inode".into(), json!(listener));
            object.insert("wait_ns".into(), json!(wait_ns));
            object.insert("errno".into(), json!(errno.map(errno_name)));
        }
        Body::BacklogDrop { listener, reason, stage, queue, limit, peer } => {
            put_listener(object, *listener);
            let reason = crate::aggregate::Drops::Tcp(*reason);
            object.extend(drop_row(&DropRow { reason, stage: *stage, count: 1 }));
            object.insert("queue".into(), json!({"now": queue, "limit": limit}));
            put_endpoint(object, "peer", peer);
        }
        Body::Listen { inode, listener } => {
            object.insert("family".into(), json!(family(&listener.local)));
            put_endpoint(object, "listener", &listener.local);
            object.insert("inode".into(), json!(inode));
            object.insert("netns".into(), json!(listener.netns));
            object.insert(
                "backlog".into(),
                json!({"requested": listener.requested, "effective": listener.effective}),
            );
        }
    }
}

fn rights(held: &Credentials) -> Value {
    json!({
        "fsuid": held.fsuid,
        "fsgid": held.fsgid,
        "groups": held.groups,
        "cap_effective": format!("{:016x}", held.cap_effective),
        "user_namespace": held.user_namespace,
        "mount_namespace": held.mount_namespace,
        "net_namespace": held.net_namespace,
        "root_inode": held.root,
        "cwd_inode": held.cwd,
        "address_len": (held.address_len != 0).then_some(held.address_len),
    })
}

pub(super) fn family(end: &Endpoint) -> &'static str {
    end.address.as_ref().map_or("unknown", Address::family)
}

fn put_target(object: &mut Map<String, Value>, target: &Endpoint) {
    object.insert("family".into(), json!(family(target)));
    put_endpoint(object, "target", target);
}

/// An address in text; `null` where it is unknown, `""` for a Unix socket without a name.
pub(super) fn put_endpoint(object: &mut Map<String, Value>, name: &str, end: &Endpoint) {
    match &end.address {
        None => {
            object.insert(name.into(), Value::Null);
        }
        Some(Address::Inet(address)) => {
            object.insert(name.into(), json!(address.to_string()));
        }
        Some(Address::Unix(bytes)) => {
            object.insert(name.into(), json!(unix_name(bytes)));
            if needs_hex(bytes) {
                object.insert(format!("{name}_hex"), json!(hex(bytes)));
            }
        }
    }
}

pub(super) fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    object.insert(name.into(), json!(bytes.map(escape)));
    if let Some(bytes) = bytes
        && needs_hex(bytes)
    {
        object.insert(format!("{name}_hex"), json!(hex(bytes)));
    }
}

pub(super) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}
