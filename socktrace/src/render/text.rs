//! The report and events as text, for people: sentences first, then tables, then what is missing.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use socktrace_common::Signal;

use super::{
    Cost,
    cells::{UNKNOWN, bytes, endpoint, family, millis, number, owners},
    escape::escape,
    event_line, findings, of_hooks, other, sentences, stalls,
    unread::unread_sentences,
};
use crate::{
    aggregate::{Aggregator, Completeness, SessionSignal, Snapshot, Waits},
    diagnose::errno_name,
    event::{Diagnosis, Event, Stall},
    transport::Clock,
};

/// The whole report.
pub fn render_report(snapshot: &Snapshot, cost: Option<Cost>) -> String {
    let mut text = String::new();
    let problems = sentences::problems(snapshot);
    if problems.is_empty() {
        text.push_str("No problem was seen in what was traced.\n");
    }
    for problem in &problems {
        text.push_str(problem);
        text.push('\n');
    }
    for (title, table) in [
        ("CONNECT FAILURES", failures(snapshot)),
        ("BLOCKED CONNECTS", blocked(snapshot)),
        ("ABANDONED CONNECTS", abandoned(snapshot)),
        ("LISTENERS", listeners(snapshot)),
        ("DROPS", drops(snapshot)),
        ("ACCEPT ERRORS", accept_errors(snapshot)),
    ] {
        if let Some(table) = table {
            let _ = write!(text, "\n{title}\n{}\n", trimmed(&table));
        }
    }
    text.push('\n');
    footer(&mut text, snapshot, cost);
    text
}

fn footer(text: &mut String, snapshot: &Snapshot, cost: Option<Cost>) {
    let seconds = snapshot.duration.as_secs_f64();
    let _ = writeln!(text, "{}", completeness(&snapshot.completeness));
    for reason in &snapshot.completeness.reasons {
        let _ = writeln!(text, "  {reason}");
    }
    for sentence in snapshot.unread.iter().flat_map(unread_sentences) {
        let _ = writeln!(text, "not seen: {sentence}");
    }
    let _ = writeln!(
        text,
        "recorded {seconds:.1} s on kernel {}; {}",
        escape(snapshot.session.kernel.as_bytes()),
        tiers(&snapshot.session.signals)
    );
    if let Some(why) = &snapshot.session.untested {
        let _ = writeln!(text, "whether the hooks fire was not tried: {why}");
    }
    // A tracer that was killed could not tell.
    if let Some(Cost { cpu, peak_rss_bytes }) = cost {
        let (cpu, memory) = (cpu.as_secs_f64(), peak_rss_bytes as f64 / 1e6);
        let _ =
            writeln!(text, "socktrace itself used {cpu:.2} s of CPU and {memory:.1} MB of memory");
    }
    if let Some(runs) = &snapshot.runs {
        let _ = writeln!(text, "{}", of_hooks(runs, snapshot.duration));
    }
}

fn completeness(completeness: &Completeness) -> String {
    format!(
        "{}: the hooks saw {}, told {} in detail, lost {}",
        completeness.verdict.name(),
        completeness.seen(),
        completeness.delivered(),
        completeness.lost()
    )
}

/// `tier fentry` where all agree, else one by one.
fn tiers(signals: &[SessionSignal]) -> String {
    let name = |row: &SessionSignal| row.tier.map_or("none", |tier| tier.name());
    match signals {
        [first, rest @ ..] if rest.iter().all(|row| row.tier == first.tier) => {
            format!("tier {}", name(first))
        }
        _ => {
            let each: Vec<String> =
                signals.iter().map(|row| format!("{} {}", row.signal.name(), name(row))).collect();
            format!("tiers: {}", each.join(", "))
        }
    }
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(header.iter().copied());
    table
}

/// No blanks at the ends of lines.
pub(super) fn trimmed(table: &Table) -> String {
    let text = table.to_string();
    let lines: Vec<&str> =
        text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    lines.join("\n")
}

