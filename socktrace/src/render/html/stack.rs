//! How often something happened, over time: bars in parts, a colour each. Drops by listener, failed
//! connects and failed accepts by errno.

use std::collections::BTreeMap;

use super::{
    chart::{Chart, Key, Panel, Pen, Shape, linear_ticks, number, put_time_axis, round_up},
    roster::{COLOURS, Roster},
    time_axis::{Column, TimeAxis},
    values::{count, grouped},
};
use crate::{
    aggregate::{Interval, Snapshot, Timeline},
    diagnose::errno_name,
};

const HEIGHT: u32 = 120;

/// One colour of the bars.
struct Part {
    class: String,
    label: String,
    /// What is counted in it.
    keys: Vec<u64>,
}

/// What is counted, and its parts.
struct Stack<'a> {
    what: &'a str,
    counts: fn(&Interval) -> Counts,
    parts: Vec<Part>,
}

type Counts = BTreeMap<u64, u64>;

/// Connections that listeners threw away.
pub(super) fn drops(snapshot: &Snapshot, axis: TimeAxis, roster: &Roster) -> Chart {
    let counts = |interval: &Interval| interval.drops.clone();
    let totals = totals(&snapshot.timeline, counts);
    let own = |listener: &&super::roster::Listener| totals.contains_key(&listener.inode);
    let coloured = roster.shown.iter().take(COLOURS).filter(own);
    let parts: Vec<Part> = coloured
        .map(|listener| Part {
            class: listener.class.clone(),
            label: listener.name.clone(),
            keys: vec![listener.inode],
        })
        .collect();
    let parts = with_rest(parts, &totals, "listener");
    let stack = Stack { what: "drop", counts, parts };
    Chart {
        id: "drops-over-time",
        title: "Drops",
        about: "Connections that listeners threw away, per second.".to_owned(),
        ..chart(&stack, snapshot, axis)
    }
}

/// Connects that failed.
pub(super) fn failures(snapshot: &Snapshot, axis: TimeAxis) -> Chart {
    let counts = |interval: &Interval| by_errno(&interval.connect_failures);
    let parts = errnos(&totals(&snapshot.timeline, counts));
    let stack = Stack { what: "failed connect", counts, parts };
    Chart {
        id: "failures-over-time",
        title: "Failed connects",
        about: "Attempts to connect that failed, per second.".to_owned(),
        ..chart(&stack, snapshot, axis)
    }
}

/// Accepts that failed.
pub(super) fn accept_errors(snapshot: &Snapshot, axis: TimeAxis) -> Chart {
    let counts = |interval: &Interval| by_errno(&interval.accept_errors);
    let parts = errnos(&totals(&snapshot.timeline, counts));
    let stack = Stack { what: "failed accept", counts, parts };
    Chart {
        id: "accept-errors-over-time",
        title: "Failed accepts",
        about: "Calls of accept() that failed, per second.".to_owned(),
        ..chart(&stack, snapshot, axis)
    }
}

fn by_errno(counts: &BTreeMap<u32, u64>) -> Counts {
    counts.iter().map(|(errno, n)| (u64::from(*errno), *n)).collect()
}

fn totals(timeline: &Timeline, counts: fn(&Interval) -> Counts) -> Counts {
    let mut sums = Counts::new();
    for (key, n) in timeline.intervals.iter().flat_map(counts) {
        let sum = sums.entry(key).or_default();
        *sum = n.saturating_add(*sum);
    }
    sums
}

/// A part for each errno, the most frequent first.
fn errnos(totals: &Counts) -> Vec<Part> {
    let mut ranked: Vec<(u64, u64)> = totals.iter().map(|(errno, n)| (*errno, *n)).collect();
    ranked.sort_by_key(|(errno, n)| (std::cmp::Reverse(*n), *errno));
    let part = |(index, (errno, _)): (usize, (u64, u64))| Part {
        class: format!("c{index}"),
        label: errno_name(u32::try_from(errno).unwrap_or(0)),
        keys: vec![errno],
    };
    let parts = ranked.into_iter().take(COLOURS).enumerate().map(part).collect();
    with_rest(parts, totals, "errno")
}

/// What has no colour is one grey part.
fn with_rest(mut parts: Vec<Part>, totals: &Counts, what: &str) -> Vec<Part> {
    let coloured = |key: &u64| parts.iter().any(|part| part.keys.contains(key));
    let keys: Vec<u64> = totals.keys().copied().filter(|key| !coloured(key)).collect();
    if !keys.is_empty() {
        let label = format!("and {}", count(keys.len() as u64, &format!("more {what}")));
        parts.push(Part { class: "rest".to_owned(), label, keys });
    }
    parts
}

