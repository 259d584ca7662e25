//! One sentence per problem, the worst first: fact, consequence, next step.

use socktrace_common::DropReason;

use super::{
    cells::{bytes, endpoint, millis, number, owners},
    stalls,
};
use crate::{
    aggregate::{Drops, ListenerRow, ProcessRow, Snapshot},
    diagnose::{cause, errno_name},
    event::{Address, StallChange},
};

/// Sentences beyond this many are counted, not printed.
const SHOWN: usize = 12;
/// A connection that waited this long is worth a sentence.
const SLOW_NS: u64 = 100_000_000;

/// Every problem of a report.
pub(super) fn problems(snapshot: &Snapshot) -> Vec<String> {
    let mut problems: Vec<(u64, String)> = Vec::new();
    for process in &snapshot.processes {
        connect_failures(process, &mut problems);
        accept_errors(process, &mut problems);
        connect_blocked(process, &mut problems);
    }
    for row in &snapshot.listeners {
        drops(row, snapshot, &mut problems);
        slow(row, &mut problems);
    }
    // What waits still comes first.
    for stall in &snapshot.stalls {
        let weight = if stall.change == StallChange::Closed { 1 } else { u64::MAX };
        problems.push((weight, stalls::sentence(stall)));
    }
    problems.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    let more = problems.len().saturating_sub(SHOWN);
    let mut sentences: Vec<String> =
        problems.into_iter().take(SHOWN).map(|(_, sentence)| sentence).collect();
    if more > 0 {
        sentences.push(format!("… and {more} more problems in the tables below."));
    }
    sentences
}

fn who(process: &ProcessRow, uid: Option<u32>) -> String {
    format!("{} (pid {}, uid {})", bytes(process.comm.as_deref()), number(process.pid), number(uid))
}

fn times(n: u64) -> String {
    if n == 1 { "once".to_owned() } else { format!("{n} times") }
}

fn connect_failures(process: &ProcessRow, problems: &mut Vec<(u64, String)>) {
    for failure in &process.connect_failures {
        let family = failure.target.address.as_ref().map_or("", Address::family);
        let why = match cause(family, failure.errno) {
            Some(known) => format!(": {}. Next: {}.", known.cause, known.fix),
            None => ". Its cause is unknown.".to_owned(),
        };
        let sentence = format!(
            "{} could not connect to {} {} ({}){why}",
            who(process, Some(failure.uid)),
            endpoint(&failure.target),
            times(failure.count),
            errno_name(failure.errno),
        );
        problems.push((failure.count, sentence));
    }
}

fn connect_blocked(process: &ProcessRow, problems: &mut Vec<(u64, String)>) {
    for (target, waits) in process.connect_blocked.iter().filter(|(_, waits)| waits.any()) {
        let sentence = format!(
            "{} slept in connect() to {} {}, up to {} ms, until the listener's backlog had room. \
             Next: look at what the listener's owner does instead of accept().",
            who(process, process.uid),
            endpoint(target),
            times(waits.count()),
            millis(waits.max_ns()),
        );
        problems.push((waits.count(), sentence));
    }
}

fn accept_errors(process: &ProcessRow, problems: &mut Vec<(u64, String)>) {
    for error in &process.accept_errors {
        let on = error.listener.as_ref().map(|local| format!(" on {}", endpoint(local)));
        let why = match errno_name(error.errno).as_str() {
            "EMFILE" => {
                ": it has no descriptor left, and connections wait meanwhile. Next: raise its \
                 limit (ulimit -n, LimitNOFILE=), or find what it does not close."
            }
            "ENFILE" => {
                ": the host has no file left. Next: raise fs.file-max, or find who holds them."
            }
            _ => ". Next: see accept(2).",
        };
        let sentence = format!(
            "{}: accept(){} failed {} ({}){why}",
            who(process, process.uid),
            on.unwrap_or_default(),
            times(error.count),
            errno_name(error.errno),
        );
        problems.push((error.count, sentence));
    }
}

fn drops(row: &ListenerRow, snapshot: &Snapshot, problems: &mut Vec<(u64, String)>) {
    for drop in row.backlog_drops.iter().filter(|drop| drop.reason.is_drop()) {
        let why = match drop.reason {
            Drops::UnixBacklogFull => "its backlog was full (clients got EAGAIN)".to_owned(),
            Drops::Tcp(DropReason::AcceptQueueFull) => {
                "its accept queue was full (clients retry, and may time out)".to_owned()
            }
            Drops::Tcp(DropReason::ListenerClosed) => {
                closed(row, drop.count, problems);
                continue;
            }
            reason => format!("reason {}", reason.name()),
        };
        let sentence = format!(
            "{} of {} threw {} away: {why}; backlog {} asked for, {} in force, somaxconn {}. \
             Next: accept faster, or raise what limits it.",
            endpoint(&row.local),
            owners(row),
            if drop.count == 1 {
                "1 connection".into()
            } else {
                format!("{} connections", drop.count)
            },
            number(row.requested),
            number(row.effective),
            number(snapshot.session.somaxconn),
        );
        problems.push((drop.count, sentence));
    }
}

fn closed(row: &ListenerRow, count: u64, problems: &mut Vec<(u64, String)>) {
    let sentence = format!(
        "{} of {} was closed with {count} in its queue that nobody had accepted; their clients got a \
         reset. Next: accept what is queued before closing, or hand the listener over.",
        endpoint(&row.local),
        owners(row),
    );
    problems.push((count, sentence));
}

fn slow(row: &ListenerRow, problems: &mut Vec<(u64, String)>) {
    if row.accept.max_ns() < SLOW_NS {
        return;
    }
    let sentence = format!(
        "{} of {} accepted late: a connection waited up to {} ms in its queue (median {} ms of {}). \
         Next: look at what its threads do instead of accept().",
        endpoint(&row.local),
        owners(row),
        millis(row.accept.max_ns()),
        millis(row.accept.permille_ns(500)),
        row.accept.count(),
    );
    problems.push((1, sentence));
}
