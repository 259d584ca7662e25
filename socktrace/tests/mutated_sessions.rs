//! Sessions that were changed value by value, line by line and byte by byte: whatever they say, they are
//! read, added up and printed without a panic, and nothing of them moves a terminal.
//!
//! The changes are the same each time; `SOCKTRACE_MUTATE_SECONDS` makes more of them. `fuzz` is the same
//! with a fuzzer that looks at coverage.

use std::{
    panic::catch_unwind,
    path::Path,
    pin::pin,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use socktrace::{
    aggregate::Aggregator,
    pipeline::{self, StopAfter},
    render::{json as as_json, text},
    session::Reader,
};

/// Seconds, where nobody asks for more.
const SECONDS: u64 = 15;
/// Sessions that are changed.
const KEPT: [&str; 3] = ["v1-rich", "v1-killed", "v1-hostile"];
/// Lines of a changed session, at most: a few of them can be looked at often.
const LINES: usize = 40;

/// Random numbers (`SplitMix64`).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 33).unwrap_or(0) % limit.max(1)
    }
}

fn kept(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/sessions");
    let file = std::fs::read(path.join(format!("{name}.jsonl.zst"))).expect("a kept session");
    let mut text = Vec::new();
    let mut decoder = zstd::Decoder::new(file.as_slice()).expect("memory");
    std::io::copy(&mut decoder, &mut text).expect("whole frames");
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("a line")).collect()
}

/// What a value is changed into.
fn other(value: &Value, chance: &mut Chance) -> Value {
    let numbers = [0, 1, 2, 1 << 31, u64::from(u32::MAX), 1 << 63, u64::MAX - 1, u64::MAX];
    match chance.below(12) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(1e300),
        4 => json!("x".repeat(chance.below(300))),
        5 => json!("\u{1b}[2J\u{202e}\u{9b}"),
        6 => json!([value, value]),
        7 => json!({ "x": value }),
        8 => json!([]),
        _ => json!(numbers[chance.below(numbers.len())]),
    }
}

/// Changes one value somewhere in a line.
fn change(value: &mut Value, chance: &mut Chance) {
    let stays = chance.below(5) == 0;
    match value {
        Value::Array(all) if !all.is_empty() && !stays => {
            let at = chance.below(all.len());
            match chance.below(6) {
                0 => drop(all.remove(at)),
                1 => all.push(all[at].clone()),
                _ => change(&mut all[at], chance),
            }
        }
        Value::Object(all) if !all.is_empty() && !stays => {
            let name = all.keys().nth(chance.below(all.len())).cloned().unwrap_or_default();
            match chance.below(8) {
                0 => drop(all.remove(&name)),
                _ => change(all.get_mut(&name).unwrap_or(&mut Value::Null), chance),
            }
        }
        _ => *value = other(value, chance),
    }
}

/// A session of some of the lines, some of them changed.
fn changed(lines: &[Value], chance: &mut Chance) -> Vec<u8> {
    let mut all = vec![lines[0].clone()];
    all.extend((0..chance.below(LINES)).map(|_| lines[chance.below(lines.len())].clone()));
    for _ in 0..=chance.below(12) {
        let at = chance.below(all.len());
        // Mostly the body of a line: its kind must be known to get any further.
        match all[at].as_object_mut().and_then(|line: &mut Map<_, _>| line.values_mut().next()) {
            Some(body) if chance.below(20) != 0 => change(body, chance),
            _ => change(&mut all[at], chance),
        }
    }
    let mut text: Vec<u8> = all.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
    for _ in 0..chance.below(4) {
        let at = chance.below(text.len());
        text[at] ^= 1 << chance.below(8);
    }
    let mut file: Vec<u8> = text
        .split_inclusive(|byte| *byte == b'\n')
        .flat_map(|line| zstd::bulk::compress(line, 1).expect("memory"))
        .collect();
    if chance.below(10) == 0 {
        let at = chance.below(file.len());
        file[at] ^= 1 << chance.below(8);
    }
    file
}

/// Whether it was a session at all.
fn report(file: &[u8]) -> bool {
    let Ok(mut reader) = Reader::open(file) else { return false };
    let header = reader.header().clone();
    let mut aggregator = Aggregator::new(header.session, header.filters);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (mut sink, stop) = (StopAfter::new(None), pin!(std::future::pending::<()>()));
    let run = pipeline::run(&mut reader, &mut aggregator, &mut sink, stop);
    runtime.block_on(run).expect("no I/O");
    let duration = reader.end().map_or(reader.last_ns(), |end| end.duration_ns);
    let snapshot = aggregator.snapshot(Duration::from_nanos(duration));
    let printed =
        [text::render_report(&snapshot, None), as_json::render_report(&snapshot).to_string()];
    for c in printed.iter().flat_map(|text| text.chars()) {
        let moves = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(!moves && (matches!(c, '\n' | '\t') || !c.is_control()), "{c:?} is printed");
    }
    true
}

#[test]
fn sessions_that_were_changed_anywhere_are_read_added_up_and_printed() {
    let asked = std::env::var("SOCKTRACE_MUTATE_SECONDS").ok().and_then(|text| text.parse().ok());
    let limit = Duration::from_secs(asked.unwrap_or(SECONDS));
    let (begin, kept) = (Instant::now(), KEPT.map(kept));
    let (mut rounds, mut sessions) = (0, 0u64);
    while begin.elapsed() < limit {
        let lines = &kept[usize::try_from(rounds % 3).unwrap_or(0)];
        let file = changed(lines, &mut Chance(rounds));
        let is_session = catch_unwind(|| report(&file)).ok();
        assert!(is_session.is_some(), "round {rounds} ends in a panic, which is told above");
        sessions += u64::from(is_session == Some(true));
        rounds += 1;
    }
    println!("{rounds} rounds, {sessions} of them sessions");
    assert!(
        sessions > rounds / 4,
        "{sessions} of {rounds} were sessions: hardly anything was read"
    );
}
