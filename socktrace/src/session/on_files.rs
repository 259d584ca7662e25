//! Sessions that were written, damaged, and read again.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, UNIX_EPOCH},
};

use socktrace_common::{
    AcceptErrorKey, AcceptKey, ConnectBlockedKey, ConnectFailureKey, Credentials, DropKey,
    DropReason, DropStage, Signal, Stage, TaskKey, Tier,
};

use super::*;
use crate::{
    aggregate::{Aggregator, PathGlob, Selection, Session, SessionSignal, Verdict},
    event::{
        Actor, Address, Body, Certainty, Counters, Damage, Diagnosis, Endpoint, Event,
        FailureClass, Finding, Hold, Incident, Listener, Meanwhile, MemoryCounters, Misses,
        NamespaceCounters, NetstatDelta, Owner, ProgramRuns, ReaderLoss, Record, Runs, Severity,
        Sighting, Sightings, SocketKind, Source as _, Stages, Stall, StallChange, Task, Unread,
        WaitTotals, Waiting, name, phrase, word,
    },
};

/// What a process may call itself, and a path be called.
const HOSTILE: &[u8] = b"a\n\x1b[2J\xff\\x41\xe2\x80\xae\0z";

fn header() -> Header {
    let signal = |signal| SessionSignal {
        signal,
        tier: Some(Tier::Kprobe),
        loses: vec!["what it loses".into()],
        refused: vec![(Tier::Fentry, "why".into())],
    };
    Header {
        schema_version: SCHEMA_VERSION,
        socktrace_version: "0.1.0".into(),
        interval_ns: 1_000_000_000,
        part: 1,
        session: Session {
            started: UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789),
            started_ns: 5_000,
            host: "host".into(),
            kernel: "6.1".into(),
            command: vec![b"cmd".to_vec(), HOSTILE.to_vec()],
            signals: Signal::ALL.map(signal).into(),
            untested: None,
            somaxconn: Some(4096),
            netns: Some(4_026_531_840),
        },
        filters: Selection {
            path: PathGlob::parse("/run/*.sock").ok(),
            comm: Some(HOSTILE.to_vec()),
            in_kernel: true,
            ..Selection::default()
        },
    }
}

fn unix(name: &[u8]) -> Endpoint {
    let address = Some(Address::Unix(name.to_vec()));
    Endpoint { address, kind: Some(SocketKind::Seqpacket) }
}

fn inet() -> Endpoint {
    let address = Some(Address::Inet(([0xfe80, 0, 0, 0, 0, 0, 0, 1], 443).into()));
    Endpoint { address, kind: Some(SocketKind::Stream) }
}

const TASK: TaskKey = TaskKey { start_ns: 77, tgid: 9, pad: 0 };

fn task() -> Task {
    Task { comm: HOSTILE[..10].to_vec(), uid: 33, gid: 34, cgroup: 35 }
}

fn event(body: Body) -> Record {
    let actor = Actor { key: TASK, tid: 10, task: task() };
    Record::Event(Event { time_ns: 6_000, actor: Some(actor), body })
}

fn failure(target: Endpoint) -> Record {
    let credentials = Credentials { cap_effective: u64::MAX, groups: 2, ..Credentials::NONE };
    event(Body::ConnectFailure { errno: 13, target, credentials: Some(Box::new(credentials)) })
}

fn events() -> Vec<Record> {
    let drop = Body::BacklogDrop {
        listener: Some(7),
        reason: DropReason::AcceptQueueFull,
        stage: Some(DropStage::Ack),
        queue: Some(5),
        limit: Some(4),
        peer: inet(),
    };
    let unnamed = Endpoint { address: Some(Address::Unix(Vec::new())), kind: None };
    vec![
        event(Body::Accept { listener: Some(7), wait_ns: Some(9), peer: inet() }),
        event(Body::Accept { listener: None, wait_ns: None, peer: unnamed }),
        event(Body::AcceptError { listener: Some(7), errno: 24 }),
        failure(unix(HOSTILE)),
        failure(unix(b"\0abstract\0name")),
        failure(unix(b"@relative\\x40")),
        failure(unix(b"path\0and more")),
        event(Body::ConnectBlocked {
            listener: Some(7),
            target: unix(b"/run/a"),
            wait_ns: 1,
            errno: Some(4000),
        }),
        Record::Event(Event { time_ns: 6_001, actor: None, body: drop }),
        event(Body::Listen { inode: 7, listener: listener() }),
    ]
}

