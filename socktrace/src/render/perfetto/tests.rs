//! Traces of made-up sessions, held against the Trace Event Format.

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use socktrace_common::{DropReason, DropStage, TaskKey};

use super::*;
use crate::{
    aggregate::{ListenerRow, Selection},
    event::{Address, Hold, Listener, Owner, Record, Sighting, Task},
};

const START: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// A trace whose aggregator knows the listener 9, but not 8.
struct Fixture {
    trace: Trace,
    aggregator: Aggregator,
}

impl Fixture {
    fn new() -> Self {
        let session = Snapshot::of_nothing().session;
        let mut aggregator = Aggregator::new(session, Selection::default());
        let listener = Listener { local: inet("0.0.0.0:80"), ..Listener::default() };
        aggregator.apply(Record::Listener(9, listener));
        Self { trace: Trace::new(Clock::anchored_at(START, UNIX_EPOCH)), aggregator }
    }

    fn event(&mut self, at_ms: u64, by: Option<Actor>, body: Body) -> Vec<Value> {
        let event = Event { time_ns: START + at_ms * MS, actor: by, body };
        self.trace.event(&event, &self.aggregator)
    }
}

fn inet(text: &str) -> Endpoint {
    Endpoint { address: text.parse().ok().map(Address::Inet), kind: None }
}

fn web() -> Actor {
    let task = Task { comm: b"we\x1bb".to_vec(), uid: 33, gid: 33, cgroup: 0 };
    Actor { key: TaskKey { tgid: 12, ..TaskKey::NONE }, tid: 13, task }
}

fn accept(listener: u64, wait_ns: Option<u64>) -> Body {
    Body::Accept { listener: Some(listener), wait_ns, peer: inet("10.0.0.1:5") }
}

fn stall(listener: u64, change: StallChange, since_ms: u64, now_ms: u64) -> Stall {
    Stall {
        time_ns: START + now_ms * MS,
        listener,
        local: inet("0.0.0.0:80"),
        netns: None,
        selected: true,
        change,
        since_ns: START + since_ms * MS,
        longest_ns: 0,
        is_lower_bound: false,
        pending: 3,
        pending_peak: 4,
        blocked: 0,
        accepted_ns: None,
        owners: vec![Owner { pid: 12, comm: b"\xff".to_vec(), uid: None, cgroup: None }],
        seen_in_part: false,
        hold: Some(Hold::Stopped),
        acceptor: Some("stopped".into()),
        clients: Vec::new(),
    }
}

/// Fields, and whether a value has the type of each.
type Fields = &'static [(&'static str, fn(&Value) -> bool)];

/// Fields of each phase, with the type of each; from the section of the Trace Event Format that is
/// named beside it. `name`, `ph`, `ts`, `pid` and `tid` are of every phase ("Event Descriptions").
const PHASES: [(&str, Fields, &str); 6] = [
    ("b", &[("cat", Value::is_string), ("id", is_hex), ("args", Value::is_object)], "Async Events"),
    ("n", &[("cat", Value::is_string), ("id", is_hex), ("args", Value::is_object)], "Async Events"),
    ("e", &[("cat", Value::is_string), ("id", is_hex), ("args", Value::is_object)], "Async Events"),
    (
        "i",
        &[("cat", Value::is_string), ("s", is_scope), ("args", Value::is_object)],
        "Instant Events",
    ),
    ("C", &[("cat", Value::is_string), ("args", is_numbers)], "Counter Events"),
    ("M", &[("args", is_name)], "Metadata Events"),
];

fn is_hex(id: &Value) -> bool {
    let digits = id.as_str().and_then(|id| id.strip_prefix("0x"));
    digits.is_some_and(|digits| u64::from_str_radix(digits, 16).is_ok())
}

fn is_scope(scope: &Value) -> bool {
    matches!(scope.as_str(), Some("g" | "p" | "t"))
}

