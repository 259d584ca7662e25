//! What had no room in the kernel's maps: a last row, of no process, target or listener, in each table of
//! the text, and its counts in JSON.

use comfy_table::Table;
use serde_json::{Value, json};
use socktrace_common::Signal;

use super::cells::UNKNOWN;
use crate::aggregate::Snapshot;

/// How the row is called.
pub(super) const OTHER: &str = "other";

/// Adds the row, if there is anything to count: in which columns what, and which column names it.
pub(super) fn add_row(
    rows: &mut Table,
    snapshot: &Snapshot,
    counts: &[(usize, Signal)],
    named: usize,
) {
    let other = |signal| snapshot.completeness.other(signal);
    if counts.iter().all(|(_, signal)| other(*signal) == 0) {
        return;
    }
    let cell = |at: usize| match counts.iter().find(|(counted, _)| *counted == at) {
        Some((_, signal)) => other(*signal).to_string(),
        None if at == named => OTHER.to_owned(),
        None => UNKNOWN.to_owned(),
    };
    let columns = rows.column_count();
    rows.add_row((0..columns).map(cell));
}

/// The counts.
pub(super) fn object(snapshot: &Snapshot) -> Value {
    let completeness = &snapshot.completeness;
    json!({
        "accepts": completeness.other(Signal::Accept),
        "accept_errors": completeness.other(Signal::AcceptError),
        "connect_failures": completeness.other(Signal::ConnectFailure),
        "connects_abandoned": snapshot.abandoned_other,
        "connect_blocked": completeness.other(Signal::ConnectBlocked),
        "backlog_drops": completeness.other(Signal::BacklogDrop),
        "listens": completeness.other(Signal::Listen),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate::SignalStages,
        render::{html, json, text},
    };

    /// Of each signal, that many had no room.
    fn full() -> Snapshot {
        let row = |signal: &Signal| SignalStages {
            full_tally: 7_001 + *signal as u64,
            ..SignalStages::nothing_of(*signal)
        };
        let mut snapshot = Snapshot::of_nothing();
        snapshot.completeness.signals = Signal::ALL.iter().map(row).collect();
        snapshot
    }

    fn count(signal: Signal) -> String {
        (7_001 + signal as u64).to_string()
    }

    #[test]
    fn every_table_of_the_text_ends_with_what_had_no_room() {
        let text = text::render_report(&full(), None);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .filter(|words: &Vec<&str>| words.contains(&OTHER))
            .collect();
        let [failures, blocked, accepts, drops, errors] = [
            Signal::ConnectFailure,
            Signal::ConnectBlocked,
            Signal::Accept,
            Signal::BacklogDrop,
            Signal::AcceptError,
        ]
        .map(count);
        assert_eq!(rows.len(), 5, "{text}");
        assert_eq!(rows[0], [&failures, "-", "-", OTHER, "-", "-", "-"]);
        assert_eq!(rows[1], [&blocked, "-", "-", OTHER, "-", "-", "-"]);
        assert_eq!(rows[2], [OTHER, "-", "-", "-", &accepts, "-", "-", "-", &drops]);
        assert_eq!(rows[3], [&drops, "-", "-", OTHER, "-"]);
        assert_eq!(rows[4], [&errors, "-", OTHER, "-", "-", "-"]);
    }

    #[test]
    fn json_has_all_of_it_and_zeros_where_there_was_room() {
        let told = json::render_report(&full());
        let names =
            ["accepts", "accept_errors", "connect_failures", "backlog_drops", "connect_blocked"];
        for name in names.into_iter().chain(["listens"]) {
            assert!(told["other"][name].as_u64() > Some(7_000), "{name}: {}", told["other"]);
        }
        let empty = json::render_report(&Snapshot::of_nothing());
        assert_eq!(empty["other"]["connect_failures"], 0);
        assert!(!text::render_report(&Snapshot::of_nothing(), None).contains(OTHER));
    }

    #[test]
    fn the_page_has_it_in_each_of_its_tables() {
        let page = html::render_report(&full(), None);
        let rows = page.matches(&format!(">{OTHER}<")).count();
        assert_eq!(rows, 6, "processes, listeners, failures, errors, blocked, drops");
    }
}
