//! One sentence per problem, the most harmful first: fact, consequence, next step.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    cells::{bytes, endpoint, millis, number},
    findings::{because, sentence},
    phrases,
};
use crate::{
    aggregate::{ProcessRow, Snapshot},
    diagnose::errno_name,
    event::{Finding, Severity},
};

/// Sentences beyond this many are counted, not printed.
const SHOWN: usize = 12;

/// A problem, and what it is ranked by.
struct Problem {
    /// How much harm it does.
    severity: Severity,
    /// How often it happened; what waits still comes first.
    count: u64,
    sentence: String,
}

/// Every problem of a report.
pub(super) fn problems(snapshot: &Snapshot) -> Vec<String> {
    let mut problems: Vec<Problem> = connect_failures(snapshot).collect();
    for process in &snapshot.processes {
        let over = snapshot.duration;
        problems.extend(accept_errors(process, over));
        problems.extend(connect_blocked(process, over));
    }
    for row in snapshot.findings.iter().filter(|row| row.listener.is_some()) {
        problems.push(Problem {
            severity: row.finding.severity,
            count: if row.goes_on { u64::MAX } else { row.count.max(1) },
            sentence: of_listener(&row.finding),
        });
    }
    problems.sort_by_key(|problem| (problem.severity, Reverse(problem.count)));
    let more = problems.len().saturating_sub(SHOWN);
    let mut sentences: Vec<String> =
        problems.into_iter().take(SHOWN).map(|problem| problem.sentence).collect();
    if more > 0 {
        sentences.push(format!("… and {more} more problems in the tables below."));
    }
    sentences
}

fn who(process: &ProcessRow) -> String {
    let uid = number(process.uid);
    format!("{} (pid {}, uid {uid})", bytes(process.comm.as_deref()), number(process.pid))
}

/// How often, and how often in a second where it is that often.
fn times(count: u64, over: Duration) -> String {
    let seconds = over.as_secs_f64();
    let rate = if seconds == 0.0 { 0.0 } else { count as f64 / seconds };
    match count {
        1 => "once".to_owned(),
        _ if seconds < 1.0 || rate < 1.0 => format!("{count} times"),
        _ => format!("{count} times, {rate:.0} a second on average"),
    }
}

/// Connects that failed for one reason, of processes of one name and user: a client that is started anew each time fails
/// as often as it is.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Failing {
    comm: String,
    uid: u32,
    target: String,
    errno: u32,
    why: String,
}

/// Who failed so, and how often.
struct Failed {
    severity: Severity,
    pids: BTreeSet<u32>,
    count: u64,
}

fn connect_failures(snapshot: &Snapshot) -> impl Iterator<Item = Problem> {
    let mut all: BTreeMap<Failing, Failed> = BTreeMap::new();
    for process in &snapshot.processes {
        for failure in &process.connect_failures {
            let found = failure.findings.as_deref().and_then(<[_]>::first);
            let failing = Failing {
                comm: bytes(process.comm.as_deref()),
                uid: failure.uid,
                target: endpoint(&failure.target),
                errno: failure.errno,
                why: because(failure.findings.as_deref(), &failure.target, failure.errno),
            };
            let severity = found.map_or(Severity::Error, |finding| finding.severity);
            let failed =
                all.entry(failing).or_insert(Failed { severity, pids: BTreeSet::new(), count: 0 });
            failed.pids.extend(process.pid);
            failed.count = failed.count.saturating_add(failure.count);
        }
    }
    let over = snapshot.duration;
    all.into_iter().map(move |(failing, Failed { severity, pids, count })| {
        let Failing { comm, uid, target, errno, why } = failing;
        let pids = match (pids.first(), pids.len()) {
            (None, _) => "pid unknown".to_owned(),
            (Some(only), 1) => format!("pid {only}"),
            (Some(first), all) => format!("pid {first} and {} more", all - 1),
        };
        let (often, errno) = (times(count, over), errno_name(errno));
        let sentence = format!(
            "{comm} ({pids}, uid {uid}) could not connect to {target} {often} ({errno}){why}"
        );
        Problem { severity, count, sentence }
    })
}

