//! What a chart is made of: shapes in a plane that the page stretches, ticks beside it, keys below.
//!
//! Text is never part of the plane, so it keeps its size on a narrow screen.

use std::fmt::Write as _;

/// Width of the plane; its height is that of the panel, in pixels.
pub(super) const WIDTH: f64 = 1000.0;

/// One section with panels.
pub(super) struct Chart {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// What it shows, and how it is read.
    pub(super) about: String,
    pub(super) panels: Vec<Panel>,
    pub(super) keys: Vec<Key>,
    /// What is not in it.
    pub(super) notes: Vec<String>,
}

/// One plane with its axes.
#[derive(Default)]
pub(super) struct Panel {
    pub(super) title: String,
    /// The numbers that matter most.
    pub(super) sum: String,
    /// All of it in words, for who does not see it.
    pub(super) label: String,
    pub(super) height: u32,
    pub(super) shapes: Vec<Shape>,
    pub(super) x: Vec<Tick>,
    pub(super) y: Vec<Tick>,
}

/// One path.
pub(super) struct Shape {
    pub(super) class: String,
    pub(super) path: String,
    /// What is told where the mouse is.
    pub(super) title: Option<String>,
}

/// A label on an axis.
pub(super) struct Tick {
    /// Percent from the left, or from the top.
    pub(super) at: f64,
    pub(super) label: String,
}

/// An entry of a legend.
pub(super) struct Key {
    pub(super) class: String,
    pub(super) label: String,
    pub(super) value: String,
}

impl Panel {
    /// Lines at the ticks of the time axis; without labels where more panels follow below.
    pub(super) fn put_grid(&mut self, x: &[Tick]) {
        let mut pen = Pen::default();
        let height = f64::from(self.height);
        for tick in x {
            pen.line(tick.at / 100.0 * WIDTH, 0.0, tick.at / 100.0 * WIDTH, height);
        }
        for tick in &self.y {
            pen.line(0.0, tick.at / 100.0 * height, WIDTH, tick.at / 100.0 * height);
        }
        let grid = Shape { class: "grid".to_owned(), path: pen.path(), title: None };
        self.shapes.insert(0, grid);
    }
}

impl Tick {
    /// As CSS has it.
    pub(super) fn percent(&self) -> String {
        short(self.at)
    }
}

/// Labels below the last panel only: all have the same axis.
pub(super) fn put_time_axis(panels: &mut [Panel], ticks: Vec<Tick>) {
    for panel in panels.iter_mut() {
        panel.put_grid(&ticks);
    }
    if let Some(last) = panels.last_mut() {
        last.x = ticks;
    }
}

/// Draws paths.
#[derive(Default)]
pub(super) struct Pen(String);

impl Pen {
    pub(super) fn rect(&mut self, left: f64, top: f64, right: f64, bottom: f64) {
        let (width, height) = (short(right - left), short(bottom - top));
        // Writing to a `String` cannot fail.
        let _ = write!(self.0, "M{} {}h{width}v{height}h-{width}z", short(left), short(top));
    }

    pub(super) fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64) {
        self.through([(x1, y1), (x2, y2)]);
    }

    /// A line through all points.
    pub(super) fn through(&mut self, points: impl IntoIterator<Item = (f64, f64)>) {
        for (index, (x, y)) in points.into_iter().enumerate() {
            let step = if index == 0 { 'M' } else { 'L' };
            let _ = write!(self.0, "{step}{} {}", short(x), short(y));
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn path(self) -> String {
        self.0
    }

    pub(super) fn shape(self, class: impl Into<String>) -> Shape {
        Shape { class: class.into(), path: self.0, title: None }
    }
}

/// One decimal, where it is needed.
fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// The ends of a linear axis that begins at 0: a round number that is not below `most`.
pub(super) fn round_up(most: f64) -> f64 {
    let power = 10_f64.powf(most.max(1e-3).log10().floor());
    let steps = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|round| *round >= most * 0.999).unwrap_or(most)
}

/// Labels of a linear axis from `most` at the top to 0, with their unit.
pub(super) fn linear_ticks(most: f64, unit: &str) -> Vec<Tick> {
    let shares = if is_round(most / 2.0) { [0.0, 0.5, 1.0].as_slice() } else { &[0.0, 1.0] };
    let label = |share: f64| match most * (1.0 - share) {
        0.0 => "0".to_owned(),
        value => format!("{}{unit}", number(value)),
    };
    shares.iter().map(|share| Tick { at: share * 100.0, label: label(*share) }).collect()
}

/// Whether a label of it has one decimal at most.
fn is_round(value: f64) -> bool {
    value < 1.0 || value.fract() == 0.0
}

/// As short as a label is to be.
pub(super) fn number(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{v:.1e}"),
        v if v >= 1e6 => format!("{}M", short(v / 1e6)),
        v if v >= 1e4 => format!("{}k", short(v / 1e3)),
        v if v >= 10.0 => format!("{v:.0}"),
        v if v >= 0.1 => short(v),
        v => format!("{v:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_short_and_closed() {
        let mut pen = Pen::default();
        pen.rect(1.04, 0.0, 3.0, 2.5);
        assert_eq!(pen.path(), "M1 0h2v2.5h-2z");
    }

    #[test]
    fn an_axis_ends_at_a_round_number_that_is_not_below_the_most() {
        for (most, end) in [(7.2, 8.0), (100.0, 100.0), (101.0, 200.0), (0.03, 0.03), (0.0, 0.001)]
        {
            let found = round_up(most);
            assert!((found - end).abs() < end * 1e-9, "{most}: {found}, not {end}");
        }
    }
}
