//! Stalls: as a sentence, as a line of `watch`, as JSON.

use serde_json::{Map, Value, json};

use super::{
    cells::{UNKNOWN, endpoint, family},
    event_line::Columns,
    json::{owner, put_bytes, put_endpoint, time},
};
use crate::{
    event::{Stall, StallChange, Waiting},
    transport::Clock,
};

/// One line of `watch`, in the columns of [`super::text::event_header`].
pub(super) fn line(stall: &Stall, clock: &Clock) -> String {
    let first = stall.owners.first();
    let mut told = vec![change(stall.change).to_owned()];
    if stall.change != StallChange::Closed {
        told.push(format!("{} waiting", stall.pending));
        told.extend((stall.blocked != 0).then(|| format!("{} blocked", stall.blocked)));
        told.extend(stall.acceptor.clone());
    }
    let columns = Columns {
        time: clock.wall(stall.time_ns),
        what: "stall",
        pid: first.map(|owner| owner.pid),
        comm: first.map(|owner| owner.comm.as_slice()),
        uid: None,
        family: family(&stall.local),
        result: UNKNOWN,
        wait: &bounded(stall, &format!("{:.1}", stall.oldest_ns() as f64 / 1e6)),
    };
    format!("{columns}{} {}", endpoint(&stall.local), told.join(", "))
}

/// As it stands in the report, and (with what opens every event) as an event.
pub(super) fn object(stall: &Stall, clock: &Clock) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("family".into(), json!(family(&stall.local)));
    put_endpoint(&mut object, "listener", &stall.local);
    object.insert("inode".into(), json!(stall.listener));
    object.insert("netns".into(), json!(stall.netns));
    object.insert("since".into(), json!(time(clock.wall(stall.since_ns))));
    let over = stall.change == StallChange::Closed;
    object.insert("until".into(), json!(over.then(|| time(clock.wall(stall.time_ns)))));
    object.insert("pending".into(), json!(stall.pending));
    object.insert("pending_peak".into(), json!(stall.pending_peak));
    object.insert("blocked".into(), json!(stall.blocked));
    object.insert("oldest_ns".into(), json!(stall.oldest_ns()));
    object.insert("oldest_is_lower_bound".into(), json!(stall.is_lower_bound));
    let ago = stall.accepted_ns.map(|at| stall.time_ns.saturating_sub(at));
    object.insert("last_accept_ns_ago".into(), json!(ago));
    object.insert("owners".into(), stall.owners.iter().map(owner).collect());
    object.insert("seen_in_part".into(), json!(stall.seen_in_part));
    object.insert("acceptor_state".into(), json!(stall.acceptor));
    object.insert("clients".into(), stall.clients.iter().map(client).collect());
    object
}

/// One change as one object.
pub(super) fn event(stall: &Stall, clock: &Clock) -> Value {
    let mut event = Map::new();
    event.insert("schema_version".into(), json!(super::json::SCHEMA_VERSION));
    event.insert("time".into(), json!(time(clock.wall(stall.time_ns))));
    event.insert("monotonic_ns".into(), json!(stall.time_ns));
    event.insert("signal".into(), json!("stall"));
    event.insert("change".into(), json!(change(stall.change)));
    event.extend(object(stall, clock));
    Value::Object(event)
}

const fn change(change: StallChange) -> &'static str {
    match change {
        StallChange::Opened => "opened",
        StallChange::Grown => "grown",
        StallChange::Still => "still",
        StallChange::Closed => "closed",
    }
}

fn bounded(stall: &Stall, age: &str) -> String {
    if stall.is_lower_bound { format!("≥{age}") } else { age.to_owned() }
}

fn client(client: &Waiting) -> Value {
    let mut object = Map::new();
    if let Some(pid) = client.pid {
        object.insert("pid".into(), json!(pid));
        put_bytes(&mut object, "comm", client.comm.as_deref());
    }
    if let Some(address) = client.address {
        object.insert("address".into(), json!(address.to_string()));
    }
    object.insert("count".into(), json!(client.count));
    Value::Object(object)
}
