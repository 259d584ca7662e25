//! Tables of the page: columns, cells, and how many rows are shown. Which tables there are is in
//! `of_processes.rs`, `of_listeners.rs` and `of_tracing.rs`.

pub(super) mod of_listeners;
pub(super) mod of_processes;
pub(super) mod of_tracing;

use super::values::{UNKNOWN, count};
use crate::{
    aggregate::Waits,
    render::{cells::millis, other::OTHER},
};

/// Rows that a table shows.
const SHOWN: usize = 200;
/// Characters that stay on one line.
const LINE: usize = 44;

/// One table.
pub(super) struct Table {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Cell>>,
    /// Rows that are not shown, in words.
    pub(super) more: Option<String>,
    /// What is said where there is no row.
    pub(super) none: &'static str,
}

/// How a column is set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Right, and sorted by value.
    Number,
    /// A name that somebody chose: in the letters of a terminal.
    Name,
    /// Words.
    Text,
}

/// One column.
#[derive(Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) kind: Kind,
}

/// One cell: its text, as the column wants it.
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) class: &'static str,
}

impl Cell {
    fn of(kind: Kind, text: String) -> Self {
        let class = match (kind, text.chars().count() > LINE) {
            (Kind::Name, true) => "m long",
            (Kind::Text, true) => "t long",
            _ => kind.class(),
        };
        Self { text, class }
    }
}

impl Kind {
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Number => "n",
            Self::Name => "m",
            Self::Text => "t",
        }
    }
}

pub(super) const fn number(title: &'static str) -> Column {
    Column { title, kind: Kind::Number }
}

pub(super) const fn name(title: &'static str) -> Column {
    Column { title, kind: Kind::Name }
}

pub(super) const fn text(title: &'static str) -> Column {
    Column { title, kind: Kind::Text }
}

impl Table {
    /// The first rows, and how many more there are.
    fn with<const N: usize>(
        mut self,
        columns: [Column; N],
        rows: impl Iterator<Item = [String; N]>,
    ) -> Self {
        let cell = |(column, text): (&Column, String)| Cell::of(column.kind, text);
        let mut left_out: u64 = 0;
        for row in rows {
            if self.rows.len() < SHOWN {
                self.rows.push(columns.iter().zip(row).map(cell).collect());
            } else {
                left_out += 1;
            }
        }
        self.more = (left_out > 0)
            .then(|| format!("and {}: --format json has all of them", count(left_out, "more row")));
        self.columns = columns.to_vec();
        self
    }
}

impl Table {
    /// With a last row that is always shown: what had no room in the kernel's maps.
    fn and_other<const N: usize>(mut self, counts: [(usize, u64); N], named: usize) -> Self {
        if counts.iter().all(|(_, count)| *count == 0) {
            return self;
        }
        let cell = |(at, column): (usize, &Column)| {
            let count = counts.iter().find(|(counted, _)| *counted == at);
            let text = match count {
                Some((_, count)) => count.to_string(),
                None if at == named => OTHER.to_owned(),
                None => UNKNOWN.to_owned(),
            };
            Cell::of(column.kind, text)
        };
        self.rows.push(self.columns.iter().enumerate().map(cell).collect());
        self
    }
}

/// A table without rows.
const fn empty(
    id: &'static str,
    title: &'static str,
    about: &'static str,
    none: &'static str,
) -> Table {
    Table { id, title, about, columns: Vec::new(), rows: Vec::new(), more: None, none }
}

/// Milliseconds of a wait, where any is known.
fn wait_ms(waits: &Waits, pick: impl Fn(&Waits) -> u64) -> String {
    if waits.any() { millis(pick(waits)) } else { UNKNOWN.to_owned() }
}

/// p50, p90, p99, p999, the longest and the sum, in milliseconds.
fn all_waits(waits: &Waits) -> [String; 6] {
    let permille = |permille: u64| wait_ms(waits, |waits| waits.permille_ns(permille));
    [
        permille(500),
        permille(900),
        permille(990),
        permille(999),
        wait_ms(waits, Waits::max_ns),
        wait_ms(waits, Waits::sum_ns),
    ]
}
