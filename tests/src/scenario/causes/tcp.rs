//! TCP targets that nobody serves: nobody listens, on another address, in another namespace; no way there;
//! a queue that is full; no local port left.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, raise};
use nix::sys::socket::{SockFlag, SockType, bind, setsockopt, sockopt};
use std::os::fd::AsRawFd;

use super::play::{Client, Play, free_port};
use crate::scenario::attempt::must_be;
use crate::scenario::clock::sleep_ms;
use crate::scenario::netns;
use crate::scenario::socket::{Address, Listener, bound, listen, listen_on, set_option};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const OTHER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// Of TEST-NET-1: no packet is sent there, as the namespace has no route.
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// All of them.
pub(super) fn prepare(play: &mut Play<'_>) -> Result<()> {
    nobody(play, "tcp_nobody", V4)?;
    nobody(play, "tcp6_nobody", V6)?;
    elsewhere(play, "tcp_other_addr", OTHER_V4)?;
    elsewhere(play, "tcp_v6_loopback", V6)?;
    v6_only(play)?;
    server_in_namespace(play)?;
    client_in_namespace(play)?;
    listens_later(play)?;
    queue_full(play)?;
    no_route(play)?;
    no_ports(play)
}

/// The port is taken, so that nobody else can listen there by chance.
fn nobody(play: &mut Play<'_>, name: &'static str, ip: IpAddr) -> Result<()> {
    let at = free_port(ip)?;
    play.client(Client::of(name, at, Errno::ECONNREFUSED))?;
    play.scenery(name, move || bound(&at, SockType::Stream));
    Ok(())
}

fn elsewhere(play: &mut Play<'_>, name: &'static str, ip: IpAddr) -> Result<()> {
    let at = free_port(V4)?;
    play.client(Client::of(name, at, Errno::ECONNREFUSED))?;
    play.scenery(name, move || listen(&Address::ip(ip, at.port()), SockType::Stream, 16));
    Ok(())
}

fn v6_only(play: &mut Play<'_>) -> Result<()> {
    let name = "tcp_v6_only";
    let at = free_port(V4)?;
    play.client(Client::of(name, at, Errno::ECONNREFUSED))?;
    play.scenery(name, move || {
        let any = Address::ip(Ipv6Addr::UNSPECIFIED.into(), at.port());
        let fd = any.socket(SockType::Stream, SockFlag::empty())?;
        setsockopt(&fd, sockopt::Ipv6V6Only, &true).context("IPV6_V6ONLY")?;
        bind(fd.as_raw_fd(), any.as_sockaddr()).context("bind")?;
        listen_on(fd, any, 16)
    });
    Ok(())
}

fn server_in_namespace(play: &mut Play<'_>) -> Result<()> {
    let at = free_port(V4)?;
    let server = move || {
        netns::enter()?;
        listen(&at, SockType::Stream, 16)
    };
    play.server("netns-server", server, || Ok(()))?;
    play.client(Client::of("tcp_netns_server", at, Errno::ECONNREFUSED))
}

fn client_in_namespace(play: &mut Play<'_>) -> Result<()> {
    let name = "tcp_netns_client";
    let at = free_port(V4)?;
    play.client(Client::of(name, at, Errno::ECONNREFUSED).from(netns::enter))?;
    play.scenery(name, move || listen(&at, SockType::Stream, 16));
    Ok(())
}

/// A stopped server on this host: the client's SYNs are dropped until it gives up.
fn queue_full(play: &mut Play<'_>) -> Result<()> {
    let at = free_port(V4)?;
    play.server(
        "queue-server",
        move || listen(&at, SockType::Stream, 0),
        || raise(Signal::SIGSTOP).context("SIGSTOP"),
    )?;
    play.client(Client::trying("tcp_queue_full", at, Errno::ETIMEDOUT, move || fill_and_wait(&at)))
}

pub(super) fn fill_and_wait(at: &Address) -> Result<()> {
    let first = at.socket(SockType::Stream, SockFlag::empty())?;
    at.connect(&first).context("a connection that fits")?;
    // Until the last packet of the handshake has put it into the queue.
    sleep_ms(50);
    wait_in_vain(at)?;
    // It goes on lying in the queue.
    std::mem::forget(first);
    Ok(())
}

/// A connect that nobody answers, and that gives up soon.
pub(super) fn wait_in_vain(at: &Address) -> Result<()> {
    let socket = at.socket(SockType::Stream, SockFlag::empty())?;
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_SYNCNT, 1)?;
    must_be(at, Errno::ETIMEDOUT, at.connect(&socket))
}

/// Nobody listens yet when it connects.
fn listens_later(play: &mut Play<'_>) -> Result<()> {
    let at = free_port(V4)?;
    let listen = move || {
        std::mem::forget(listen(&at, SockType::Stream, 16)?);
        Ok(())
    };
    play.client(Client::changing("tcp_late", at, Errno::ECONNREFUSED, listen))
}

fn no_route(play: &mut Play<'_>) -> Result<()> {
    let at = Address::ip(FAR, 9);
    play.client(Client::of("tcp_no_route", at, Errno::ENETUNREACH).from(netns::enter))
}

/// A namespace with four local ports, and five connections.
fn no_ports(play: &mut Play<'_>) -> Result<()> {
    let enter = || {
        netns::enter()?;
        let path = "/proc/sys/net/ipv4/ip_local_port_range";
        std::fs::write(path, "40000 40003").context(path)
    };
    let at = Address::ip(V4, 9000);
    let attempt = move || use_up_ports(&at);
    play.client(Client::trying("tcp_no_ports", at, Errno::EADDRNOTAVAIL, attempt).from(enter))
}

fn use_up_ports(at: &Address) -> Result<()> {
    let listener = listen(at, SockType::Stream, 64)?;
    let mut connected = Vec::new();
    let errno = connect_all(&listener, &mut connected)?;
    must_be(at, Errno::EADDRNOTAVAIL, Err(errno))?;
    // The connections keep their ports.
    std::mem::forget((listener, connected));
    Ok(())
}

/// Connects until that fails.
fn connect_all(listener: &Listener, connected: &mut Vec<OwnedFd>) -> Result<Errno> {
    for _ in 0..16 {
        let socket = listener.at.socket(SockType::Stream, SockFlag::empty())?;
        match listener.at.connect(&socket) {
            Ok(()) => connected.push(socket),
            Err(errno) => return Ok(errno),
        }
    }
    bail!("sixteen connections from four ports")
}
