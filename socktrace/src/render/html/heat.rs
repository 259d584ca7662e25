//! How long accepted connections had waited, over time: a plane of colours per listener, one row for
//! each doubling of the wait.

use std::collections::BTreeMap;

use socktrace_common::histogram::bounds;

use super::{
    chart::{Chart, Key, Panel, Pen, Shape, Tick, put_time_axis},
    roster::{Listener, Roster},
    time_axis::{Column, TimeAxis},
    values::{count, wait},
};
use crate::{
    aggregate::{Snapshot, Waits},
    event::WaitTotals,
};

/// Pixels of a row.
const ROW: u32 = 7;
/// Rows at least.
const FEWEST: u32 = 14;
/// The lowest row ends here (2^11 ns): what is shorter is no wait.
const LOWEST: u32 = 10;
/// Colours.
const LEVELS: usize = 6;

/// One listener's columns: connections by row.
struct Field<'a> {
    listener: &'a Listener,
    columns: Vec<(Column<'a>, BTreeMap<u32, u64>)>,
}

/// The rows that all panels have.
#[derive(Clone, Copy)]
struct Rows {
    low: u32,
    high: u32,
}

pub(super) fn chart(snapshot: &Snapshot, axis: TimeAxis, roster: &Roster) -> Chart {
    let columns = axis.columns(&snapshot.timeline.intervals);
    let fields: Vec<Field<'_>> = roster
        .shown
        .iter()
        .map(|listener| Field::of(listener, &columns))
        .filter(|field| field.columns.iter().any(|(_, rows)| !rows.is_empty()))
        .collect();
    let mut notes = Vec::new();
    let mut keys = Vec::new();
    let mut panels = Vec::new();
    if fields.is_empty() {
        notes.push(
            "No accepted connection with a known wait in the course of this session.".to_owned(),
        );
    } else {
        let (rows, scale) = (Rows::of(&fields), Scale::of(&fields));
        panels = fields.iter().map(|field| field.panel(rows, &scale, axis)).collect();
        put_time_axis(&mut panels, axis.ticks());
        keys = scale.keys();
        notes.extend(roster.rest());
    }
    Chart {
        id: "waits-over-time",
        title: "Accept waits",
        about: "From the moment a connection was ready until accept() took it, per listener. Each row is \
                twice as long as the one below; the stronger the colour, the more connections per second."
            .to_owned(),
        panels,
        keys,
        notes,
    }
}

impl<'a> Field<'a> {
    fn of(listener: &'a Listener, columns: &[Column<'a>]) -> Self {
        let rows = |column: Column<'a>| {
            let mut rows: BTreeMap<u32, u64> = BTreeMap::new();
            let waits = column.intervals().filter_map(|it| it.accepts.get(&listener.inode));
            for (bucket, n) in waits.flat_map(|waits| &waits.buckets) {
                let row = bounds((*bucket).into()).0.max(1).ilog2().max(LOWEST);
                let sum = rows.entry(row).or_default();
                *sum = n.saturating_add(*sum);
            }
            rows
        };
        Self { listener, columns: columns.iter().map(|column| (*column, rows(*column))).collect() }
    }

    fn panel(&self, rows: Rows, scale: &Scale, axis: TimeAxis) -> Panel {
        let mut all = Waits::default();
        let mut hits = Vec::new();
        for (column, _) in &self.columns {
            let waits = waits(*column, self.listener.inode);
            all.add(&waits);
            if waits.count > 0 {
                hits.push(told(*column, &waits, rows, axis));
            }
        }
        let mut pens: Vec<Pen> = (0..LEVELS).map(|_| Pen::default()).collect();
        for row in rows.low..=rows.high {
            self.draw_row(row, rows, scale, axis, &mut pens);
        }
        let levels = pens.into_iter().enumerate().filter(|(_, pen)| !pen.is_empty());
        let mut shapes: Vec<Shape> =
            levels.map(|(level, pen)| pen.shape(format!("heat h{level}"))).collect();
        shapes.extend(hits);
        let sum = summary(&all);
        Panel {
            title: self.listener.name.clone(),
            label: format!("Accept waits of {} over time: {sum}", self.listener.name),
            sum,
            height: rows.height(),
            shapes,
            x: Vec::new(),
            y: rows.ticks(),
        }
    }

    /// Cells of one colour that touch are one shape.
    fn draw_row(&self, row: u32, rows: Rows, scale: &Scale, axis: TimeAxis, pens: &mut [Pen]) {
        let (top, bottom) = rows.edges(row);
        let mut open: Option<(usize, f64, f64)> = None;
        let mut close = |open: Option<(usize, f64, f64)>| {
            if let Some((level, left, right)) = open {
                pens[level].rect(left, top, right, bottom);
            }
        };
        for (column, counts) in &self.columns {
            let level = counts.get(&row).map(|n| scale.level(column.per_second(*n)));
            let (left, right) = (axis.x(column.begin_ns()), axis.x(column.end_ns()));
            open = match (open, level) {
                (Some((before, start, _)), Some(level)) if before == level => {
                    Some((level, start, right))
                }
                (before, level) => {
                    close(before);
                    level.map(|level| (level, left, right))
                }
            };
        }
        close(open);
    }
}