fn is_numbers(args: &Value) -> bool {
    args.as_object().is_some_and(|args| !args.is_empty() && args.values().all(Value::is_number))
}

fn is_name(args: &Value) -> bool {
    args.as_object().is_some_and(|args| args.len() == 1 && args["name"].is_string())
}

fn is_u32(number: &Value) -> bool {
    number.as_u64().is_some_and(|number| u32::try_from(number).is_ok())
}

/// Every object has the fields of its phase and no other, every slice ends where it began or later,
/// and every group has a name.
fn assert_format(objects: &[Value]) {
    let mut open: BTreeMap<(String, String), f64> = BTreeMap::new();
    let mut named: Vec<&Value> = Vec::new();
    for object in objects {
        let phase = object["ph"].as_str().expect("a phase");
        let row = PHASES.iter().find(|(known, ..)| *known == phase).expect(phase);
        let (_, fields, section) = row;
        for (field, is_right) in *fields {
            assert!(is_right(&object[*field]), "{section}: {field} of {object}");
        }
        assert!(object["name"].is_string() && is_u32(&object["pid"]) && is_u32(&object["tid"]));
        let at = object["ts"].as_f64().expect("a time");
        assert!(at >= 0.0 && at.is_finite(), "{object}");
        let known = fields.len() + ["name", "ph", "ts", "pid", "tid"].len();
        assert_eq!(object.as_object().expect("an object").len(), known, "{object}");
        let key = (object["cat"].to_string(), object["id"].to_string());
        match phase {
            "b" => assert_eq!(open.insert(key, at), None, "{object} begins twice"),
            "n" => assert!(open.contains_key(&key), "{object} is in no slice"),
            "e" => assert!(open.remove(&key).expect("a beginning") <= at, "{object}"),
            "M" if object["name"] == "process_name" => named.push(&object["pid"]),
            _ => {}
        }
        assert!(named.contains(&&object["pid"]), "{object} is in a group without a name");
    }
    assert!(open.is_empty(), "{open:?} do not end");
}

fn phases(objects: &[Value]) -> String {
    objects.iter().filter_map(|object| object["ph"].as_str()).collect()
}

/// Everything that can happen.
fn session() -> Vec<Value> {
    let mut it = Fixture::new();
    let target = Endpoint { address: Some(Address::Unix(b"\0a\xff".to_vec())), kind: None };
    let drop = Body::BacklogDrop {
        listener: Some(9),
        reason: DropReason::AcceptQueueFull,
        stage: Some(DropStage::Syn),
        queue: Some(5),
        limit: Some(4),
        peer: inet("10.0.0.1:5"),
    };
    let listener = Listener { local: inet("0.0.0.0:80"), ..Listener::default() };
    let failure = Body::ConnectFailure { errno: 13, target: target.clone(), credentials: None };
    let blocked =
        Body::ConnectBlocked { listener: Some(8), target, wait_ns: 3 * MS, errno: Some(11) };
    let mut all = it.event(1, Some(web()), Body::Listen { inode: 9, listener });
    all.extend(it.event(20, Some(web()), accept(9, Some(15 * MS))));
    all.extend(it.event(21, Some(web()), accept(9, Some(15 * MS))));
    all.extend(it.event(22, Some(web()), accept(8, None)));
    all.extend(it.event(23, Some(web()), Body::AcceptError { listener: Some(9), errno: 24 }));
    all.extend(it.event(24, Some(web()), failure));
    all.extend(it.event(25, Some(web()), blocked));
    all.extend(it.event(26, None, drop));
    all.extend(it.event(27, None, Body::AcceptError { listener: None, errno: 24 }));
    all.extend(it.trace.stall(&stall(9, StallChange::Opened, 30, 40)));
    all.extend(it.trace.stall(&stall(9, StallChange::Grown, 30, 50)));
    all.extend(it.trace.stall(&stall(9, StallChange::Closed, 30, 60)));
    all.extend(it.trace.stall(&stall(7, StallChange::Closed, 30, 60)));
    all.extend(it.trace.stall(&stall(9, StallChange::Opened, 70, 80)));
    all.extend(it.trace.stall(&stall(7, StallChange::Opened, 70, 80)));
    let snapshot = Snapshot {
        stalls: vec![stall(9, StallChange::Still, 70, 90)],
        listeners: vec![ListenerRow { inode: 8, local: inet("[::]:1"), ..ListenerRow::default() }],
        ..Snapshot::of_nothing()
    };
    all.extend(it.trace.end(&snapshot));
    all
}