fn chart(stack: &Stack<'_>, snapshot: &Snapshot, axis: TimeAxis) -> Chart {
    let columns = axis.columns(&snapshot.timeline.intervals);
    let totals = totals(&snapshot.timeline, stack.counts);
    let all: u64 = totals.values().fold(0, |sum, n| n.saturating_add(sum));
    let mut panels = Vec::new();
    let mut notes = Vec::new();
    if all == 0 {
        notes.push(format!("No {} in the course of this session.", stack.what));
    } else {
        panels.push(stack.panel(&columns, axis, all));
    }
    put_time_axis(&mut panels, axis.ticks());
    let key = |part: &Part| Key {
        class: part.class.clone(),
        label: part.label.clone(),
        value: grouped(part.sum(&totals)),
    };
    let keys = stack.parts.iter().map(key).collect();
    Chart { id: "", title: "", about: String::new(), panels, keys, notes }
}

impl Part {
    fn sum(&self, counts: &Counts) -> u64 {
        let own = self.keys.iter().filter_map(|key| counts.get(key));
        own.fold(0, |sum, n| n.saturating_add(sum))
    }
}

impl Stack<'_> {
    fn panel(&self, columns: &[Column<'_>], axis: TimeAxis, all: u64) -> Panel {
        let counted: Vec<(Column<'_>, Vec<u64>)> =
            columns.iter().map(|column| (*column, self.column(*column))).collect();
        let rate = |(column, counts): &(Column<'_>, Vec<u64>)| {
            column.per_second(counts.iter().fold(0, |sum, n| n.saturating_add(sum)))
        };
        let most = counted.iter().map(rate).fold(0.0, f64::max);
        let top = round_up(most);
        let sum = format!("{}, at most {} per second", count(all, self.what), number(most));
        let mut panel = Panel {
            label: format!("{} over time: {sum}", self.what),
            sum,
            height: HEIGHT,
            y: linear_ticks(top, "/s"),
            ..Panel::default()
        };
        let mut pens: Vec<Pen> = self.parts.iter().map(|_| Pen::default()).collect();
        for (column, counts) in counted.iter().filter(|(_, counts)| counts.iter().any(|n| *n > 0)) {
            let (left, right) = (axis.x(column.begin_ns()), axis.x(column.end_ns()));
            let mut bottom = f64::from(HEIGHT);
            for (pen, n) in pens.iter_mut().zip(counts).filter(|(_, n)| **n > 0) {
                let height = column.per_second(*n) / top * f64::from(HEIGHT);
                pen.rect(left, bottom - height, right, bottom);
                bottom -= height;
            }
            panel.shapes.push(self.told(*column, counts, axis));
        }
        let bars = pens.into_iter().zip(&self.parts);
        let bars: Vec<Shape> =
            bars.map(|(pen, part)| pen.shape(format!("fill {}", part.class))).collect();
        // What is told of a column lies above its bars.
        panel.shapes.splice(0..0, bars);
        panel
    }

    /// Counts of a column by part.
    fn column(&self, column: Column<'_>) -> Vec<u64> {
        let mut sums = vec![0_u64; self.parts.len()];
        for counts in column.intervals().map(self.counts) {
            for (sum, part) in sums.iter_mut().zip(&self.parts) {
                *sum = sum.saturating_add(part.sum(&counts));
            }
        }
        sums
    }

    /// An invisible shape that tells a column's numbers.
    fn told(&self, column: Column<'_>, counts: &[u64], axis: TimeAxis) -> Shape {
        let mut pen = Pen::default();
        pen.rect(axis.x(column.begin_ns()), 0.0, axis.x(column.end_ns()), f64::from(HEIGHT));
        let parts = self.parts.iter().zip(counts).filter(|(_, n)| **n > 0);
        let parts: Vec<String> =
            parts.map(|(part, n)| format!("{}: {}", part.label, grouped(*n))).collect();
        let (begin, end) = (axis.time_of_day(column.begin_ns()), axis.time_of_day(column.end_ns()));
        let title = format!("{begin} – {end}\n{}", parts.join("\n"));
        Shape { class: "hit".to_owned(), path: pen.path(), title: Some(title) }
    }
}
