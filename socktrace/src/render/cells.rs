//! Cells of tables and words of sentences: one value each, escaped, `-` where it is unknown.

use std::fmt::{self, Display, Formatter};

use super::escape::{escape, unix_name};
use crate::{
    aggregate::ListenerRow,
    event::{Address, Endpoint, Owner},
};

/// A cell that is not known.
pub(super) const UNKNOWN: &str = "-";

/// An address in one word: hostile bytes escaped.
pub(super) fn endpoint(end: &Endpoint) -> String {
    Shown(end.address.as_ref()).to_string()
}

/// The same, to be written where it belongs.
pub(super) struct Shown<'a>(pub(super) Option<&'a Address>);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str(UNKNOWN),
            Some(Address::Inet(address)) => write!(f, "{address}"),
            Some(Address::Unix(name)) if name.is_empty() => f.write_str("(unnamed)"),
            Some(Address::Unix(name)) => f.write_str(&unix_name(name)),
        }
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
    Millis(ns).to_string()
}

/// Nanoseconds, shown as [`millis`] does, at the right of a given width.
pub(super) struct Millis(pub(super) u64);

impl Display for Millis {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let micros = self.0 / 1_000 + u64::from(self.0 % 1_000 >= 500);
        // A point and three digits.
        let before = f.width().unwrap_or(0).saturating_sub(4);
        write!(f, "{:>before$}.{:03}", micros / 1_000, micros % 1_000)
    }
}