#[test]
fn everything_that_can_happen_has_the_form_of_the_trace_event_format() {
    let all = session();
    assert_format(&all);
    for (phase, ..) in PHASES {
        assert!(phases(&all).contains(phase), "no {phase} in {all:?}");
    }
}

#[test]
fn a_file_is_one_object_with_the_wall_time_of_its_start() {
    let objects: Vec<String> = session().iter().map(Value::to_string).collect();
    let file = format!("{HEAD}{}{}", objects.join(","), tail(&Snapshot::of_nothing()));
    let file: Value = serde_json::from_str(&file).expect("JSON");
    assert_format(file["traceEvents"].as_array().expect("a list"));
    assert_eq!(file["otherData"]["started"], "1970-01-01T00:00:00.000000000Z");
    assert_eq!(file["otherData"]["verdict"], "complete");
    assert_eq!(file["displayTimeUnit"], "ms");
    let text = file.to_string();
    assert!(!text.contains(char::is_control), "hostile bytes are escaped");
}

#[test]
fn a_wait_is_a_slice_that_ends_when_the_connection_is_accepted() {
    let mut it = Fixture::new();
    let out = it.event(20, Some(web()), accept(9, Some(15_000_500)));
    let [group, thread, begin, end] = out.as_slice() else { return assert!(out.is_empty()) };
    assert_eq!(group["args"]["name"], "listener 0.0.0.0:80 (inode 9)");
    assert_eq!((&thread["args"]["name"], &thread["pid"]), (&json!("drops"), &group["pid"]));
    assert_eq!((begin["ts"].as_f64(), end["ts"].as_f64()), (Some(4999.5), Some(20_000.0)));
    assert_eq!(begin["args"]["comm"], "we\\x1bb");
    assert_eq!(begin["args"]["wait_ns"], 15_000_500);
    let next = it.event(21, Some(web()), accept(9, Some(15 * MS)));
    assert_eq!(phases(&next), "be", "the name is told once");
    assert_ne!(next[0]["id"], begin["id"], "waits overlap");
}

#[test]
fn what_began_before_the_session_begins_with_it() {
    let mut it = Fixture::new();
    let out = it.event(2, None, accept(9, Some(15 * MS)));
    assert_eq!(out[2]["ts"].as_f64(), Some(0.0));
    assert_format(&out);
}

#[test]
fn a_failure_is_a_moment_of_the_process_with_its_errno() {
    let mut it = Fixture::new();
    let target = Endpoint { address: Some(Address::Unix(b"\0a\xff".to_vec())), kind: None };
    let out =
        it.event(1, Some(web()), Body::ConnectFailure { errno: 13, target, credentials: None });
    let failure = out.last().expect("an object");
    assert_eq!((&failure["name"], &failure["pid"]), (&json!("connect: EACCES"), &json!(12)));
    assert_eq!(failure["args"]["target"], "@a\\xff");
    assert_eq!(failure["args"]["target_hex"], "0061ff");
    assert_eq!((&failure["args"]["tid"], &failure["args"]["uid"]), (&json!(13), &json!(33)));
}

