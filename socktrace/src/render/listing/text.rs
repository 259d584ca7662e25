//! The list as a table in the spirit of `ss -ltn`.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{container_of, holders, unit_of};
use crate::{
    listener::{Age, Listed, Listing},
    render::{
        cells::{UNKNOWN, endpoint, family, few, number},
        escape::escape,
    },
};

const COLUMNS: usize = 12;
/// `Recv-Q` is the accept queue and `Send-Q` its limit, as `ss` calls them.
const HEADER: [&str; COLUMNS] = [
    "NETNS",
    "FAM",
    "Recv-Q",
    "Send-Q",
    "REQ",
    "SOMAXCONN",
    "DROPS",
    "LOCAL",
    "OWNERS",
    "UNIT",
    "CONTAINER",
    "OLDEST",
];
/// Columns of numbers.
const RIGHT: std::ops::RangeInclusive<usize> = 2..=6;
/// As much of a container's id as its tools print.
const SHORT_ID: usize = 12;

/// A line for each listener, in the order of the rows, below a line of column heads.
pub fn render_listing(listing: &Listing) -> String {
    let mut widths = HEADER.map(str::len);
    for row in &listing.rows {
        for (width, cell) in widths.iter_mut().zip(cells(row, listing)) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    push_line(&mut text, widths, HEADER.map(str::to_owned));
    for row in &listing.rows {
        push_line(&mut text, widths, cells(row, listing));
    }
    text
}

fn push_line(text: &mut String, widths: [usize; COLUMNS], cells: [String; COLUMNS]) {
    let start = text.len();
    for (column, (width, cell)) in widths.into_iter().zip(cells).enumerate() {
        // Writing to a `String` cannot fail.
        let _ = if RIGHT.contains(&column) {
            write!(text, "{cell:>width$}  ")
        } else {
            write!(text, "{cell:<width$}  ")
        };
    }
    text.truncate(start + text[start..].trim_end().len());
    text.push('\n');
}

/// Seconds.
fn age(age: Age) -> String {
    format!("{}{:.3}s", if age.is_lower_bound { "≥" } else { "" }, age.ns as f64 / 1e9)
}

fn cells(row: &Listed, listing: &Listing) -> [String; COLUMNS] {
    let seen = &row.seen;
    let owners = holders(row, listing);
    let owner =
        |(pid, holder): (u32, &crate::host::Holder)| format!("{}({pid})", escape(&holder.comm));
    let units: BTreeSet<&[u8]> =
        holders(row, listing).filter_map(|(_, holder)| unit_of(holder)).collect();
    let containers: BTreeSet<&str> =
        holders(row, listing).filter_map(|(_, holder)| container_of(holder)).collect();
    let short = |id: &str| id.get(..SHORT_ID).unwrap_or(id).to_owned();
    [
        number(seen.netns),
        family(&seen.local).to_owned(),
        number(seen.queue),
        number(seen.effective),
        UNKNOWN.to_owned(),
        number(row.somaxconn),
        number(seen.drops),
        endpoint(&seen.local),
        few(owners.map(owner), row.holders.len()),
        few(units.iter().map(|unit| escape(unit).into_owned()), units.len()),
        few(containers.iter().copied().map(short), containers.len()),
        row.oldest.map_or_else(|| UNKNOWN.to_owned(), age),
    ]
}