fn connect_blocked(process: &ProcessRow, over: Duration) -> impl Iterator<Item = Problem> {
    let slept = process.connect_blocked.iter().filter(|(_, waits)| waits.any());
    slept.map(move |(target, waits)| {
        let sentence = format!(
            "{} slept in connect() to {} {}, up to {} ms, until the listener's backlog had room. \
             Next: look at what the listener's owner does instead of accept().",
            who(process),
            endpoint(target),
            times(waits.count(), over),
            millis(waits.max_ns()),
        );
        Problem { severity: Severity::Warning, count: waits.count(), sentence }
    })
}

fn accept_errors(process: &ProcessRow, over: Duration) -> impl Iterator<Item = Problem> {
    process.accept_errors.iter().map(move |error| {
        let on = error.listener.as_ref().map(|local| format!(" on {}", endpoint(local)));
        let found = error.findings.as_deref().and_then(<[_]>::first);
        let why = found.map(|finding| format!(": {}", sentence(finding)));
        let why = why.unwrap_or_else(|| ". Next: see accept(2).".to_owned());
        let sentence = format!(
            "{}: accept(){} failed {} ({}){why}",
            who(process),
            on.unwrap_or_default(),
            times(error.count, over),
            errno_name(error.errno),
        );
        let severity = found.map_or(Severity::Error, |finding| finding.severity);
        Problem { severity, count: error.count, sentence }
    })
}

fn of_listener(finding: &Finding) -> String {
    format!("{}: {}", phrases::text(&finding.subject), sentence(finding))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        aggregate::{ConnectFailureRow, FindingRow},
        event::{Address, Certainty, Endpoint},
    };

    fn finding(severity: Severity, fact: &'static str) -> Finding {
        Finding {
            severity,
            certainty: Certainty::Measured,
            rule: "a-rule".into(),
            subject: "here".into(),
            fact: fact.into(),
            consequence: crate::event::Phrase::default(),
            fix: "mend it".into(),
            evidence: Vec::new(),
        }
    }

    fn failing(comm: &str, pid: u32, count: u64) -> ProcessRow {
        let address = Some(Address::Unix(b"/run/a".to_vec()));
        let failure = ConnectFailureRow {
            uid: 7,
            target: Endpoint { address, kind: None },
            errno: 13,
            count,
            findings: Some(Arc::from([finding(Severity::Error, "it is closed")])),
        };
        let process =
            ProcessRow { comm: Some(comm.into()), pid: Some(pid), ..ProcessRow::default() };
        ProcessRow { connect_failures: vec![failure], ..process }
    }

    #[test]
    fn clients_of_one_name_that_fail_alike_are_one_problem_with_how_often_and_how_fast() {
        let mut snapshot = Snapshot::of_nothing();
        snapshot.processes =
            vec![failing("cron", 5, 30), failing("cron", 6, 12), failing("other", 7, 2)];
        let told = problems(&snapshot);
        assert_eq!(
            told,
            [
                "cron (pid 5 and 1 more, uid 7) could not connect to /run/a 42 times, 4 a second on average (EACCES): \
                 it is closed. Next: mend it. (measured)",
                "other (pid 7, uid 7) could not connect to /run/a 2 times (EACCES): it is closed. Next: \
                 mend it. (measured)",
            ]
        );
        snapshot.duration = Duration::from_millis(900);
        assert!(problems(&snapshot)[0].contains(" 42 times (EACCES)"), "too short for a rate");
    }

    #[test]
    fn what_does_harm_comes_before_what_happens_more_often() {
        let mut snapshot = Snapshot::of_nothing();
        let row = |severity, fact, count, goes_on| FindingRow {
            finding: finding(severity, fact),
            count,
            listener: Some(9),
            goes_on,
            pids: BTreeSet::new(),
        };
        snapshot.findings = vec![
            row(Severity::Info, "often", 1_000_000, false),
            row(Severity::Warning, "soon", 9, false),
            row(Severity::Error, "waits", 1, true),
        ];
        snapshot.processes = vec![failing("cron", 5, 3)];
        let told = problems(&snapshot);
        let order = ["waits", "it is closed", "soon", "often"];
        assert!(told.iter().zip(order).all(|(told, fact)| told.contains(fact)), "{told:?}");
    }
}
