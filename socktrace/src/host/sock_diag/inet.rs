//! One `inet_diag` question to both address families.
//!
//! Owns the request and that each socket is listed once. Does not own what an answer means (`tcp`,
//! `tcp_sockets`, `udp`, `ports`).

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use netlink_packet_sock_diag::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, SockDiagMessage};

use super::dump::Folded;
use super::{Dump, SockDiag, SockDiagError, Subject};

/// What is asked for.
pub(super) struct InetQuery {
    /// TCP or UDP.
    pub(super) subject: Subject,
    /// Attributes beside the header.
    pub(super) extensions: ExtensionFlags,
    /// The states to list; the kernel leaves out the others.
    pub(super) states: StateFlags,
    /// Of IPv4 and of IPv6. The kernel compares the ports that are not 0 with each socket's
    /// (`inet_diag_dump_icsk()`), and no address.
    pub(super) ids: [SocketId; 2],
}

impl InetQuery {
    /// Every socket in one of `states`, whatever its ports.
    pub(super) fn all(subject: Subject, extensions: ExtensionFlags, states: u32) -> Self {
        let ids = [SocketId::new_v4(), SocketId::new_v6()];
        Self { subject, extensions, states: StateFlags::from_bits_retain(states), ids }
    }

    fn requests(&self) -> [SockDiagMessage; 2] {
        let [v4, v6] = &self.ids;
        [(AF_INET, v4), (AF_INET6, v6)].map(|(family, id)| {
            SockDiagMessage::InetRequest(InetRequest {
                family,
                protocol: if self.subject == Subject::Udp { IPPROTO_UDP } else { IPPROTO_TCP },
                extensions: self.extensions.clone(),
                states: self.states.clone(),
                socket_id: id.clone(),
            })
        })
    }
}

impl SockDiag {
    /// What `decode` makes of the sockets: what it leaves out takes no memory. It may be asked more
    /// than once for each.
    pub(super) fn inet_sockets<T>(
        &mut self,
        query: &InetQuery,
        decode: impl Fn(&InetResponse) -> Option<T>,
    ) -> Result<Dump<T>, SockDiagError> {
        let mut all = Dump { sockets: Vec::new(), malformed: 0, interrupted: false };
        for request in query.requests() {
            let found = self.fold(query.subject, &request, |kept: &mut Kept<T>, message| {
                let SockDiagMessage::InetResponse(response) = message else { return false };
                if let Some(socket) = decode(&response)
                    && kept.cookies.insert(response.header.socket_id.cookie)
                {
                    kept.sockets.push(socket);
                }
                true
            })?;
            let Folded { state, malformed, interrupted } = found;
            all.sockets.extend(state.sockets);
            all.malformed += malformed;
            all.interrupted |= interrupted;
        }
        Ok(all)
    }
}

/// Sockets and the cookies they are known by.
struct Kept<T> {
    sockets: Vec<T>,
    cookies: HashSet<[u8; 8]>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { sockets: Vec::new(), cookies: HashSet::new() }
    }
}

/// Where the socket is and where it is connected to. An IPv4 address that an IPv6 socket uses is
/// given as IPv4, so that both ends of one connection read alike.
pub(super) fn ends(id: &SocketId) -> (SocketAddr, SocketAddr) {
    let end = |address: IpAddr, port| SocketAddr::new(address.to_canonical(), port);
    let local = end(id.source_address, id.source_port);
    (local, end(id.destination_address, id.destination_port))
}