fn listener() -> Listener {
    Listener {
        local: unix(b"/run/a"),
        netns: Some(1),
        owner: Some(TASK),
        requested: Some(-1),
        effective: Some(128),
        drops_at_close: Some(3),
        selected: true,
        ..Listener::default()
    }
}

fn counters() -> Counters {
    let waits = WaitTotals {
        count: 3,
        waited: 2,
        sum_ns: 30,
        max_ns: 20,
        buckets: BTreeMap::from([(1, 1), (600, 1)]),
    };
    let target = (&unix(b"/run/a")).into();
    let mut stages = Stages::default();
    for signal in Signal::ALL {
        for stage in Stage::ALL {
            stages.0[signal as usize][stage as usize] = signal as u64 * 100 + stage as u64;
        }
    }
    let drop = DropKey { listener: 7, reason: DropReason::ListenerClosed as u32, stage: u32::MAX };
    Counters {
        time_ns: 7_000,
        accepts: HashMap::from([(AcceptKey { task: TASK, listener: 7 }, waits.clone())]),
        accept_errors: HashMap::from([(
            AcceptErrorKey { task: TASK, listener: 7, errno: 24, pad: 0 },
            1,
        )]),
        connect_failures: HashMap::from([(
            ConnectFailureKey { task: TASK, errno: 13, uid: 33, target },
            4,
        )]),
        connect_blocked: HashMap::from([(
            ConnectBlockedKey { task: TASK, listener: 7, target },
            waits,
        )]),
        drops: HashMap::from([(drop, 8)]),
        tasks: HashMap::from([(TASK, task())]),
        listeners: HashMap::from([(7, listener())]),
        stages,
    }
}

fn stall() -> Stall {
    Stall {
        time_ns: 6_500,
        listener: 7,
        local: inet(),
        netns: None,
        selected: true,
        change: StallChange::Grown,
        since_ns: 1,
        longest_ns: 0,
        is_lower_bound: true,
        pending: 2,
        pending_peak: 3,
        blocked: 1,
        accepted_ns: Some(5),
        owners: vec![Owner {
            pid: 1,
            comm: HOSTILE.to_vec(),
            uid: Some(33),
            cgroup: Some(b"/x".to_vec()),
        }],
        seen_in_part: false,
        hold: Some(Hold::Throttled),
        acceptor: Some("asleep".into()),
        clients: vec![Waiting {
            pid: None,
            comm: Some(HOSTILE.to_vec()),
            address: Some([10, 0, 0, 1].into()),
            count: 2,
        }],
    }
}

fn diagnosis() -> Diagnosis {
    let class = FailureClass {
        errno: 13,
        uid: 33,
        target: unix(HOSTILE),
        credentials: None,
        task: Some(TASK),
    };
    let finding = Finding {
        severity: Severity::Warning,
        certainty: Certainty::Inferred,
        rule: "a-rule".into(),
        subject: phrase![name(HOSTILE)],
        fact: phrase!["a fact of ", word(HOSTILE)],
        consequence: phrase![],
        fix: phrase!["do"],
        evidence: vec![phrase!["seen"]],
    };
    let of = Incident::ConnectFailure(class);
    Diagnosis { time_ns: 6_600, of, listener: Some(7), findings: vec![finding] }
}

