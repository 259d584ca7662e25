//! Which local ports TCP sockets use: what a `connect()` that finds none has met.
//!
//! Owns the count. Does not own the range (`net.ipv4.ip_local_port_range`), which is asked for, nor
//! what the count means.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use netlink_packet_sock_diag::inet::{ExtensionFlags, InetResponse, SocketId};

use super::inet::{InetQuery, ends};
use super::{SockDiag, SockDiagError, States, Subject, TcpState};

/// Whose ports are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortQuery {
    /// The ports that `connect()` may take.
    pub range: RangeInclusive<u16>,
    /// Only sockets with this local address: one port may be used once for each.
    pub source: Option<IpAddr>,
    /// Only sockets that are connected, or were, to this end; `None` counts every socket, listeners
    /// too.
    pub destination: Option<SocketAddr>,
}

/// How many of the ports are used.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PortUse {
    /// The sockets by state, whether or not their port is in the range.
    pub by_state: BTreeMap<TcpState, u64>,
    /// Local ports in the range that one of them uses.
    pub ports: u32,
    /// Of the sockets with a port in the range, those that are closed and only keep it: in
    /// `TIME_WAIT`, whose connection no process holds.
    pub time_wait: u64,
    /// What of the answer could not be decoded: a socket each is not counted.
    pub malformed: u32,
    /// See [`super::Dump::interrupted`].
    pub interrupted: bool,
}

/// Counts the local ports that TCP sockets of the calling thread's network namespace use.
pub fn tcp_port_use(query: &PortQuery) -> Result<PortUse, SockDiagError> {
    SockDiag::open()?.tcp_port_use(query)
}

impl SockDiag {
    /// Counts the local ports that TCP sockets of its network namespace use. On kernels before 6.8
    /// one that is bound only is not listed, and so not counted.
    pub fn tcp_port_use(&mut self, query: &PortQuery) -> Result<PortUse, SockDiagError> {
        let mut request = InetQuery::all(Subject::Tcp, ExtensionFlags::empty(), States::ALL.bits());
        let port = query.destination.map_or(0, |destination| destination.port());
        request.ids = request.ids.map(|id| SocketId { destination_port: port, ..id });
        let dump = self.inet_sockets(&request, |response| counted(query, response))?;
        let mut used = PortUse {
            malformed: dump.malformed,
            interrupted: dump.interrupted,
            ..PortUse::default()
        };
        let mut ports = HashSet::new();
        for (port, state) in dump.sockets {
            *used.by_state.entry(state).or_default() += 1;
            if query.range.contains(&port) {
                ports.insert(port);
                used.time_wait += u64::from(state == TcpState::TimeWait);
            }
        }
        used.ports = u32::try_from(ports.len()).unwrap_or(u32::MAX);
        Ok(used)
    }
}

/// The local port and state of a socket that counts: a few bytes each.
fn counted(query: &PortQuery, response: &InetResponse) -> Option<(u16, TcpState)> {
    let (local, remote) = ends(&response.header.socket_id);
    let canonical = |end: SocketAddr| (end.ip().to_canonical(), end.port());
    let to = query.destination.is_none_or(|wanted| canonical(wanted) == canonical(remote));
    let from = query.source.is_none_or(|wanted| wanted.to_canonical() == local.ip());
    (to && from).then(|| (local.port(), response.header.state.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketType, bind, socket};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    fn query(destination: Option<SocketAddr>) -> PortQuery {
        PortQuery { range: 1..=u16::MAX, source: None, destination }
    }

    #[test]
    fn the_ports_to_one_destination_are_counted_with_those_that_closed_connections_keep() {
        // An address of its own: on one that other tests use, their clients may wait in TIME-WAIT
        // for the port that this listener is given.
        let own_address = Ipv4Addr::from(0x7f80_0000 | std::process::id() & 0x007f_ffff);
        let listener = TcpListener::bind((own_address, 0)).expect("a listener");
        let at = listener.local_addr().expect("its address");
        let open: Vec<_> = (0..3).map(|_| TcpStream::connect(at).expect("a connection")).collect();
        for _ in 0..3 {
            drop(listener.accept().expect("an open one"));
        }
        // Closed by the client, then by the server: the client keeps its port.
        for _ in 0..2 {
            drop(TcpStream::connect(at).expect("a connection"));
            drop(listener.accept().expect("a closed one"));
        }
        let counted = || tcp_port_use(&query(Some(at))).expect("a count");
        let settled = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            counted().time_wait == 2
        });
        let used = counted();
        assert!(settled && used.ports == 5, "{used:?}");
        let expected = BTreeMap::from([(TcpState::TimeWait, 2), (TcpState::CloseWait, 3)]);
        assert_eq!(used.by_state, expected);

        let own = open[0].local_addr().expect("its address").port();
        let narrow = PortQuery { range: own..=own, ..query(Some(at)) };
        assert_eq!(tcp_port_use(&narrow).expect("a count").ports, 1);
        let elsewhere = PortQuery { source: Some([127, 0, 0, 9].into()), ..query(Some(at)) };
        assert_eq!(tcp_port_use(&elsewhere).expect("a count").ports, 0);
    }

    #[test]
    fn without_a_destination_listeners_and_bound_sockets_count() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let port = listener.local_addr().expect("its address").port();
        let one = |port| PortQuery { range: port..=port, ..query(None) };
        assert_eq!(tcp_port_use(&one(port)).expect("a count").ports, 1);

        let bound = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&bound, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let at: SocketAddr =
            rustix::net::getsockname(&bound).expect("its name").try_into().expect("an address");
        let used = tcp_port_use(&one(at.port())).expect("a count");
        println!("a socket that is bound only: {} {:?}", used.ports, used.by_state);
        assert!(used.ports <= 1);
    }
}
