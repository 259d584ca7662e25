//! The report as one HTML file that needs no network, no script and nothing beside it.
//!
//! Owns what the page says and in which order; `templates/` has how it looks. What a traced process chose
//! is escaped by `escape.rs` first and by askama after that: no template says `safe`, and no data is ever in
//! the script.

mod chart;
mod command;
mod findings;
mod heat;
mod percentiles;
mod queues;
mod roster;
mod script;
mod session;
mod stack;
mod stall_bars;
mod tables;
mod time_axis;
mod values;

use askama::Template;

use super::{Cost, of_hooks, sentences, unread::unread_sentences};
use crate::aggregate::Snapshot;

/// The whole page.
#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    version: &'static str,
    script_hash: &'static str,
    head: session::Head,
    sentences: Vec<String>,
    figures: Vec<session::Figure>,
    findings: findings::Findings,
    charts: Vec<chart::Chart>,
    /// Of what there is nothing to draw, in words.
    quiet_charts: String,
    /// How many intervals the charts are made of.
    intervals: String,
    percentiles: Option<percentiles::Percentiles>,
    tables: Vec<tables::Table>,
    /// Tables without rows, in words.
    quiet_tables: String,
    completeness: Completeness,
    tracing: Vec<tables::Table>,
    quiet_tracing: String,
    cpu: String,
    memory: String,
    runs: Option<String>,
}

/// How much of what happened is in the page.
struct Completeness {
    verdict: &'static str,
    means: &'static str,
    seen: String,
    delivered: String,
    lost: String,
    reasons: Vec<String>,
    /// What could not be read of listeners and their owners.
    unread: Vec<String>,
}

/// The report as HTML.
pub fn render_report(snapshot: &Snapshot, cost: Option<Cost>) -> String {
    let (charts, quiet_charts) = charts(snapshot);
    let (tables, quiet_tables) = with_rows(of_incidents(snapshot));
    let (tracing, quiet_tracing) = with_rows(of_tracing(snapshot));
    let page = Page {
        version: env!("CARGO_PKG_VERSION"),
        script_hash: script::HASH,
        head: session::head(snapshot),
        sentences: sentences::problems(snapshot),
        figures: session::figures(snapshot),
        findings: findings::findings(snapshot),
        charts,
        quiet_charts,
        intervals: values::count(snapshot.timeline.intervals.len() as u64, "reading"),
        percentiles: percentiles::percentiles(snapshot, &roster::Roster::of(snapshot)),
        tables,
        quiet_tables,
        completeness: completeness(snapshot),
        tracing,
        quiet_tracing,
        // A tracer that was killed could not tell.
        cpu: cost.map_or_else(
            || values::UNKNOWN.to_owned(),
            |cost| format!("{:.2} s", cost.cpu.as_secs_f64()),
        ),
        memory: cost.map_or_else(
            || values::UNKNOWN.to_owned(),
            |cost| format!("{:.1} MB", cost.peak_rss_bytes as f64 / 1e6),
        ),
        runs: snapshot.runs.as_ref().map(|runs| of_hooks(runs, snapshot.duration)),
    };
    let mut html = String::new();
    // Writing to a `String` cannot fail.
    let _ = page.render_into(&mut html);
    html
}

/// What happened when, and of what there is nothing to draw.
fn charts(snapshot: &Snapshot) -> (Vec<chart::Chart>, String) {
    let Some(axis) = time_axis::TimeAxis::of(snapshot) else {
        return (Vec::new(), "The session has no length.".to_owned());
    };
    let roster = roster::Roster::of(snapshot);
    let charts = [
        heat::chart(snapshot, axis, &roster),
        queues::chart(snapshot, axis, &roster),
        stall_bars::chart(snapshot, axis, &roster),
        stack::drops(snapshot, axis, &roster),
        stack::failures(snapshot, axis),
        stack::accept_errors(snapshot, axis),
    ];
    let (drawn, quiet): (Vec<_>, Vec<_>) =
        charts.into_iter().partition(|chart| !chart.panels.is_empty());
    (drawn, quiet.into_iter().flat_map(|chart| chart.notes).collect::<Vec<_>>().join(" "))
}

/// Tables with rows, and what is said of the others.
fn with_rows(tables: Vec<tables::Table>) -> (Vec<tables::Table>, String) {
    let (full, empty): (Vec<_>, Vec<_>) =
        tables.into_iter().partition(|table| !table.rows.is_empty());
    (full, empty.iter().map(|table| table.none).collect::<Vec<_>>().join(" "))
}

fn of_incidents(snapshot: &Snapshot) -> Vec<tables::Table> {
    use tables::{of_listeners, of_processes};
    vec![
        of_listeners::listeners(snapshot),
        of_processes::processes(snapshot),
        of_processes::connect_failures(snapshot),
        of_listeners::drops(snapshot),
        of_listeners::stalls(snapshot),
        of_processes::accept_errors(snapshot),
        of_processes::blocked_connects(snapshot),
        of_processes::abandoned_connects(snapshot),
        of_listeners::namespaces(snapshot),
    ]
}

fn of_tracing(snapshot: &Snapshot) -> Vec<tables::Table> {
    use tables::of_tracing;
    vec![of_tracing::tiers(snapshot), of_tracing::signals(snapshot), of_tracing::skipped(snapshot)]
}

fn completeness(snapshot: &Snapshot) -> Completeness {
    use crate::aggregate::Verdict;
    let completeness = &snapshot.completeness;
    Completeness {
        verdict: completeness.verdict.name(),
        means: match completeness.verdict {
            Verdict::Complete => "All that happened is in this report",
            Verdict::Incomplete => "Something is missing, and it is known how much",
            Verdict::Unknown => "Something may be missing, and it is not known how much",
        },
        seen: values::grouped(completeness.seen()),
        delivered: values::grouped(completeness.delivered()),
        lost: values::grouped(completeness.lost()),
        reasons: completeness.reasons.iter().map(|reason| values::own_words(reason)).collect(),
        unread: snapshot.unread.iter().flat_map(unread_sentences).collect(),
    }
}

#[cfg(test)]
mod whole_page;
