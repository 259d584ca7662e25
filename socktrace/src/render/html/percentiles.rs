//! Waits by percentile, a curve per listener: both axes logarithmic, so that the tail is seen.

use super::{
    chart::{Panel, Pen, Shape, Tick, WIDTH},
    heat::power_of_ten,
    roster::Roster,
    values::{UNKNOWN, grouped, wait},
};
use crate::aggregate::{Snapshot, Waits};

const HEIGHT: u32 = 260;
/// Where the longest wait is drawn: behind 99.9 %, which is at 3.
const END: f64 = 3.4;

/// All curves, and their numbers.
pub(super) struct Percentiles {
    pub(super) panel: Panel,
    pub(super) rows: Vec<Row>,
    pub(super) notes: Vec<String>,
}

/// The numbers of one curve.
pub(super) struct Row {
    pub(super) class: String,
    pub(super) name: String,
    pub(super) count: String,
    /// p50, p90, p99, p999 and the longest.
    pub(super) waits: [String; 5],
}

/// `None` where no wait is known.
pub(super) fn percentiles(snapshot: &Snapshot, roster: &Roster) -> Option<Percentiles> {
    let of = |inode: u64| snapshot.listeners.iter().find(|row| row.inode == inode);
    let curves: Vec<_> = roster
        .shown
        .iter()
        .filter_map(|listener| Some((listener, &of(listener.inode)?.accept)))
        .filter(|(_, waits)| waits.count() > 0)
        .collect();
    let known = curves.iter().filter(|(_, waits)| waits.any());
    let ends = known.clone().flat_map(|(_, waits)| [waits.permille_ns(10), waits.max_ns()]);
    let ends: Vec<f64> = ends.map(log10).collect();
    if ends.is_empty() {
        return None;
    }
    let axis = Axis::of(&ends);
    let shape = |(listener, waits): &(&super::roster::Listener, &Waits)| Shape {
        class: format!("line {}", listener.class),
        path: axis.curve(waits),
        title: Some(listener.name.clone()),
    };
    let mut panel = Panel {
        label: "Accept waits by percentile, a curve per listener; the table has its numbers"
            .to_owned(),
        height: HEIGHT,
        shapes: known.map(shape).collect(),
        x: percent_ticks(),
        y: axis.ticks(),
        ..Panel::default()
    };
    panel.put_grid(&percent_ticks());
    let rows = curves.iter().map(|(listener, waits)| row(listener, waits)).collect();
    Some(Percentiles { panel, rows, notes: roster.rest().into_iter().collect() })
}

fn row(listener: &super::roster::Listener, waits: &Waits) -> Row {
    let told = |ns: u64| if waits.any() { wait(ns) } else { UNKNOWN.to_owned() };
    let [p50, p90, p99, p999] = [500, 900, 990, 999].map(|permille| waits.permille_ns(permille));
    Row {
        class: listener.class.clone(),
        name: listener.name.clone(),
        count: grouped(waits.count()),
        waits: [p50, p90, p99, p999, waits.max_ns()].map(told),
    }
}

fn log10(ns: u64) -> f64 {
    (ns.max(1) as f64).log10()
}

/// The vertical axis: powers of ten.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn of(ends: &[f64]) -> Self {
        let low = ends.iter().copied().fold(f64::INFINITY, f64::min).floor();
        let high = ends.iter().copied().fold(low + 1.0, f64::max).ceil();
        Self { low, high }
    }

    fn y(&self, log10: f64) -> f64 {
        let share = (self.high - log10) / (self.high - self.low);
        share.clamp(0.0, 1.0) * f64::from(HEIGHT)
    }

    /// From the first percent to the longest.
    fn curve(&self, waits: &Waits) -> String {
        let percents = (1..90).map(|percent| percent * 10);
        let point =
            |permille: u64| (permille_x(permille), self.y(log10(waits.permille_ns(permille))));
        let points = percents.chain(900..=999).map(point);
        let mut pen = Pen::default();
        pen.through(points.chain([(WIDTH, self.y(log10(waits.max_ns())))]));
        pen.path()
    }

    #[expect(clippy::cast_possible_truncation, reason = "they are powers of a u64: 0 to 20")]
    fn ticks(&self) -> Vec<Tick> {
        let tick = |power: i32| Tick {
            at: self.y(f64::from(power)) / f64::from(HEIGHT) * 100.0,
            label: power_of_ten(power),
        };
        (self.low as i32..=self.high as i32).rev().map(tick).collect()
    }
}

/// Each nine is as wide as the one before.
fn permille_x(permille: u64) -> f64 {
    -(1.0 - permille as f64 / 1000.0).log10() / END * WIDTH
}

fn percent_ticks() -> Vec<Tick> {
    let tick = |(permille, label): (u64, &str)| Tick {
        at: permille_x(permille) / WIDTH * 100.0,
        label: label.to_owned(),
    };
    let inner = [(500, "50 %"), (900, "90 %"), (990, "99 %"), (999, "99.9 %")];
    let end = Tick { at: 100.0, label: "max".to_owned() };
    inner.into_iter().map(tick).chain([end]).collect()
}
