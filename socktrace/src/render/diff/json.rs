//! A difference as JSON: names and units are fixed, see `docs/json.md`.

use serde_json::{Map, Value, json};

use crate::{
    aggregate::{
        Waits,
        diff::{
            ConnectOf, Count, Diff, Found, ListenerOf, ProcessOf, Row, Side, Stalled, TierChange,
        },
    },
    diagnose::errno_name,
    event::{Address, Endpoint, Severity},
    render::{
        escape::escape,
        json::{SCHEMA_VERSION, family, put_bytes, put_endpoint, time},
        phrases,
    },
};

/// The whole difference.
pub fn render_json(diff: &Diff) -> Value {
    let seconds = [diff.before.duration, diff.after.duration].map(|it| it.as_secs_f64());
    let counted = |it: &Count, seconds| counts(it.0, seconds);
    let failures = diff.connect_failures.iter().map(|row| {
        let mut of = program(&row.of.process);
        put_address(&mut of, "target", row.of.target.as_ref());
        of.insert("errno".into(), json!(errno_name(row.of.errno)));
        self::row(row, of, seconds, counted)
    });
    let abandoned = diff
        .connects_abandoned
        .iter()
        .map(|row| self::row(row, connect(&row.of), seconds, counted));
    let blocked = diff
        .connect_blocked
        .iter()
        .map(|row| self::row(row, connect(&row.of), seconds, |it: &Waits, _| waits(it)));
    let errors = diff.accept_errors.iter().map(|row| {
        let mut of = program(&row.of.process);
        of.extend(listener(&row.of.listener));
        of.insert("errno".into(), json!(errno_name(row.of.errno)));
        self::row(row, of, seconds, counted)
    });
    let drops = diff.backlog_drops.iter().map(|row| {
        let mut of = listener(&row.of.listener);
        of.insert("reason".into(), json!(row.of.reason.name()));
        self::row(row, of, seconds, counted)
    });
    let accept_waits = diff
        .accept_waits
        .iter()
        .map(|row| self::row(row, listener(&row.of), seconds, |it: &Waits, _| waits(it)));
    let stalls = diff.stalls.iter().map(|row| self::row(row, listener(&row.of), seconds, stalled));
    let findings = diff.findings.iter().map(|row| {
        let mut of = Map::new();
        of.insert("rule".into(), json!(escape(row.of.rule.as_bytes())));
        of.insert("subject".into(), json!(phrases::text(&row.of.subject)));
        self::row(row, of, seconds, found)
    });
    json!({
        "schema_version": SCHEMA_VERSION,
        "before": side(&diff.before),
        "after": side(&diff.after),
        "tiers": diff.tiers.iter().map(tier).collect::<Vec<_>>(),
        "connect_failures": failures.collect::<Vec<_>>(),
        "connects_abandoned": abandoned.collect::<Vec<_>>(),
        "connect_blocked": blocked.collect::<Vec<_>>(),
        "accept_errors": errors.collect::<Vec<_>>(),
        "accept_waits": accept_waits.collect::<Vec<_>>(),
        "backlog_drops": drops.collect::<Vec<_>>(),
        "stalls": stalls.collect::<Vec<_>>(),
        "findings": findings.collect::<Vec<_>>(),
    })
}

/// What it is about, what became of it, and how it was in both sessions.
fn row<K, V>(
    row: &Row<K, V>,
    of: Map<String, Value>,
    seconds: [f64; 2],
    figures: impl Fn(&V, f64) -> Value,
) -> Value {
    let [was, is] = seconds;
    let mut object = of;
    object.insert("change".into(), json!(row.change.name()));
    object.insert("before".into(), json!(row.before.as_ref().map(|it| figures(it, was))));
    object.insert("after".into(), json!(row.after.as_ref().map(|it| figures(it, is))));
    Value::Object(object)
}

fn side(side: &Side) -> Value {
    json!({
        "started": time(side.started),
        "duration_ns": u64::try_from(side.duration.as_nanos()).unwrap_or(u64::MAX),
        "host": escape(side.host.as_bytes()),
        "kernel": escape(side.kernel.as_bytes()),
        "verdict": side.verdict.name(),
        "reasons": side.reasons,
        "stalls_left_out": side.stalls_left_out,
    })
}

fn tier(row: &TierChange) -> Value {
    let [before, after] = [row.before, row.after].map(|it| it.map_or("none", |tier| tier.name()));
    json!({"signal": row.signal.name(), "before": before, "after": after})
}

fn program(process: &ProcessOf) -> Map<String, Value> {
    let mut object = Map::new();
    put_bytes(&mut object, "comm", process.comm.as_deref());
    put_bytes(&mut object, "unit", process.unit.as_deref());
    object
}

fn connect(connect: &ConnectOf) -> Map<String, Value> {
    let mut object = program(&connect.process);
    put_address(&mut object, "target", connect.target.as_ref());
    object
}

fn listener(listener: &ListenerOf) -> Map<String, Value> {
    let mut object = Map::new();
    put_address(&mut object, "listener", listener.local.as_ref());
    object
}

fn put_address(object: &mut Map<String, Value>, name: &str, address: Option<&Address>) {
    let end = Endpoint { address: address.cloned(), kind: None };
    object.insert("family".into(), json!(family(&end)));
    put_endpoint(object, name, &end);
}

fn per_second(count: u64, seconds: f64) -> Value {
    json!((seconds > 0.0).then(|| count as f64 / seconds))
}

fn counts(count: u64, seconds: f64) -> Value {
    json!({"count": count, "per_second": per_second(count, seconds)})
}

fn waits(waits: &Waits) -> Value {
    let distribution = waits.any().then(|| {
        json!({
            "p50": waits.permille_ns(500),
            "p90": waits.permille_ns(900),
            "p99": waits.permille_ns(990),
            "p999": waits.permille_ns(999),
            "max": waits.max_ns(),
        })
    });
    json!({"count": waits.count(), "wait_ns": distribution})
}

fn stalled(stalled: &Stalled, seconds: f64) -> Value {
    json!({
        "count": stalled.count,
        "per_second": per_second(stalled.count, seconds),
        "oldest_ns": stalled.oldest_ns,
    })
}

fn found(found: &Found, seconds: f64) -> Value {
    json!({
        "severity": found.severity.map(Severity::name),
        "count": found.count,
        "per_second": per_second(found.count, seconds),
    })
}
