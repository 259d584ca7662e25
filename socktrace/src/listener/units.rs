//! Which `.socket` unit of systemd an address is of, by the files of the units.
//!
//! That a listener is of that unit takes more: systemd must hold it (`event::socket_unit`).

use std::collections::HashMap;

use super::Look;
use crate::{
    event::{Address, Endpoint, SocketKind},
    host::{Host, Listen, ListenAddress, ListenKind, SocketUnits},
};

/// Units by what they listen on; `None` where several units say so.
#[derive(Debug, Default)]
pub(super) struct UnitsByAddress(HashMap<Endpoint, Option<Vec<u8>>>);

impl UnitsByAddress {
    pub(super) fn read(host: &Host) -> Self {
        Self::of(&host.read_socket_units())
    }

    fn of(units: &SocketUnits) -> Self {
        let mut found: HashMap<Endpoint, Option<Vec<u8>>> = HashMap::new();
        for unit in units.units.iter().filter(|unit| !unit.masked) {
            for place in unit.listens.iter().filter_map(endpoint) {
                let known = found.entry(place).or_insert_with(|| Some(unit.name.clone()));
                if known.as_ref().is_some_and(|name| *name != unit.name) {
                    *known = None;
                }
            }
        }
        Self(found)
    }

    /// Says of every listener which unit its address is of.
    pub(super) fn note(&self, look: &mut Look) {
        for seen in look.sightings.values_mut() {
            seen.socket_unit = self.0.get(&seen.local).cloned().flatten();
        }
    }
}

/// What listens there, if anything does that takes connections.
fn endpoint(listen: &Listen) -> Option<Endpoint> {
    let kind = match listen.kind {
        ListenKind::Stream => SocketKind::Stream,
        ListenKind::SequentialPacket => SocketKind::Seqpacket,
        ListenKind::Datagram => return None,
    };
    let address = match &listen.address {
        ListenAddress::Path(path) => Address::Unix(path.clone()),
        ListenAddress::Abstract(name) => Address::Unix([b"\0", name.as_slice()].concat()),
        ListenAddress::Inet(at) => Address::Inet(*at),
    };
    Some(Endpoint { address: Some(address), kind: Some(kind) })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::event::Sighting;

    #[test]
    fn a_listener_has_the_one_unit_of_its_address() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let units = root.path().join("etc/systemd/system");
        fs::create_dir_all(&units).expect("directories");
        let write = |name: &str, listen: &str| {
            fs::write(units.join(name), format!("[Socket]\n{listen}\n")).expect("a unit");
        };
        write("app.socket", "ListenStream=/run/app.sock\nListenDatagram=/run/log.sock");
        write("web.socket", "ListenStream=127.0.0.1:80");
        write("one.socket", "ListenStream=@both");
        write("two.socket", "ListenStream=@both");
        let index = UnitsByAddress::read(&Host::at(root.path()));
        let unit = |address: Address| {
            let local = Endpoint { address: Some(address), kind: Some(SocketKind::Stream) };
            let seen = Sighting { local, ..Sighting::default() };
            let mut look = Look { sightings: HashMap::from([(1, seen)]), ..Look::default() };
            index.note(&mut look);
            look.sightings.remove(&1).and_then(|seen| seen.socket_unit)
        };
        assert_eq!(unit(Address::Unix(b"/run/app.sock".to_vec())), Some(b"app.socket".to_vec()));
        assert_eq!(unit(Address::Inet(([127, 0, 0, 1], 80).into())), Some(b"web.socket".to_vec()));
        assert_eq!(unit(Address::Unix(b"/run/log.sock".to_vec())), None, "a datagram socket");
        assert_eq!(unit(Address::Unix(b"\0both".to_vec())), None, "either may be it");
    }
}