/// One of each kind.
fn records() -> Vec<Record> {
    let sighting =
        Sighting { local: inet(), queue: Some(3), drops: Some(9), ..Sighting::default() };
    let changed = HashMap::from([(7, sighting)]);
    let counted = Some(NetstatDelta { overflows: 1, drops: 2, syn_queue: 3, cookies: 4 });
    let misses = Misses {
        programs: BTreeMap::from([("hook".into(), Some(2)), ("other".into(), None)]),
        unseen: BTreeMap::from([("accepts".into(), 2)]),
    };
    let mut records = vec![
        Record::Sightings(Sightings { time_ns: 5_500, baseline: true, changed, gone: vec![3] }),
        Record::Listener(7, listener()),
    ];
    records.extend(events());
    records.extend([
        Record::Stall(Box::new(stall())),
        Record::Diagnosis(Box::new(diagnosis())),
        Record::Owners(HashMap::from([(7, stall().owners)])),
        Record::Unread(Unread { not_entered: vec![1, 2], ..Unread::default() }),
        Record::Cgroups(HashMap::from([(35, HOSTILE.to_vec())])),
        Record::Namespaces(vec![NamespaceCounters {
            netns: 1,
            own: true,
            counted,
            while_read: Meanwhile { drops: 2, cookies: 1 },
            memory: Some(MemoryCounters { pressures: Some(5), ..MemoryCounters::default() }),
            syncookies: Some(1),
        }]),
        Record::Loss(ReaderLoss { undecodable: 1, perf_lost: 2 }),
        Record::Misses(misses),
        Record::Runs(Runs(BTreeMap::from([("hook".into(), ProgramRuns { count: 3, time_ns: 7 })]))),
        Record::Counters(Box::new(counters())),
    ]);
    records
}

const END: End = End { duration_ns: 2_000, cpu_ns: 1, peak_rss_bytes: 4096, cut: None };

fn written() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &header()).expect("memory");
    let mut aggregator = Aggregator::new(header().session, header().filters);
    for record in records() {
        writer.record(&record, aggregator.totals()).expect("memory");
        aggregator.apply(record);
    }
    writer.finish(aggregator.totals(), &END).expect("memory");
    std::mem::take(writer.out())
}

/// Everything that a file tells, and the end that it tells of.
fn read(file: &[u8]) -> Result<(Vec<Record>, Option<End>), ReadError> {
    let mut reader = Reader::open(file)?;
    let mut records = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    while runtime.block_on(reader.read(&mut records))? {}
    reader.finish(&mut records)?;
    Ok((records, reader.end().cloned()))
}

fn verdict(records: Vec<Record>) -> Verdict {
    let mut aggregator = Aggregator::new(header().session, header().filters);
    for record in records {
        aggregator.apply(record);
    }
    aggregator.snapshot(Duration::ZERO).completeness.verdict
}

#[test]
fn every_record_comes_back_as_it_was() {
    let (found, end) = read(&written()).expect("a session");
    assert_eq!(end, Some(END));
    // All totals once more, in the end.
    let mut expected = records();
    expected.push(Record::Counters(Box::new(counters())));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    }
    let file = written();
    let reader = Reader::open(file.as_slice()).expect("a session");
    assert_eq!(format!("{:?}", reader.header()), format!("{:?}", header()));
}

#[test]
fn a_later_part_has_the_report_of_the_whole_session() {
    let mut whole = Aggregator::new(header().session, header().filters);
    for record in records() {
        whole.apply(record);
    }
    let mut writer = Writer::new(Vec::new(), &Header { part: 2, ..header() }).expect("memory");
    for record in whole.carry() {
        writer.record(&record, &Counters::default()).expect("memory");
    }
    writer.flush().expect("memory");
    let part = std::mem::take(writer.out());
    let mut later = Aggregator::new(header().session, header().filters);
    for record in read(&part).expect("a session").0 {
        later.apply(record);
    }
    // Both go on in the same way; only that a part without its end is damaged tells them apart.
    let new = Counters { time_ns: 8_000, ..counters() };
    for aggregator in [&mut whole, &mut later] {
        aggregator.apply(failure(unix(b"/run/b")));
        aggregator.apply(Record::Counters(Box::new(new.clone())));
        aggregator.apply(Record::Damage(Damage::default()));
    }
    let told = |aggregator: &Aggregator| format!("{:#?}", aggregator.snapshot(Duration::ZERO));
    assert_eq!(told(&whole), told(&later));
}

