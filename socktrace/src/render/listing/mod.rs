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
    use std::collections::HashMap;

    use super::*;
    use crate::event::{Address, Endpoint, Sighting, SocketKind};

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// One Unix listener with a hostile name, which a hostile process holds, and a server and its
    /// helper, both in one container, one of them in a unit.
    fn listing() -> Listing {
        let holder = |comm: &[u8], cgroup: String| Holder {
            comm: comm.to_vec(),
            uid: Some(33),
            cgroup: Some(cgroup.into_bytes()),
        };
        let local = Endpoint {
            address: Some(Address::Unix(b"/run/a\n\xff".to_vec())),
            kind: Some(SocketKind::Seqpacket),
        };
        let seen = Sighting {
            local,
            netns: Some(4_026_531_840),
            queue: Some(2),
            effective: Some(1),
            drops: None,
            socket_unit: None,
            clients: None,
        };
        let row =
            Listed { inode: 9, seen, somaxconn: Some(128), holders: vec![4, 5], oldest: None };
        let processes = HashMap::from([
            (4, holder(b"ev\x1bil", format!("/docker/{ID}"))),
            (5, holder(b"server", format!("/docker/{ID}/app.service"))),
        ]);
        Listing { rows: vec![row], processes, ..Listing::default() }
    }

    #[test]
    fn a_row_of_the_table_shows_unknown_as_a_dash_and_names_escaped() {
        let text = render_listing(&listing());
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(rows.len(), 2);
        let cells: Vec<&str> = rows[1].iter().map(|cell| cell.trim()).collect();
        let expected = [
            "4026531840",
            "unix",
            "2",
            "1",
            "-",
            "128",
            "-",
            "/run/a\\n\\xff",
            "ev\\x1bil(4), server(5)",
            "app.service",
            "0123456789ab",
            "-",
        ];
        assert_eq!(cells, expected);
    }

    #[test]
    fn a_row_in_json_has_what_all_owners_share_and_each_owner_by_itself() {
        let value = serde_json::to_value(ListingJson(&listing())).expect("JSON");
        let row = &value["listeners"][0];
        assert_eq!(row["local_hex"], "2f72756e2f610aff");
        assert_eq!(row["local"], "/run/a\\n\\xff");
        assert_eq!((&row["kind"], &row["container"]), (&"seqpacket".into(), &ID.into()));
        assert!(row["unit"].is_null(), "only one of them is in a unit: {row}");
        assert!(row["drops"].is_null() && row["backlog"]["requested"].is_null(), "{row}");
        let owner = serde_json::json!(
            {"pid": 4, "comm": "ev\\x1bil", "uid": 33, "unit": null, "container": ID}
        );
        assert_eq!(row["owners"][0], owner);
        assert_eq!(row["owners"][1]["unit"], "app.service");
    }

    #[test]
    fn only_what_all_agree_on_is_told_of_all() {
        assert_eq!(agreed([Some(1), Some(1)].into_iter()), Some(1));
        assert_eq!(agreed([Some(1), Some(2)].into_iter()), None);
        assert_eq!(agreed([Some(1), None].into_iter()), None);
        assert_eq!(agreed::<u8>([].into_iter()), None);
    }
}
