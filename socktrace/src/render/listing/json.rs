//! The list as JSON, with the names of the report's `listeners`; see `docs/json.md`.

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::{Map, Value, json};

use super::{agreed, container_of, holders, render_unseen, unit_of};
use crate::{
    event::{SocketKind, socket_unit},
    host::{Holder, TcpExt},
    listener::{Listed, Listing, NamespaceSighting},
    render::json::{SCHEMA_VERSION, family, put_bytes, put_endpoint},
};

/// The whole list; each row is made when it is written.
#[derive(Clone, Copy, Debug)]
pub struct ListingJson<'a>(pub &'a Listing);

struct Rows<'a>(&'a Listing);

struct Row<'a>(&'a Listed, &'a Listing);

struct Owners<'a>(&'a Listed, &'a Listing);

impl Serialize for ListingJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = self.0.namespaces.first().and_then(|namespace| namespace.inode);
        let namespaces: Vec<Value> = self.0.namespaces.iter().map(namespace).collect();
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("schema_version", &SCHEMA_VERSION)?;
        object.serialize_entry("netns", &own)?;
        object.serialize_entry("listeners", &Rows(self.0))?;
        object.serialize_entry("namespaces", &namespaces)?;
        object.serialize_entry("unseen", &unseen(self.0))?;
        object.end()
    }
}

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.rows.iter().map(|row| Row(row, self.0)))
    }
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(row, listing) = self;
        let mut object = serializer.serialize_map(None)?;
        for (name, value) in listener(row, listing) {
            object.serialize_entry(&name, &value)?;
        }
        object.serialize_entry("owners", &Owners(row, listing))?;
        object.end()
    }
}

impl Serialize for Owners<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for (pid, holder) in holders(self.0, self.1) {
            list.serialize_element(&owner(pid, holder))?;
        }
        list.end()
    }
}

/// Everything of a row but its owners, of which there may be many.
fn listener(row: &Listed, listing: &Listing) -> Map<String, Value> {
    let seen = &row.seen;
    let mut object = Map::new();
    object.insert("family".into(), json!(family(&seen.local)));
    object.insert("kind".into(), json!(seen.local.kind.map(kind)));
    put_endpoint(&mut object, "local", &seen.local);
    object.insert("netns".into(), json!(seen.netns));
    object.insert("inode".into(), json!(row.inode));
    let holders = || holders(row, listing).map(|(_, holder)| holder);
    put_bytes(&mut object, "unit", agreed(holders().map(unit_of)));
    object.insert("container".into(), json!(agreed(holders().map(container_of))));
    let known = super::holders(row, listing).map(|(pid, holder)| (pid, holder.comm.as_slice()));
    let unit = socket_unit(seen.socket_unit.as_deref(), known);
    put_bytes(&mut object, "socket_unit", unit);
    object.insert(
        "backlog".into(),
        json!({"requested": null, "effective": seen.effective, "somaxconn": row.somaxconn}),
    );
    object.insert("queue".into(), json!({"now": seen.queue, "peak": null}));
    object.insert("pending_oldest_ns".into(), json!(row.oldest.map(|age| age.ns)));
    let is_bound = row.oldest.map(|age| age.is_lower_bound);
    object.insert("pending_oldest_is_lower_bound".into(), json!(is_bound));
    object.insert("drops".into(), json!(seen.drops));
    object
}

const fn kind(kind: SocketKind) -> &'static str {
    match kind {
        SocketKind::Stream => "stream",
        SocketKind::Dgram => "dgram",
        SocketKind::Seqpacket => "seqpacket",
    }
}

fn owner(pid: u32, holder: &Holder) -> Value {
    let mut object = Map::new();
    object.insert("pid".into(), json!(pid));
    put_bytes(&mut object, "comm", Some(&holder.comm));
    object.insert("uid".into(), json!(holder.uid));
    put_bytes(&mut object, "unit", unit_of(holder));
    object.insert("container".into(), json!(container_of(holder)));
    Value::Object(object)
}

fn namespace(seen: &NamespaceSighting) -> Value {
    let totals = seen.tcp_ext.map(|totals: TcpExt| {
        json!({
            "listen_overflows": totals.listen_overflows,
            "listen_drops": totals.listen_drops,
            "req_q_full_drop": totals.req_q_full_drop,
            "req_q_full_do_cookies": totals.req_q_full_do_cookies,
        })
    });
    json!({"netns": seen.inode, "somaxconn": seen.somaxconn, "netstat": totals})
}

fn unseen(listing: &Listing) -> Value {
    let (look, holders) = (&listing.unseen, &listing.unseen_holders);
    let not_entered = look.not_entered.iter().map(crate::host::EnterError::inode);
    json!({
        "namespaces_of": holders.namespaces_of,
        "descriptors_of": holders.descriptors_of,
        "owners_left_out": holders.left_out,
        "not_entered": not_entered.collect::<Vec<_>>(),
        "not_listed": look.not_listed.len(),
        "malformed": look.malformed,
        "interrupted": look.interrupted,
        "reasons": render_unseen(listing),
    })
}