#[test]
fn every_prefix_is_a_session_that_is_not_complete_or_says_why_it_is_none() {
    let file = written();
    for length in 0..file.len() {
        match read(&file[..length]) {
            Ok((records, end)) => {
                assert_eq!(end, None, "{length}");
                assert_eq!(verdict(records), Verdict::Incomplete, "{length}");
            }
            Err(ReadError::Empty) => assert_eq!(length, 0),
            Err(error) => assert!(matches!(error, ReadError::NoSession), "{length}: {error}"),
        }
    }
}

#[test]
fn every_single_bit_that_flips_is_noticed() {
    let file = written();
    let intact = format!("{:?}", read(&file).expect("a session").0);
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << bit;
            match read(&damaged) {
                Ok((records, _)) => {
                    let is_damaged = matches!(records.last(), Some(Record::Damage(_)));
                    let same = !is_damaged && format!("{records:?}") == intact;
                    assert!(same || verdict(records) == Verdict::Incomplete, "{at}.{bit}");
                }
                Err(error) => assert!(matches!(error, ReadError::NoSession), "{at}.{bit}: {error}"),
            }
        }
    }
}

fn framed(lines: &[&str]) -> Vec<u8> {
    zstd::bulk::compress(lines.join("\n").as_bytes(), 3).expect("memory")
}

#[test]
fn a_newer_major_version_is_refused_by_its_number() {
    let file = framed(&[r#"{"session":{"schema_version":2,"anything":[]}}"#]);
    assert!(matches!(Reader::open(file.as_slice()), Err(ReadError::Newer(2))));
}

#[test]
fn a_kind_that_is_not_known_is_counted_and_no_damage() {
    let mut file = written();
    file.extend(framed(&[r#"{"later":{"a":[[[1]]]}}"#]));
    let mut reader = Reader::open(file.as_slice()).expect("a session");
    let mut records = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    while runtime.block_on(reader.read(&mut records)).expect("memory") {}
    reader.finish(&mut records).expect("memory");
    assert_eq!(reader.unknown_kinds(), 1);
    assert!(!records.iter().any(|record| matches!(record, Record::Damage(_))));
}

#[test]
fn lines_that_are_no_records_are_counted_and_the_others_are_read() {
    let deep = format!(r#"{{"event":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let long = format!(r#"{{"loss":{{"undecodable":{}}}}}"#, "9".repeat(100_000));
    let lines = [
        deep.as_str(),
        &long,
        "",
        "{}",
        "null",
        r#"{"loss":{"undecodable":-1,"perf_lost":0}}"#,
        r#"{"loss":{"undecodable":"1","perf_lost":0}}"#,
        r#"{"event":{"time_ns":1,"what":{"accept_error":{"errno":"EWHAT"}}}}"#,
        r#"{"loss":{"undecodable":3,"perf_lost":0}}"#,
        "\u{0}",
        r#"{"loss":{"undecodable":18446744073709551615,"perf_lost":0}}"#,
        r#"{"misses":{"programs":{"\u001b[2J":1},"unseen":{}}}"#,
    ];
    let mut file = written();
    file.extend(framed(&lines));
    let (records, _) = read(&file).expect("a session");
    let losses = records.iter().filter(|record| matches!(record, Record::Loss(_)));
    assert_eq!(losses.count(), 2);
    let Some(Record::Damage(damage)) = records.last() else { unreachable!("{records:?}") };
    assert_eq!(damage.malformed, 11);
}

#[test]
fn totals_of_very_many_rows_come_back_from_frames_that_are_not_too_large() {
    let mut many = counters();
    let waits = |n| WaitTotals {
        count: n,
        waited: n,
        buckets: (0..624).map(|bucket| (bucket, n)).collect(),
        ..WaitTotals::default()
    };
    many.accepts = (0..4000)
        .map(|listener| (AcceptKey { task: TASK, listener }, waits(listener + 1)))
        .collect();
    let mut writer = Writer::new(Vec::new(), &header()).expect("memory");
    writer.finish(&many, &END).expect("memory");
    let file = std::mem::take(writer.out());
    let (records, _) = read(&file).expect("a session");
    let mut aggregator = Aggregator::new(header().session, header().filters);
    for record in records {
        aggregator.apply(record);
    }
    assert_eq!(aggregator.totals().accepts, many.accepts);
}
