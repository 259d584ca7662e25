//! Cells of tables and words of sentences: one value each, escaped, `-` where it is unknown.

use super::escape::{escape, unix_name};
use crate::{
    aggregate::ListenerRow,
    event::{Address, Endpoint, Owner},
};

/// A cell that is not known.
pub(super) const UNKNOWN: &str = "-";

/// An address in one word: hostile bytes escaped.
pub(super) fn endpoint(end: &Endpoint) -> String {
    match &end.address {
        None => UNKNOWN.to_owned(),
        Some(Address::Inet(address)) => address.to_string(),
        Some(Address::Unix(name)) if name.is_empty() => "(unnamed)".to_owned(),
        Some(Address::Unix(name)) => unix_name(name).into_owned(),
    }
}

/// `unix`, `inet` or `inet6`.
pub(super) fn family(end: &Endpoint) -> &'static str {
    end.address.as_ref().map_or(UNKNOWN, Address::family)
}

/// `nginx(12), nginx(13)`; `-` where nobody is known.
pub(super) fn owners(row: &ListenerRow) -> String {
    let owner = |owner: &Owner| format!("{}({})", escape(&owner.comm), owner.pid);
    few(row.owners.iter().map(owner), row.owners.len())
}

/// The first of `count` words, and how many more there are; `-` for none.
pub(super) fn few(words: impl Iterator<Item = String>, count: usize) -> String {
    const SHOWN: usize = 3;
    let mut words: Vec<String> = words.take(SHOWN).collect();
    match count {
        0 => return UNKNOWN.to_owned(),
        n if n > SHOWN => words.push(format!("and {} more", n - SHOWN)),
        _ => {}
    }
    words.join(", ")
}

/// Bytes of a traced program.
pub(super) fn bytes(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| UNKNOWN.to_owned(), |bytes| escape(bytes).into_owned())
}

/// A number.
pub(super) fn number(n: Option<impl ToString>) -> String {
    n.map_or_else(|| UNKNOWN.to_owned(), |n| n.to_string())
}

/// Milliseconds with microseconds.
pub(super) fn millis(ns: u64) -> String {
    format!("{:.3}", ns as f64 / 1e6)
}
