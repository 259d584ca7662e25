//! What a TCP address leads to: listeners on its port in every network namespace, whose address it is,
//! the route there, the local ports that are left.

use std::{collections::HashMap, net::IpAddr};

use nix::errno::Errno;

use super::{accepted, holders::read_holders, namespaces::Namespaces, units::UnitFiles};
use crate::{
    diagnose::{
        Question,
        case::{Case, Ports, Tcp, TcpListening},
    },
    host::{
        AddressFact, Host,
        sock_diag::{PortQuery, SockDiag, TcpListener},
    },
};

/// Other ports that are named.
const OTHER_PORTS: usize = 12;

pub(super) fn gather(
    host: &Host,
    namespaces: &mut Namespaces,
    units: &mut UnitFiles,
    case: &mut Case,
) {
    let Question::Tcp(target) = case.question else { return };

    let here = case.client.net_namespace.and_then(|inode| u32::try_from(inode).ok());
    let own = here.is_some() && here == namespaces.own();
    // The files of /proc/PID/net are those of the namespace of PID.
    let pid = if own { None } else { case.client.pid };
    let known =
        own || pid.is_some_and(|pid| host.read_netns(pid).ok() == case.client.net_namespace);
    let mut tcp = Tcp::default();
    let answers = namespaces.ask(SockDiag::tcp_listeners);
    tcp.complete = answers.complete;
    tcp.looked_into = answers.whole.iter().copied().map(u64::from).collect();
    if known {
        tcp.address = host.read_address(pid, target.ip()).ok();
        tcp.route = host.read_route_to(pid, target.ip()).ok();
    }
    if tcp.address == Some(AddressFact::Foreign) && may_be_a_containers(case, target.ip()) {
        let having = namespaces.with_address(here, target.ip());
        (tcp.address_of, tcp.all_asked) = (having.namespaces, Some(having.all_asked));
    }
    let there = tcp.namespace_of_target(case.client.net_namespace);
    // The host's units listen in its own namespace.
    let in_own = there.is_some() && there == namespaces.own().map(u64::from);
    case.units = in_own.then(|| units.about(&case.question, case));
    let on_port = |it: &&(u32, TcpListener)| it.1.address.port() == target.port();
    let mut inodes: Vec<u64> =
        answers.found.iter().filter(on_port).map(|(_, it)| it.inode).collect();
    inodes.sort_unstable();
    let holders = read_holders(host, &inodes);
    tcp.unreadable = answers.unreadable.max(holders.unreadable);
    // By port: one answer for all of a namespace.
    let mut accepted = HashMap::new();
    tcp.listening = answers
        .found
        .iter()
        .filter(on_port)
        .map(|(netns, it)| TcpListening {
            address: it.address,
            v6only: it.v6only,
            interface: it.interface,
            net_namespace: Some(u64::from(*netns)),
            inode: it.inode,
            queue: Some((it.queue, it.backlog)),
            accepted: if it.queue == 0 {
                None
            } else {
                *accepted.entry(*netns).or_insert_with(|| accepted::of_tcp(namespaces, *netns, it))
            },
            drops: it.drops,
            holders: holders.of.get(&it.inode).cloned(),
        })
        .collect();
    let mut others: Vec<u16> = answers
        .found
        .iter()
        .filter(|(netns, it)| Some(u64::from(*netns)) == there && is_same_side(it, target.ip()))
        .map(|(_, it)| it.address.port())
        .collect();
    others.sort_unstable();
    others.dedup();
    others.truncate(OTHER_PORTS);
    tcp.other_ports = others;
    tcp.settings = here.and_then(|here| namespaces.settings(here));
    let elsewhere = there.filter(|there| Some(*there) != case.client.net_namespace);
    let elsewhere = elsewhere.and_then(|inode| u32::try_from(inode).ok());
    tcp.settings_there = elsewhere.and_then(|there| namespaces.settings(there));
    if matches!(case.errno, None | Some(Errno::EADDRNOTAVAIL)) {
        tcp.ports = ports(namespaces, here, &tcp, target);
    }
    case.tcp = Some(tcp);
}

/// Whether it matters for this errno which namespace has the address, and the address tells: every interface has a link-local
/// one of IPv6, which means nothing on another link.
fn may_be_a_containers(case: &Case, address: IpAddr) -> bool {
    let matters = matches!(
        case.errno,
        None | Some(
            Errno::ECONNREFUSED | Errno::ECONNRESET | Errno::ETIMEDOUT | Errno::EHOSTUNREACH
        )
    );
    matters && !matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn is_same_side(listener: &TcpListener, target: IpAddr) -> bool {
    let bound = listener.address.ip().to_canonical();
    bound == target || bound.is_unspecified() && bound.is_ipv4() == target.is_ipv4()
}

/// The local ports that are in use towards the target.
fn ports(
    namespaces: &mut Namespaces,
    here: Option<u32>,
    tcp: &Tcp,
    target: std::net::SocketAddr,
) -> Option<Ports> {
    let range = tcp.settings.as_ref()?.local_ports?;
    let query =
        PortQuery { range: range.first..=range.last, source: None, destination: Some(target) };
    let used = namespaces.of(here?)?.tcp_port_use(&query).ok()?;
    let whole = used.malformed == 0 && !used.interrupted;
    whole.then_some(Ports {
        used: used.ports as usize,
        time_wait: usize::try_from(used.time_wait).unwrap_or(usize::MAX),
    })
}
