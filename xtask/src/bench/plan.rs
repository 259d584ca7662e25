//! What is measured: the operations, how often, and socktrace in its tiers and modes.
//!
//! Written as JSON for the program `bench` of the tests crate, which does it. Other tracers are in `peers.rs`.

use serde::Serialize;

/// A whole run.
#[derive(Serialize)]
pub(super) struct Plan {
    pub(super) rounds: u32,
    pub(super) pairs: u32,
    pub(super) work: Vec<Work>,
    pub(super) subjects: Vec<Subject>,
    /// Where bpftool is, if programs are to be told one by one.
    pub(super) bpftool: Option<String>,
}

/// One operation, and how often a round does it.
#[derive(Serialize)]
pub(super) struct Work {
    pub(super) operation: &'static str,
    pub(super) count: u64,
}

/// A tracer.
#[derive(Clone, Serialize)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) command: Vec<String>,
    /// What it prints once it traces; not given if it does not say.
    pub(super) ready: Option<String>,
}

/// The operations. A round of each takes some ten million instructions, some milliseconds.
const WORK: &[(&str, u64)] = &[
    ("getpid", 20_000),
    ("tcp", 400),
    ("tcp-blocking", 300),
    ("unix", 1000),
    ("unix-blocking", 600),
    ("unix-missing", 1500),
    ("unix-stale", 1500),
    ("tcp-refused", 800),
    ("tcp-overflow", 600),
];

/// The operations, each `times` as often in a round.
pub(super) fn work(times: u64) -> Vec<Work> {
    let work = |&(operation, count)| Work { operation, count: count * times };
    WORK.iter().map(work).collect()
}

/// The name of socktrace as it runs by default, in `tier`.
pub(super) fn default_name(tier: &str) -> String {
    format!("record, {tier}")
}

/// socktrace in `tier`, as it runs by default.
pub(super) fn default_mode(socktrace: &str, tier: &str) -> Subject {
    let words = ["record", "--no-save"];
    own(socktrace, default_name(tier), &words, tier)
}

/// socktrace in each of `tiers` and modes.
pub(super) fn modes(socktrace: &str, tiers: &[&str]) -> Vec<Subject> {
    let modes = |tier: &&str| {
        [
            default_mode(socktrace, tier),
            own(
                socktrace,
                format!("record -P 1, {tier}"),
                &["record", "--no-save", "-P", "1"],
                tier,
            ),
            own(socktrace, format!("watch --all, {tier}"), &["watch", "--all"], tier),
        ]
    };
    tiers.iter().flat_map(modes).collect()
}

/// `watch --all` by the older buffer.
pub(super) fn by_perf(socktrace: &str, tier: &str) -> Subject {
    let name = format!("watch --all --transport perf, {tier}");
    own(socktrace, name, &["watch", "--all", "--transport", "perf"], tier)
}

fn own(socktrace: &str, name: String, words: &[&str], tier: &str) -> Subject {
    // Its incidents are over before anything is measured, and they take most of an emulated start.
    let words = [&[socktrace][..], words, &["--tier", tier, "--no-self-test"]].concat();
    Subject {
        name,
        command: words.into_iter().map(str::to_owned).collect(),
        ready: Some("attached".to_owned()),
    }
}
