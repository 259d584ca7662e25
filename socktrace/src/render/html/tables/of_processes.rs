//! What processes did: all of them, failed connects, failed accepts, blocked connects.

use socktrace_common::Signal;

use super::{Table, all_waits, empty, name, number, text, wait_ms};
use crate::{
    aggregate::{ProcessRow, Snapshot, Waits},
    diagnose::errno_name,
    host::{container, systemd_unit},
    render::{
        findings::why,
        html::values::{UNKNOWN, bytes, endpoint, family, known},
    },
};

/// As much of a container's id as its tools print.
const SHORT_ID: usize = 12;

pub(in crate::render::html) fn processes(snapshot: &Snapshot) -> Table {
    let table = empty(
        "processes",
        "Processes",
        "Waits are of accepted connections. “Found nothing” counts non-blocking accepts with nothing to accept.",
        "No process did anything.",
    );
    let columns = [
        number("PID"),
        name("Command"),
        number("UID"),
        number("Failed connects"),
        number("Blocked connects"),
        number("Failed accepts"),
        number("Drops"),
        number("Accepted"),
        number("p50 (ms)"),
        number("p90 (ms)"),
        number("p99 (ms)"),
        number("p99.9 (ms)"),
        number("max (ms)"),
        number("sum (ms)"),
        number("Unknown waits"),
        number("Found nothing"),
        name("Unit"),
        name("Container"),
        number("Started (s after boot)"),
        name("Cgroup"),
    ];
    let signals =
        [Signal::ConnectFailure, Signal::ConnectBlocked, Signal::AcceptError, Signal::BacklogDrop];
    let [failures, blocked, errors, drops] = signals.map(|it| snapshot.completeness.other(it));
    let accepts = snapshot.completeness.other(Signal::Accept);
    let counts = [(3, failures), (4, blocked), (5, errors), (6, drops), (7, accepts)];
    table.with(columns, snapshot.processes.iter().map(process)).and_other(counts, 1)
}

fn process(row: &ProcessRow) -> [String; 20] {
    let cgroup = row.cgroup.as_deref();
    let container = cgroup.and_then(container).map(|it| it.id.get(..SHORT_ID).unwrap_or(it.id));
    let sum =
        |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::saturating_add).to_string();
    let drops = row.backlog_drops.iter().filter(|(_, drop)| drop.reason.is_drop());
    let [p50, p90, p99, p999, max, all] = all_waits(&row.accept);
    [
        known(row.pid),
        bytes(row.comm.as_deref()),
        known(row.uid),
        sum(&mut row.connect_failures.iter().map(|it| it.count)),
        sum(&mut row.connect_blocked.iter().map(|(_, waits)| waits.count())),
        sum(&mut row.accept_errors.iter().map(|it| it.count)),
        sum(&mut drops.map(|(_, drop)| drop.count)),
        row.accept.count().to_string(),
        p50,
        p90,
        p99,
        p999,
        max,
        all,
        row.accept.unknown().to_string(),
        row.accept_would_block.to_string(),
        bytes(cgroup.and_then(systemd_unit)),
        known(container),
        known(row.start_time_ns.map(|ns| format!("{:.3}", ns as f64 / 1e9))),
        bytes(cgroup),
    ]
}

pub(in crate::render::html) fn connect_failures(snapshot: &Snapshot) -> Table {
    let table = empty("connect-failures", "Failed connects", "", "No connect failed.");
    let columns = [
        number("Count"),
        text("Errno"),
        text("Family"),
        name("Target"),
        number("PID"),
        name("Command"),
        number("UID"),
        text("Why"),
        text("Certainty"),
        name("Rule"),
    ];
    let rows = snapshot.processes.iter().flat_map(|process| {
        process.connect_failures.iter().map(move |failure| {
            let why = why(failure.findings.as_deref(), &failure.target, failure.errno);
            [
                failure.count.to_string(),
                errno_name(failure.errno),
                family(&failure.target),
                endpoint(&failure.target),
                known(process.pid),
                bytes(process.comm.as_deref()),
                failure.uid.to_string(),
                known(why.cause),
                why.certainty.name().to_owned(),
                known(why.rule),
            ]
        })
    });
    let other = snapshot.completeness.other(Signal::ConnectFailure);
    table.with(columns, rows).and_other([(0, other)], 3)
}

pub(in crate::render::html) fn accept_errors(snapshot: &Snapshot) -> Table {
    let table = empty("accept-errors", "Failed accepts", "", "No accept() failed.");
    let columns = [
        number("Count"),
        text("Errno"),
        name("Listener"),
        number("PID"),
        name("Command"),
        number("UID"),
        name("Rule"),
    ];
    let rows = snapshot.processes.iter().flat_map(|process| {
        process.accept_errors.iter().map(move |error| {
            let found = error.findings.as_deref().and_then(<[_]>::first);
            [
                error.count.to_string(),
                errno_name(error.errno),
                error.listener.as_ref().map_or_else(|| UNKNOWN.to_owned(), endpoint),
                known(process.pid),
                bytes(process.comm.as_deref()),
                known(process.uid),
                known(found.map(|finding| &finding.rule)),
            ]
        })
    });
    let other = snapshot.completeness.other(Signal::AcceptError);
    table.with(columns, rows).and_other([(0, other)], 2)
}

pub(in crate::render::html) fn blocked_connects(snapshot: &Snapshot) -> Table {
    let table = empty(
        "blocked-connects",
        "Blocked connects",
        "Unix connects that slept until the listener's backlog had room.",
        "No connect slept on a full backlog.",
    );
    let columns = [
        number("Count"),
        number("p50 (ms)"),
        number("p99 (ms)"),
        number("max (ms)"),
        number("sum (ms)"),
        name("Target"),
        number("PID"),
        name("Command"),
        number("UID"),
    ];
    let rows = snapshot.processes.iter().flat_map(|process| {
        process.connect_blocked.iter().map(move |(target, waits)| {
            [
                waits.count().to_string(),
                wait_ms(waits, |waits| waits.permille_ns(500)),
                wait_ms(waits, |waits| waits.permille_ns(990)),
                wait_ms(waits, Waits::max_ns),
                wait_ms(waits, Waits::sum_ns),
                endpoint(target),
                known(process.pid),
                bytes(process.comm.as_deref()),
                known(process.uid),
            ]
        })
    });
    let other = snapshot.completeness.other(Signal::ConnectBlocked);
    table.with(columns, rows).and_other([(0, other)], 5)
}

pub(in crate::render::html) fn abandoned_connects(snapshot: &Snapshot) -> Table {
    let table = empty(
        "abandoned-connects",
        "Abandoned connects",
        "TCP connects that the program closed before there was an answer; no failures.",
        "No connect was closed before there was an answer.",
    );
    let columns = [
        number("Count"),
        text("Family"),
        name("Target"),
        number("PID"),
        name("Command"),
        number("UID"),
    ];
    let rows = snapshot.processes.iter().flat_map(|process| {
        process.connects_abandoned.iter().map(move |row| {
            [
                row.count.to_string(),
                family(&row.target),
                endpoint(&row.target),
                known(process.pid),
                bytes(process.comm.as_deref()),
                row.uid.to_string(),
            ]
        })
    });
    table.with(columns, rows).and_other([(0, snapshot.abandoned_other)], 2)
}
