//! Conditions on a report (`--fail-on`): what is measured, of whom, and the limit that it is held to.
//!
//! Owns when a condition is met. The metrics are the table in `metric.rs`, their filters in
//! `filter.rs`, the way from a report to a number in `measure.rs`, the grammar in `parse.rs`.

mod filter;
mod measure;
mod metric;
mod parse;

pub use filter::{Key, Who, Whose};
pub use metric::{METRICS, Metric, Origin, Rows, Unit};
pub use parse::{ConditionError, Problem};

use std::collections::BTreeMap;

use super::Snapshot;
use filter::Filter;
use measure::{Amount, Part};
use metric::{Fold, Nothing};

/// A metric, and the limit that it is held to.
#[derive(Clone, Debug)]
pub struct Condition {
    text: String,
    metric: &'static Metric,
    rows: Rows,
    filters: Vec<Filter>,
    op: Op,
    limit: u64,
}

/// How a number is compared with its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `==`
    Equal,
    /// `!=`
    Unequal,
}

/// What a report says to a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is met.
    Met(Met),
    /// It is not met.
    NotMet,
    /// It cannot be told.
    Unknown {
        /// Why not: a clause without its full stop.
        why: String,
    },
}

/// A condition that is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// The condition as it was written.
    pub condition: String,
    /// Its metric's unit, of all numbers here.
    pub unit: Unit,
    /// What was measured.
    pub measured: u64,
    /// The comparison that holds.
    pub op: Op,
    /// With this limit.
    pub limit: u64,
    /// The row with the most of it, where the condition is about too much.
    pub most: Option<(Whose, u64)>,
}

impl Op {
    /// Longer signs first, so that the first that fits is meant.
    pub const ALL: [Self; 6] =
        [Self::AtLeast, Self::AtMost, Self::Equal, Self::Unequal, Self::Above, Self::Below];

    /// As conditions write it.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Equal => "==",
            Self::Unequal => "!=",
        }
    }

    const fn holds(self, measured: u64, limit: u64) -> bool {
        match self {
            Self::Above => measured > limit,
            Self::AtLeast => measured >= limit,
            Self::Below => measured < limit,
            Self::AtMost => measured <= limit,
            Self::Equal => measured == limit,
            Self::Unequal => measured != limit,
        }
    }

    /// Whether more of it cannot undo it.
    const fn is_about_too_much(self) -> bool {
        matches!(self, Self::Above | Self::AtLeast)
    }
}

impl std::str::FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        Self::parse(text)
    }
}

impl Condition {
    /// Reads `METRIC[{KEY=VALUE,…}] OP LIMIT`.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        parse::parse(text)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it asks for a name or an address, which a redacted report has not got.
    pub fn asks_for_names(&self) -> bool {
        self.filters.iter().any(Filter::asks_for_name)
    }

    /// Holds a report against it.
    pub fn check(&self, snapshot: &Snapshot) -> Outcome {
        if let Some(signal) = self.metric.signal
            && snapshot.session.tier(signal).is_none()
        {
            return Outcome::Unknown { why: format!("{} was not traced", signal.name()) };
        }
        let parts = self.parts(snapshot);
        let measured = measure::fold(self.metric.fold, parts.iter());
        let holds = measured.is_some_and(|measured| self.op.holds(measured, self.limit));
        if let Some(why) = self.left_out(snapshot)
            && !(holds && self.op.is_about_too_much())
        {
            return Outcome::Unknown { why };
        }
        match (measured, self.metric.nothing) {
            (Some(measured), _) if holds => Outcome::Met(self.met(measured, parts)),
            (None, Nothing::IsUnknown(why)) => Outcome::Unknown { why: why.to_owned() },
            _ => Outcome::NotMet,
        }
    }

    /// The rows that its filters want.
    fn parts(&self, snapshot: &Snapshot) -> Vec<Part> {
        let names_reason = self.filters.iter().any(|filter| filter.key() == Key::Reason);
        let mut parts = measure::parts(self.rows, snapshot, names_reason);
        parts.retain(|part| self.filters.iter().all(|filter| filter.passes(&part.whose)));
        let other = self.other(snapshot);
        if other != 0 && self.counts_all() {
            parts.push(Part { whose: Whose::default(), amount: Amount::Number(other) });
        }
        if self.counts_stalls() {
            // A stall counts once, however old it is.
            for part in &mut parts {
                part.amount = Amount::Number(1);
            }
            if self.filters.is_empty() {
                let amount = Amount::Number(snapshot.stalls_left_out);
                parts.push(Part { whose: Whose::default(), amount });
            }
        }
        parts
    }

    fn counts_stalls(&self) -> bool {
        self.rows == Rows::Stalls && self.metric.fold == Fold::Sum
    }

    /// Whether it does not matter whose a row is, nor how long anything took.
    fn counts_all(&self) -> bool {
        self.metric.fold == Fold::Sum && self.filters.is_empty()
    }

    /// What is in no row, because a map was full.
    fn other(&self, snapshot: &Snapshot) -> u64 {
        match (self.rows, self.metric.signal) {
            (Rows::ConnectsAbandoned, _) => snapshot.abandoned_other,
            (_, Some(signal)) => snapshot.completeness.other(signal),
            (_, None) => 0,
        }
    }

    /// Why rows may be missing, if any may.
    fn left_out(&self, snapshot: &Snapshot) -> Option<String> {
        let uninvestigated = snapshot.unread.as_ref().map_or(0, |unread| unread.uninvestigated);
        if self.rows == Rows::Findings && uninvestigated != 0 {
            return Some(format!("{uninvestigated} failures were not looked into"));
        }
        if self.counts_all() {
            return None;
        }
        let (stalls, other) = (snapshot.stalls_left_out, self.other(snapshot));
        if matches!(self.rows, Rows::Stalls | Rows::Queues) && stalls != 0 {
            return Some(format!("{stalls} stalls were too many to keep"));
        }
        (other != 0).then(|| format!("{other} occurrences are in no row: a map was full"))
    }

    fn met(&self, measured: u64, parts: Vec<Part>) -> Met {
        Met {
            condition: self.text.clone(),
            unit: self.metric.unit,
            measured,
            op: self.op,
            limit: self.limit,
            most: if self.op.is_about_too_much() { self.most(parts) } else { None },
        }
    }

    /// Who has the most of it.
    fn most(&self, parts: Vec<Part>) -> Option<(Whose, u64)> {
        let mut by_whose: BTreeMap<Whose, Vec<Part>> = BTreeMap::new();
        for part in parts {
            by_whose.entry(part.whose.clone()).or_default().push(part);
        }
        by_whose.remove(&Whose::default());
        let amounts = by_whose.into_iter().filter_map(|(whose, parts)| {
            Some((whose, measure::fold(self.metric.fold, parts.iter())?))
        });
        amounts.max_by_key(|(_, amount)| *amount)
    }
}

#[cfg(test)]
mod tests;
