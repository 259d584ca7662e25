//! Rows of a difference as sentences and as cells, kind by kind.

use crate::{
    aggregate::{
        Waits,
        diff::{
            Change, ConnectOf, Count, Diff, ErrorOf, FailureOf, FindingOf, Found, ListenerOf,
            ProcessOf, Row, Stalled,
        },
    },
    diagnose::errno_name,
    event::{Address, Endpoint, Severity},
    render::{
        cells::{UNKNOWN, bytes, endpoint, millis},
        escape::escape,
        phrases,
    },
};

/// All rows of one kind.
pub(super) struct Kind {
    pub(super) title: &'static str,
    pub(super) header: Vec<&'static str>,
    /// How many columns behind the first are numbers.
    pub(super) numbers: usize,
    pub(super) lines: Vec<Line>,
}

/// One row.
pub(super) struct Line {
    pub(super) change: Change,
    /// Whether its change is good or bad.
    pub(super) is_told: bool,
    pub(super) sentence: String,
    pub(super) cells: Vec<String>,
}

const COUNTS: [&str; 5] = ["CHANGE", "BEFORE", "/s", "AFTER", "/s"];

const WAITS: [&str; 5] = ["CHANGE", "P50(ms)", "AFTER", "P99(ms)", "AFTER"];

/// Every kind, in the order of a report.
pub(super) fn kinds(diff: &Diff) -> Vec<Kind> {
    let seconds = [diff.before.duration, diff.after.duration].map(|it| it.as_secs_f64());
    let failures = diff.connect_failures.iter().map(|row| {
        let FailureOf { process, target, errno } = &row.of;
        let what = [errno_name(*errno), address(target.as_ref()), program(process)];
        let [errno, target, program] = &what;
        let words = format!("connect failures of {program} to {target} ({errno})");
        count(row, seconds, &words, &what)
    });
    let abandoned = diff.connects_abandoned.iter().map(|row| {
        let what = connect(&row.of);
        let [target, program] = &what;
        count(row, seconds, &format!("abandoned connects of {program} to {target}"), &what)
    });
    let blocked = diff.connect_blocked.iter().map(|row| {
        let what = connect(&row.of);
        let [target, program] = &what;
        let is_told =
            matches!(row.change, Change::Worse | Change::Better | Change::New | Change::Gone);
        waits(row, is_told, &format!("blocked connects of {program} to {target}"), &what)
    });
    let errors = diff.accept_errors.iter().map(|row| {
        let ErrorOf { process, listener, errno } = &row.of;
        let what = [errno_name(*errno), address(listener.local.as_ref()), program(process)];
        let [errno, local, program] = &what;
        let words = format!("accept errors of {program} on {local} ({errno})");
        count(row, seconds, &words, &what)
    });
    let drops = diff.backlog_drops.iter().map(|row| {
        let reason = row.of.reason.name().to_owned();
        let what = [reason, address(row.of.listener.local.as_ref())];
        let [reason, local] = &what;
        count(row, seconds, &format!("drops on {local} ({reason})"), &what)
    });
    let accepts = diff.accept_waits.iter().map(|row| {
        let local = address(row.of.local.as_ref());
        // A listener that accepts now, or no longer does, is neither good nor bad.
        let is_told = matches!(row.change, Change::Worse | Change::Better);
        waits(row, is_told, &format!("accept waits on {local}"), std::slice::from_ref(&local))
    });
    vec![
        of_counts("CONNECT FAILURES", &["RET", "TARGET", "PROGRAM"], failures.collect()),
        of_counts("ABANDONED CONNECTS", &["TARGET", "PROGRAM"], abandoned.collect()),
        of_waits("BLOCKED CONNECTS", &["TARGET", "PROGRAM"], blocked.collect()),
        of_counts("ACCEPT ERRORS", &["RET", "LISTENER", "PROGRAM"], errors.collect()),
        of_waits("ACCEPT WAITS", &["LISTENER"], accepts.collect()),
        of_counts("DROPS", &["REASON", "LISTENER"], drops.collect()),
        Kind {
            title: "STALLS",
            header: vec!["CHANGE", "BEFORE", "AFTER", "OLDEST(ms)", "AFTER", "LISTENER"],
            numbers: 4,
            lines: diff.stalls.iter().map(stalls).collect(),
        },
        Kind {
            title: "FINDINGS",
            header: vec!["CHANGE", "BEFORE", "AFTER", "RULE", "SUBJECT"],
            numbers: 2,
            lines: diff.findings.iter().map(|row| finding(row, seconds)).collect(),
        },
    ]
}

fn of_counts(title: &'static str, columns: &[&'static str], lines: Vec<Line>) -> Kind {
    let header = COUNTS.iter().chain(columns).copied().collect();
    Kind { title, header, numbers: COUNTS.len() - 1, lines }
}

fn of_waits(title: &'static str, columns: &[&'static str], lines: Vec<Line>) -> Kind {
    let header = WAITS.iter().chain(columns).copied().collect();
    Kind { title, header, numbers: WAITS.len() - 1, lines }
}

/// Whereto, and who.
fn connect(of: &ConnectOf) -> [String; 2] {
    [address(of.target.as_ref()), program(&of.process)]
}

