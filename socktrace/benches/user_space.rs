//! What user space does with an event, a session and a report, each by itself: `cargo xtask bench user`.

use std::{
    fs,
    hint::black_box,
    path::Path,
    slice,
    time::{Duration, UNIX_EPOCH},
};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use socktrace::{
    aggregate::{Aggregator, Selection, Snapshot},
    event::{Record, Source},
    render::{html, json, text},
    session::{End, Header, Reader, Writer},
    transport::{Clock, decode},
};
use socktrace_common::{AcceptEvent, Actor, Endpoint, EventHeader, Signal, TaskKey};

/// The richest session of the tests: a record of each kind.
const SESSION: &str = "../tests/sessions/v1-rich.jsonl.zst";
/// Events at a time, as a busy buffer is drained.
const EVENTS: u64 = 1_000;
const LENGTH: Duration = Duration::from_secs(10);

/// An accept as the kernel side sends it.
fn sent() -> Vec<u8> {
    let actor = Actor {
        task: TaskKey { start_ns: 1_000_000_000, tgid: 4242, pad: 0 },
        tid: 4242,
        comm: *b"nginx\0\0\0\0\0\0\0\0\0\0\0",
        ..Actor::NONE
    };
    let size = u32::try_from(size_of::<AcceptEvent>()).expect("a small event");
    let header = EventHeader { signal: Signal::Accept as u32, size, time_ns: 7_000_000_000, actor };
    let event = AcceptEvent { header, listener: 4711, wait_ns: 12_345_678, peer: Endpoint::NONE };
    // SAFETY: integers and arrays of integers without padding, see `socktrace_common`.
    unsafe { slice::from_raw_parts((&raw const event).cast::<u8>(), size_of::<AcceptEvent>()) }
        .to_vec()
}

fn file() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(SESSION)).expect("a session of the tests")
}

/// Everything in a session.
fn read(file: &[u8]) -> (Header, Vec<Record>) {
    let mut reader = Reader::open(file).expect("a session");
    let mut records = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    while runtime.block_on(reader.read(&mut records)).expect("whole frames") {}
    reader.finish(&mut records).expect("its last lines");
    (reader.header().clone(), records)
}

fn snapshot(header: &Header, records: Vec<Record>) -> Snapshot {
    let mut aggregator = Aggregator::new(header.session.clone(), Selection::default());
    for record in records {
        aggregator.apply(record);
    }
    aggregator.snapshot(LENGTH)
}

fn events(criterion: &mut Criterion) {
    let bytes = sent();
    let (header, _) = read(&file());
    let event = decode(&bytes).expect("an event");
    let mut group = criterion.benchmark_group("event");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| (0..EVENTS).filter(|_| decode(black_box(&bytes)).is_ok()).count());
    });
    group.bench_function("aggregate", |bencher| {
        let events = || (0..EVENTS).map(|_| Record::Event(event.clone())).collect::<Vec<_>>();
        let fresh = || (Aggregator::new(header.session.clone(), Selection::default()), events());
        let apply = |(mut aggregator, events): (Aggregator, Vec<Record>)| {
            for event in events {
                aggregator.apply(event);
            }
            aggregator
        };
        bencher.iter_batched(fresh, apply, BatchSize::SmallInput);
    });
    let so_far = Aggregator::new(header.session.clone(), Selection::default());
    let clock = Clock::anchored_at(0, UNIX_EPOCH);
    group.bench_function("text", |bencher| {
        let mut line = String::new();
        bencher.iter(|| {
            (0..EVENTS).fold(0, |all, _| {
                line.clear();
                text::write_event(&mut line, black_box(&event), &clock, &so_far);
                all + line.len()
            })
        });
    });
    group.bench_function("json", |bencher| {
        let line = || json::render_event(black_box(&event), &clock, &so_far).to_string();
        bencher.iter(|| (0..EVENTS).fold(0, |all, _| all + line().len()));
    });
    group.bench_function("write", |bencher| {
        let record = Record::Event(event.clone());
        let aggregator = Aggregator::new(header.session.clone(), Selection::default());
        bencher.iter(|| {
            let mut writer =
                Writer::new(Vec::new(), &header).map_err(|(_, error)| error).expect("memory");
            for _ in 0..EVENTS {
                writer.record(&record, aggregator.totals()).expect("memory");
            }
            let end = End { duration_ns: 1, cpu_ns: 1, peak_rss_bytes: 1, cut: None };
            writer.finish(aggregator.totals(), &end).expect("memory");
            writer.into_out()
        });
    });
    group.finish();
}

fn sessions(criterion: &mut Criterion) {
    let file = file();
    let (header, records) = read(&file);
    let report = snapshot(&header, records);
    let mut group = criterion.benchmark_group("session");
    group.bench_function("read", |bencher| bencher.iter(|| read(black_box(&file))));
    group.bench_function("aggregate", |bencher| {
        bencher.iter_batched(
            || read(&file).1,
            |records| snapshot(&header, records),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("text", |bencher| {
        bencher.iter(|| text::render_report(black_box(&report), None));
    });
    group.bench_function("json", |bencher| {
        bencher.iter(|| json::render_report(black_box(&report)).to_string());
    });
    group.bench_function("html", |bencher| {
        bencher.iter(|| html::render_report(black_box(&report), None));
    });
    group.finish();
}

criterion_group!(benches, events, sessions);
criterion_main!(benches);
