//! The list of listeners, as `socktrace listeners` shows it: text, JSON, and what it could not see.
//!
//! Each row is made, written and forgotten: a host may have 100,000 of them.

mod json;
mod text;
mod unseen;

use std::collections::BTreeSet;

use crate::{
    host::{Container, Holder, container, systemd_unit},
    listener::{Listed, Listing},
};

pub use json::ListingJson;
pub use text::render_listing;
pub use unseen::render_unseen;

/// The holders of a listener with their pids; one that was not named is not there.
fn holders<'a>(row: &'a Listed, listing: &'a Listing) -> impl Iterator<Item = (u32, &'a Holder)> {
    row.holders.iter().filter_map(|pid| Some((*pid, listing.processes.get(pid)?)))
}

fn unit_of(holder: &Holder) -> Option<&[u8]> {
    systemd_unit(holder.cgroup.as_deref()?)
}

fn container_of(holder: &Holder) -> Option<&str> {
    container(holder.cgroup.as_deref()?).map(|Container { id, .. }| id)
}

/// What all of them agree on; nothing where one is unknown or differs.
fn agreed<T: Ord>(values: impl Iterator<Item = Option<T>>) -> Option<T> {
    let mut distinct: BTreeSet<Option<T>> = values.collect();
    if distinct.len() == 1 { distinct.pop_first().flatten() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_all_agree_on_is_told_of_all() {
        assert_eq!(agreed([Some(1), Some(1)].into_iter()), Some(1));
        assert_eq!(agreed([Some(1), Some(2)].into_iter()), None);
        assert_eq!(agreed([Some(1), None].into_iter()), None);
        assert_eq!(agreed::<u8>([].into_iter()), None);
    }
}
