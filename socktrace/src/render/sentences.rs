//! One sentence per problem, the worst first: fact, consequence, next step.

use super::{
    cells::{bytes, endpoint, millis, number},
    findings::{because, sentence},
    phrases,
};
use crate::{
    aggregate::{ProcessRow, Snapshot},
    diagnose::errno_name,
    event::Finding,
};

/// Sentences beyond this many are counted, not printed.
const SHOWN: usize = 12;

/// Every problem of a report.
pub(super) fn problems(snapshot: &Snapshot) -> Vec<String> {
    let mut problems: Vec<(u64, String)> = Vec::new();
    for process in &snapshot.processes {
        connect_failures(process, &mut problems);
        accept_errors(process, &mut problems);
        connect_blocked(process, &mut problems);
    }
    for row in snapshot.findings.iter().filter(|row| row.listener.is_some()) {
        // What waits still comes first.
        let weight = if row.goes_on { u64::MAX } else { row.count.max(1) };
        problems.push((weight, of_listener(&row.finding)));
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
        let why = because(failure.findings.as_deref(), &failure.target, failure.errno);
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
        let found = error.findings.as_deref().and_then(<[_]>::first);
        let why = found.map(|finding| format!(": {}", sentence(finding)));
        let why = why.unwrap_or_else(|| ". Next: see accept(2).".to_owned());
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

fn of_listener(finding: &Finding) -> String {
    format!("{}: {}", phrases::text(&finding.subject), sentence(finding))
}