fn waits(column: Column<'_>, inode: u64) -> WaitTotals {
    let mut sum = WaitTotals::default();
    for waits in column.intervals().filter_map(|it| it.accepts.get(&inode)) {
        sum.add(waits);
    }
    sum
}

fn summary(waits: &Waits) -> String {
    let accepted = format!("{} accepted", count(waits.count(), "connection"));
    if !waits.any() {
        return format!("{accepted}, no wait known");
    }
    let unknown = match waits.unknown() {
        0 => String::new(),
        n => format!(", {n} of unknown wait"),
    };
    format!(
        "{accepted}, p50 {}, p99 {}, longest {}{unknown}",
        wait(waits.permille_ns(500)),
        wait(waits.permille_ns(990)),
        wait(waits.max_ns()),
    )
}

/// An invisible shape that tells a column's numbers.
fn told(column: Column<'_>, totals: &WaitTotals, rows: Rows, axis: TimeAxis) -> Shape {
    let mut waits = Waits::default();
    waits.add(totals);
    let mut pen = Pen::default();
    let height = f64::from(rows.height());
    pen.rect(axis.x(column.begin_ns()), 0.0, axis.x(column.end_ns()), height);
    let (begin, end) = (axis.time_of_day(column.begin_ns()), axis.time_of_day(column.end_ns()));
    let title = format!("{begin} – {end}\n{}", summary(&waits));
    Shape { class: "hit".to_owned(), path: pen.path(), title: Some(title) }
}

impl Rows {
    /// Those with connections, and enough of them for a picture.
    fn of(fields: &[Field<'_>]) -> Self {
        let columns = fields.iter().flat_map(|field| &field.columns);
        let used: Vec<u32> = columns.flat_map(|(_, rows)| rows.keys().copied()).collect();
        let low = used.iter().min().copied().unwrap_or(LOWEST);
        let high = used.iter().max().copied().unwrap_or(LOWEST);
        let low = low.min((high + 1).saturating_sub(FEWEST)).max(LOWEST);
        Self { low, high: high.max(low + FEWEST - 1) }
    }

    const fn height(self) -> u32 {
        (self.high - self.low + 1) * ROW
    }

    /// Top and bottom of a row.
    fn edges(self, row: u32) -> (f64, f64) {
        let top = f64::from((self.high - row) * ROW);
        (top, top + f64::from(ROW))
    }

    /// Labels at powers of ten.
    fn ticks(self) -> Vec<Tick> {
        let rows = f64::from(self.high - self.low + 1);
        let tick = |power: i32| {
            let ns = 10_f64.powi(power);
            let at = (f64::from(self.high) + 1.0 - ns.log2()) / rows * 100.0;
            (-0.1..=100.1).contains(&at).then(|| Tick { at, label: power_of_ten(power) })
        };
        (3..=12).rev().filter_map(tick).collect()
    }
}

/// `1 ms`, `10 ms` …
pub(super) fn power_of_ten(power: i32) -> String {
    let (unit, power) = match power {
        ..3 => ("ns", power),
        3..6 => ("µs", power - 3),
        6..9 => ("ms", power - 6),
        _ => ("s", power - 9),
    };
    format!("{} {unit}", 10_f64.powi(power))
}

/// `0.3` and not `0.30000000000000004`: a small power of ten is no binary fraction, a large one is exact.
fn scaled(n: f64, power: i32) -> f64 {
    if power < 0 { n / 10_f64.powi(-power) } else { n * 10_f64.powi(power) }
}

/// From which rate on a colour is taken, ascending; the first is for everything less.
struct Scale(Vec<f64>);

impl Scale {
    /// Steps of about three, so that rare waits can be seen beside frequent ones.
    fn of(fields: &[Field<'_>]) -> Self {
        let columns = fields.iter().flat_map(|field| &field.columns);
        let rates = columns.flat_map(|(column, rows)| rows.values().map(|n| column.per_second(*n)));
        let most = rates.fold(0.0, f64::max).max(1e-6);
        let steps = (-8_i32..=12).rev().flat_map(|power| [3.0, 1.0].map(|n| scaled(n, power)));
        let mut steps: Vec<f64> = steps.filter(|step| *step < most).take(LEVELS - 1).collect();
        steps.reverse();
        Self(steps)
    }

    fn level(&self, rate: f64) -> usize {
        self.0.iter().filter(|step| rate >= **step).count().min(LEVELS - 1)
    }

    fn keys(&self) -> Vec<Key> {
        let label =
            |level: usize| match (level.checked_sub(1).map(|at| self.0[at]), self.0.get(level)) {
                (None, Some(next)) => format!("< {next}"),
                (Some(step), None) => format!("≥ {step}"),
                (Some(step), Some(next)) => format!("{step} – {next}"),
                (None, None) => "any".to_owned(),
            };
        let key = |level: usize| Key {
            class: format!("heat h{level}"),
            label: label(level),
            value: if level == self.0.len() { "per second".to_owned() } else { String::new() },
        };
        (0..=self.0.len()).map(key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_written_as_people_write_them() {
        for power in -8..=12 {
            for n in [1.0, 3.0] {
                let told = scaled(n, power).to_string();
                let digits = told.replace(['0', '.'], "");
                assert_eq!(digits, n.to_string(), "{told}");
            }
        }
    }
}