#[test]
fn a_stall_is_one_slice_from_the_oldest_connection_to_its_end() {
    let mut it = Fixture::new();
    let mut all = it.trace.stall(&stall(9, StallChange::Opened, 30, 40));
    all.extend(it.trace.stall(&stall(9, StallChange::Grown, 30, 50)));
    all.extend(it.trace.stall(&stall(9, StallChange::Closed, 30, 60)));
    assert_format(&all);
    assert_eq!(phases(&all), "MMbCne");
    let at = |phase: &str| all.iter().find(|it| it["ph"] == phase).and_then(|it| it["ts"].as_f64());
    assert_eq!((at("b"), at("n"), at("e")), (Some(30e3), Some(50e3), Some(60e3)));
    assert_eq!(all[2]["args"]["acceptor_state"], "stopped");
}

#[test]
fn a_stall_that_lasts_ends_with_the_session() {
    let mut it = Fixture::new();
    let mut all = it.trace.stall(&stall(9, StallChange::Opened, 30, 40));
    all.extend(it.trace.stall(&stall(7, StallChange::Opened, 30, 40)));
    let stalls = vec![stall(9, StallChange::Still, 30, 90)];
    let snapshot = Snapshot { stalls, duration: Duration::from_secs(2), ..Snapshot::of_nothing() };
    let end = it.trace.end(&snapshot);
    let ends: Vec<_> =
        end.iter().filter(|it| it["ph"] == "e").map(|it| it["ts"].as_f64()).collect();
    assert_eq!(ends, [Some(90e3), Some(2e6)]);
    all.extend(end);
    assert_format(&all);
}

#[test]
fn stalls_beyond_those_that_are_kept_are_shown_when_they_are_over() {
    let mut it = Fixture::new();
    for listener in 1..=MOST_OPEN as u64 {
        it.trace.stall(&stall(listener, StallChange::Opened, 1, 2));
    }
    let late = MOST_OPEN as u64 + 1;
    let mut all = it.trace.stall(&stall(late, StallChange::Opened, 1, 2));
    assert!(!phases(&all).contains('b'));
    all.extend(it.trace.stall(&stall(late, StallChange::Closed, 1, 3)));
    assert_format(&all);
    assert!(phases(&all).contains("be"));
}

#[test]
fn a_queue_is_a_number_that_is_told_when_it_changes() {
    let mut it = Fixture::new();
    let mut look = |at: u64, first: u32, second: Option<u32>| {
        let seen = |queue| Sighting { local: inet("0.0.0.0:80"), queue, ..Sighting::default() };
        let changed = HashMap::from([(9, seen(Some(first))), (8, seen(second))]);
        let time_ns = START + at * MS;
        it.trace.sightings(&Sightings { time_ns, changed, ..Sightings::default() }, &it.aggregator)
    };
    assert_eq!(look(1, 0, Some(0)), [] as [Value; 0], "empty queues have no track");
    let first = look(2, 3, None);
    assert_eq!(phases(&first), "MMC");
    assert_eq!(first[2]["args"], json!({"waiting": 3}));
    assert_eq!(look(3, 3, None), [] as [Value; 0]);
    assert_eq!(look(4, 0, None)[0]["args"], json!({"waiting": 0}));
    let both = look(5, 1, Some(2));
    assert_eq!(phases(&both), "MMCC");
    assert_format(&first);
    let gone = Sightings { time_ns: START + 6 * MS, gone: vec![9, 7], ..Sightings::default() };
    let gone = it.trace.sightings(&gone, &it.aggregator);
    assert_eq!((gone.len(), &gone[0]["args"]), (1, &json!({"waiting": 0})));
}

#[test]
fn a_listener_gets_its_name_at_the_end_where_it_had_none() {
    let all = session();
    let of_8 = |it: &&Value| {
        it["name"] == "process_name"
            && it["args"]["name"].as_str().is_some_and(|name| name.contains("(inode 8)"))
    };
    let told: Vec<_> = all.iter().filter(of_8).map(|it| &it["args"]["name"]).collect();
    assert_eq!(told, ["listener - (inode 8)", "listener [::]:1 (inode 8)"]);
}