/// `web`, or `web [web.service]`.
fn program(process: &ProcessOf) -> String {
    let comm = bytes(process.comm.as_deref());
    match &process.unit {
        Some(unit) => format!("{comm} [{}]", escape(unit)),
        None => comm,
    }
}

fn address(address: Option<&Address>) -> String {
    endpoint(&Endpoint { address: address.cloned(), kind: None })
}

/// A cell of one side; `-` where it is not known.
fn cell<V>(side: Option<&V>, words: impl Fn(&V) -> String) -> String {
    side.map_or_else(|| UNKNOWN.to_owned(), words)
}

/// `words` says what it is; `what` are the cells behind the numbers.
fn count<K>(row: &Row<K, Count>, seconds: [f64; 2], words: &str, what: &[String]) -> Line {
    let sides = [row.before.as_ref(), row.after.as_ref()];
    let numbers = sides.map(|side| cell(side, |count| count.0.to_string()));
    let rates = [0, 1].map(|n| cell(sides[n], |count| rate(count.0, seconds[n])));
    let sentence = format!("{words}: {}", arrow(row.change, &rates, &numbers));
    let [before, after] = numbers;
    let [rate_before, rate_after] = rates;
    let numbers = [before, rate_before, after, rate_after].into_iter();
    let cells = numbers.chain(what.iter().cloned()).collect();
    Line { change: row.change, is_told: true, sentence, cells }
}

/// `0.1/s → 4.2/s (6 → 252)`; of what is only in one session, its side alone.
fn arrow(change: Change, rates: &[String; 2], numbers: &[String; 2]) -> String {
    let ([r1, r2], [n1, n2]) = (rates, numbers);
    match change {
        Change::New => format!("{r2}/s ({n2})"),
        Change::Gone => format!("{r1}/s ({n1}) before"),
        _ => format!("{r1}/s → {r2}/s ({n1} → {n2})"),
    }
}

/// Occurrences per second with two digits that count.
fn rate(count: u64, seconds: f64) -> String {
    if seconds <= 0.0 {
        return UNKNOWN.to_owned();
    }
    let rate = count as f64 / seconds;
    match rate {
        0.0 => "0".to_owned(),
        _ if rate >= 10.0 => format!("{rate:.0}"),
        _ if rate >= 1.0 => format!("{rate:.1}"),
        _ if rate >= 0.01 => format!("{rate:.2}"),
        _ => format!("{rate:.5}"),
    }
}

/// `words` says what it is; `what` are the cells behind the numbers.
fn waits<K>(row: &Row<K, Waits>, is_told: bool, words: &str, what: &[String]) -> Line {
    let of = |permille| {
        let known = |waits: &Waits| {
            if waits.any() { millis(waits.permille_ns(permille)) } else { UNKNOWN.to_owned() }
        };
        [row.before.as_ref(), row.after.as_ref()].map(|side| cell(side, known))
    };
    let ([p50, p50_after], [p99, p99_after]) = (of(500), of(990));
    let sentence = format!("{words}: p99 {p99} ms → {p99_after} ms, p50 {p50} ms → {p50_after} ms");
    let numbers = [p50, p50_after, p99, p99_after].into_iter();
    let cells = numbers.chain(what.iter().cloned()).collect();
    Line { change: row.change, is_told, sentence, cells }
}

fn stalls(row: &Row<ListenerOf, Stalled>) -> Line {
    let sides = [row.before.as_ref(), row.after.as_ref()];
    let [before, after] = sides.map(|side| cell(side, |it| it.count.to_string()));
    let oldest = |it: &Stalled| cell(it.oldest_ns.as_ref(), |ns| millis(*ns));
    let [oldest_before, oldest_after] = sides.map(|side| cell(side, oldest));
    let local = address(row.of.local.as_ref());
    let sentence = match row.change {
        Change::New => format!("stalls of {local}: {after}, the oldest {oldest_after} ms"),
        Change::Gone => {
            format!("stalls of {local}: {before}, the oldest {oldest_before} ms, before")
        }
        _ => format!(
            "stalls of {local}: {before} → {after}, the oldest {oldest_before} ms → {oldest_after} ms"
        ),
    };
    let cells = vec![before, after, oldest_before, oldest_after, local];
    Line { change: row.change, is_told: true, sentence, cells }
}

/// What is only good to know is neither good nor bad.
fn finding(row: &Row<FindingOf, Found>, seconds: [f64; 2]) -> Line {
    let sides = [row.before.as_ref(), row.after.as_ref()];
    let was_found = |found: &Found| match found.severity {
        Some(_) => found.count.to_string(),
        None => UNKNOWN.to_owned(),
    };
    let numbers = sides.map(|side| cell(side, was_found));
    let rates = [0, 1].map(|n| cell(sides[n], |found| rate(found.count, seconds[n])));
    let (rule, subject) =
        (escape(row.of.rule.as_bytes()).into_owned(), phrases::text(&row.of.subject));
    let severity = sides.into_iter().flatten().filter_map(|found| found.severity).min();
    let much = match row.change {
        Change::New | Change::Gone => String::new(),
        change => format!(": {}", arrow(change, &rates, &numbers)),
    };
    let sentence = format!("finding {rule} about {subject}{much}");
    let is_told = severity.is_some_and(|severity| severity < Severity::Info);
    let [before, after] = numbers;
    Line { change: row.change, is_told, sentence, cells: vec![before, after, rule, subject] }
}