pub(super) fn right(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn failures(snapshot: &Snapshot) -> Option<Table> {
    let mut rows = table(&["COUNT", "RET", "FAM", "TARGET", "PID", "COMM", "UID"]);
    for process in &snapshot.processes {
        for failure in &process.connect_failures {
            rows.add_row([
                failure.count.to_string(),
                errno_name(failure.errno),
                family(&failure.target).to_owned(),
                endpoint(&failure.target),
                number(process.pid),
                bytes(process.comm.as_deref()),
                failure.uid.to_string(),
            ]);
        }
    }
    other::add_row(&mut rows, snapshot, &[(0, Signal::ConnectFailure)], 3);
    right(&mut rows, &[0, 4, 6]);
    (rows.row_count() > 0).then_some(rows)
}

fn blocked(snapshot: &Snapshot) -> Option<Table> {
    let mut rows = table(&["COUNT", "MAX(ms)", "SUM(ms)", "TARGET", "PID", "COMM", "UID"]);
    for process in &snapshot.processes {
        for (target, waits) in &process.connect_blocked {
            rows.add_row([
                waits.count().to_string(),
                millis(waits.max_ns()),
                millis(waits.sum_ns()),
                endpoint(target),
                number(process.pid),
                bytes(process.comm.as_deref()),
                number(process.uid),
            ]);
        }
    }
    other::add_row(&mut rows, snapshot, &[(0, Signal::ConnectBlocked)], 3);
    right(&mut rows, &[0, 1, 2, 4, 6]);
    (rows.row_count() > 0).then_some(rows)
}

fn abandoned(snapshot: &Snapshot) -> Option<Table> {
    let mut rows = table(&["COUNT", "FAM", "TARGET", "PID", "COMM", "UID"]);
    for process in &snapshot.processes {
        for row in &process.connects_abandoned {
            rows.add_row([
                row.count.to_string(),
                family(&row.target).to_owned(),
                endpoint(&row.target),
                number(process.pid),
                bytes(process.comm.as_deref()),
                row.uid.to_string(),
            ]);
        }
    }
    if snapshot.abandoned_other != 0 {
        let other = snapshot.abandoned_other.to_string();
        rows.add_row([other.as_str(), UNKNOWN, other::OTHER, UNKNOWN, UNKNOWN, UNKNOWN]);
    }
    right(&mut rows, &[0, 3, 5]);
    (rows.row_count() > 0).then_some(rows)
}

fn listeners(snapshot: &Snapshot) -> Option<Table> {
    let mut rows = table(&[
        "LISTENER", "FAM", "OWNER", "BL", "ACCEPTED", "P50(ms)", "P99(ms)", "MAX(ms)", "DROPS",
    ]);
    for row in &snapshot.listeners {
        let drops: u64 = row
            .backlog_drops
            .iter()
            .filter(|drop| drop.reason.is_drop())
            .map(|drop| drop.count)
            .sum();
        rows.add_row([
            endpoint(&row.local),
            family(&row.local).to_owned(),
            owners(row),
            format!("{}/{}", number(row.queue_now), number(row.effective)),
            row.accept.count().to_string(),
            wait(&row.accept, |waits| waits.permille_ns(500)),
            wait(&row.accept, |waits| waits.permille_ns(990)),
            wait(&row.accept, Waits::max_ns),
            drops.to_string(),
        ]);
    }
    other::add_row(&mut rows, snapshot, &[(4, Signal::Accept), (8, Signal::BacklogDrop)], 0);
    right(&mut rows, &[3, 4, 5, 6, 7, 8]);
    (rows.row_count() > 0).then_some(rows)
}

fn drops(snapshot: &Snapshot) -> Option<Table> {
    let mut rows = table(&["COUNT", "REASON", "STAGE", "LISTENER", "OWNER"]);
    for row in &snapshot.listeners {
        for drop in &row.backlog_drops {
            rows.add_row([
                drop.count.to_string(),
                drop.reason.name().to_owned(),
                drop.stage_name().unwrap_or(UNKNOWN).to_owned(),
                endpoint(&row.local),
                owners(row),
            ]);
        }
    }
    other::add_row(&mut rows, snapshot, &[(0, Signal::BacklogDrop)], 3);
    right(&mut rows, &[0]);
    (rows.row_count() > 0).then_some(rows)
}

fn accept_errors(snapshot: &Snapshot) -> Option<Table> {
    let mut rows = table(&["COUNT", "RET", "LISTENER", "PID", "COMM", "UID"]);
    for process in &snapshot.processes {
        for error in &process.accept_errors {
            rows.add_row([
                error.count.to_string(),
                errno_name(error.errno),
                error.listener.as_ref().map_or(UNKNOWN.to_owned(), endpoint),
                number(process.pid),
                bytes(process.comm.as_deref()),
                number(process.uid),
            ]);
        }
    }
    other::add_row(&mut rows, snapshot, &[(0, Signal::AcceptError)], 2);
    right(&mut rows, &[0, 3, 5]);
    (rows.row_count() > 0).then_some(rows)
}

/// Adds one event to `line`, in the columns of [`event_header`].
pub fn write_event(line: &mut String, event: &Event, clock: &Clock, so_far: &Aggregator) {
    event_line::write(line, event, clock, so_far);
}

/// One change of a stall as one line, in the columns of [`event_header`].
pub fn render_stall(stall: &Stall, clock: &Clock) -> String {
    stalls::line(stall, clock)
}

/// What was found out, a line for each finding, in the columns of [`event_header`].
pub fn render_diagnosis(diagnosis: &Diagnosis, clock: &Clock) -> Vec<String> {
    findings::lines(diagnosis, clock)
}

/// Column heads of [`write_event`].
pub fn event_header() -> String {
    event_line::header()
}

fn wait(waits: &Waits, pick: impl Fn(&Waits) -> u64) -> String {
    if waits.any() { millis(pick(waits)) } else { UNKNOWN.to_owned() }
}
