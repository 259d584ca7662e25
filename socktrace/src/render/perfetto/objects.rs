//! Single objects of the Trace Event Format, by phase.
//!
//! Owns which fields each phase has. The format is "Trace Event Format" of the Chromium project, "JSON
//! Object Format"; sections are named at each phase. Times come in as nanoseconds since the start and
//! go out as microseconds.

use serde_json::{Map, Value, json};

/// A slice that may overlap with others: "Async Events", `b`, `n` and `e`. What has the same category
/// and id belongs together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) name: &'static str,
    pub(super) cat: &'static str,
    pub(super) group: u32,
    pub(super) id: u64,
}

impl Span {
    /// Where it begins.
    pub(super) fn begin(&self, at: u64, args: Map<String, Value>) -> Value {
        self.object("b", at, args)
    }

    /// A moment within it.
    pub(super) fn mark(&self, at: u64, args: Map<String, Value>) -> Value {
        self.object("n", at, args)
    }

    /// Where it ends.
    pub(super) fn end(&self, at: u64, args: Map<String, Value>) -> Value {
        self.object("e", at, args)
    }

    /// All of it.
    pub(super) fn whole(&self, begin: u64, end: u64, args: Map<String, Value>) -> [Value; 2] {
        [self.begin(begin.min(end), args), self.end(end, Map::new())]
    }

    fn object(&self, phase: &str, at: u64, args: Map<String, Value>) -> Value {
        json!({
            "name": self.name,
            "cat": self.cat,
            "ph": phase,
            "id": format!("{:#x}", self.id),
            "ts": micros(at),
            "pid": self.group,
            "tid": self.group,
            "args": Value::Object(args),
        })
    }
}

/// A moment: "Instant Events", `i`, of one thread.
pub(super) fn instant(
    name: &str,
    cat: &'static str,
    group: u32,
    at: u64,
    args: Map<String, Value>,
) -> Value {
    json!({
        "name": name,
        "cat": cat,
        "ph": "i",
        "s": "t",
        "ts": micros(at),
        "pid": group,
        "tid": group,
        "args": Value::Object(args),
    })
}

/// A number from now on: "Counter Events", `C`.
pub(super) fn counter(name: &str, group: u32, at: u64, series: &str, value: u32) -> Value {
    json!({
        "name": name,
        "cat": "queue",
        "ph": "C",
        "ts": micros(at),
        "pid": group,
        "tid": group,
        "args": {series: value},
    })
}

/// What a group is called, and its one thread: "Metadata Events", `M`.
pub(super) fn names(group: u32, process: &str, thread: &str) -> [Value; 2] {
    let named = |what: &str, name: &str| json!({"name": what, "ph": "M", "ts": 0, "pid": group, "tid": group, "args": {"name": name}});
    [named("process_name", process), named("thread_name", thread)]
}

/// The unit of the format; fractions are allowed.
fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}
