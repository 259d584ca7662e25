//! Two sessions side by side: as text, the worst first, and as JSON.

mod json;
mod lines;

use std::fmt::Write as _;

pub use json::render_json;

use self::lines::{Kind, Line};
use super::{
    escape::escape,
    json::time,
    text::{right, table, trimmed},
};
use crate::aggregate::{
    Verdict,
    diff::{Change, Diff, Side, TierChange},
};

/// Sentences of one kind beyond this many are counted, not printed.
const SHOWN: usize = 12;

/// What may be wrong with the comparison, what got worse and better, then a table of each kind.
pub fn render_text(diff: &Diff) -> String {
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    for caveat in caveats(diff) {
        let _ = writeln!(text, "{caveat}");
    }
    let kinds = lines::kinds(diff);
    for sentence in sentences(&kinds) {
        let _ = writeln!(text, "{sentence}");
    }
    for kind in &kinds {
        if let Some(table) = as_table(kind) {
            let _ = write!(text, "\n{}\n{table}\n", kind.title);
        }
    }
    let same = kinds.iter().flat_map(|kind| &kind.lines).filter(|it| it.change == Change::Same);
    let _ = writeln!(text, "\nthe same in both: {} rows", same.count());
    for (name, side) in [("before", &diff.before), ("after", &diff.after)] {
        let _ = writeln!(
            text,
            "{name}: {:.1} s from {} on {}, kernel {}; {}",
            side.duration.as_secs_f64(),
            time(side.started),
            escape(side.host.as_bytes()),
            escape(side.kernel.as_bytes()),
            side.verdict.name()
        );
    }
    text
}

/// What makes numbers too low, or not comparable, a sentence each.
fn caveats(diff: &Diff) -> Vec<String> {
    let mut caveats = Vec::new();
    for (name, side) in [("before", &diff.before), ("after", &diff.after)] {
        caveats.extend(incomplete(name, side));
        let left_out = side.stalls_left_out;
        caveats.extend((left_out != 0).then(|| {
            format!("{name}: {left_out} stalls were too many to keep, so they are not compared.")
        }));
    }
    caveats.extend(diff.tiers.iter().map(other_tier));
    caveats
}

fn incomplete(name: &str, side: &Side) -> Option<String> {
    let so = match side.verdict {
        Verdict::Complete => return None,
        Verdict::Incomplete => "something is missing",
        Verdict::Unknown => "it is not known how much is missing",
    };
    let reasons = side.reasons.join("; ");
    Some(format!(
        "{name} is {}: {reasons}. What follows may be too low: {so}.",
        side.verdict.name()
    ))
}

fn other_tier(row: &TierChange) -> String {
    let signal = row.signal.name();
    match (row.before, row.after) {
        (Some(before), Some(after)) => format!(
            "{signal} was traced in the {} tier before and in the {} tier after: they do not see the \
             same.",
            before.name(),
            after.name()
        ),
        (before, _) => {
            let when = if before.is_none() { "before" } else { "after" };
            format!("{signal} was not traced {when}, so nothing can be said of its rows.")
        }
    }
}

/// What got worse, then what got better.
fn sentences(kinds: &[Kind]) -> Vec<String> {
    let of = |wanted: [Change; 2]| -> Vec<&Line> {
        let all = kinds.iter().flat_map(|kind| &kind.lines);
        all.filter(|line| line.is_told && wanted.contains(&line.change)).collect()
    };
    let bad = of([Change::Worse, Change::New]);
    let good = of([Change::Better, Change::Gone]);
    if bad.is_empty() && good.is_empty() {
        return vec!["No difference beyond noise was seen.".to_owned()];
    }
    let mut sentences =
        if bad.is_empty() { vec!["Nothing got worse.".to_owned()] } else { few(bad) };
    sentences.extend(few(good));
    sentences
}

fn few(mut lines: Vec<&Line>) -> Vec<String> {
    lines.sort_by_key(|line| line.change);
    let more = lines.len().saturating_sub(SHOWN);
    let told = lines.into_iter().take(SHOWN);
    let mut sentences: Vec<String> =
        told.map(|line| format!("{}: {}", line.change.name(), line.sentence)).collect();
    if more > 0 {
        sentences.push(format!("… and {more} more in the tables below."));
    }
    sentences
}

/// All that is not the same.
fn as_table(kind: &Kind) -> Option<String> {
    let mut rows = table(&kind.header);
    for line in kind.lines.iter().filter(|line| line.change != Change::Same) {
        let change = [line.change.name().to_owned()].into_iter();
        rows.add_row(change.chain(line.cells.iter().cloned()));
    }
    let numbers: Vec<usize> = (1..=kind.numbers).collect();
    right(&mut rows, &numbers);
    (rows.row_count() > 0).then(|| trimmed(&rows))
}

#[cfg(test)]
mod tests;
