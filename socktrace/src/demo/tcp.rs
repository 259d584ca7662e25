//! TCP targets that refuse, and a listener that drops.

use std::{
    io,
    net::{TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, connect, getsockname, listen,
        setsockopt, socket, sockopt,
    },
};

use super::stage::{Kept, Server, bound, enter_own_network, fail, linger, listener, set_number};

/// A socket on a free port of 127.0.0.1 that does not listen: nobody else can take the port meanwhile.
fn reserved() -> io::Result<(OwnedFd, u16)> {
    let address = SockaddrIn::new(127, 0, 0, 1, 0);
    let holder = bound(AddressFamily::Inet, SockType::Stream, &address)?;
    let bound: SockaddrIn = getsockname(holder.as_raw_fd())?;
    Ok((holder, bound.port()))
}

pub(super) fn refused() -> io::Result<()> {
    let (_holder, port) = reserved()?;
    fail(2, || TcpStream::connect(("127.0.0.1", port)))
}

pub(super) fn other_address() -> io::Result<()> {
    let (_holder, port) = reserved()?;
    let _server = listener(AddressFamily::Inet, &SockaddrIn::new(127, 0, 0, 2, port), 16)?;
    fail(2, || TcpStream::connect(("127.0.0.1", port)))
}

/// Of TEST-NET-1, and no packet is sent there: the namespace has no route.
const NOWHERE: &str = "192.0.2.1:9";

pub(super) fn no_route() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    fail(2, || TcpStream::connect(NOWHERE))
}

pub(super) fn timeout() -> io::Result<()> {
    let server = listener(AddressFamily::Inet, &SockaddrIn::new(127, 0, 0, 1, 0), 0)?;
    let address: SockaddrIn = getsockname(server.as_raw_fd())?;
    let _waiting = TcpStream::connect(("127.0.0.1", address.port()))?;
    fail(1, || {
        let client = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        repeat_syn_once(&client)?;
        Ok(connect(client.as_raw_fd(), &address)?)
    })
}

/// Lets a client give up after 3 s instead of two minutes (tcp(7)).
fn repeat_syn_once(client: &OwnedFd) -> io::Result<()> {
    set_number(client, libc::IPPROTO_TCP, libc::TCP_SYNCNT, 1)
}

/// A connect that has begun.
fn connecting(address: &SockaddrIn) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let client = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    match connect(client.as_raw_fd(), address) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(client),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn backlog() -> io::Result<()> {
    let server = listener(AddressFamily::Inet, &SockaddrIn::new(127, 0, 0, 1, 0), 2)?;
    let address: SockaddrIn = getsockname(server.as_raw_fd())?;
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(connecting(&address)?);
    }
    // Long enough for the clients to repeat their SYN once.
    thread::sleep(Duration::from_millis(1500));
    drop(clients);
    drop(server);
    Ok(())
}

/// IANA has given it to nobody. The same in every run: in a namespace of its own, nothing else can have it.
const UNASSIGNED: u16 = 4;

/// A namespace that is made while socktrace traces could not be looked into: it has given up the right.
pub(super) fn in_another_namespace() -> io::Result<Option<Kept>> {
    let server = Server::start(|| {
        enter_own_network(&[])?;
        listener(AddressFamily::Inet, &SockaddrIn::new(127, 0, 0, 1, UNASSIGNED), 16)
    })?;
    Ok(Some(Box::new(server)))
}

pub(super) fn other_namespace() -> io::Result<()> {
    fail(2, || TcpStream::connect(("127.0.0.1", UNASSIGNED)))
}

/// With four ports for connections that name none.
pub(super) fn with_few_ports() -> io::Result<Option<Kept>> {
    enter_own_network(&[("ip_local_port_range", "40000 40003")])?;
    Ok(None)
}

pub(super) fn no_ports() -> io::Result<()> {
    let server = TcpListener::bind("127.0.0.1:9000")?;
    let connect = || TcpStream::connect("127.0.0.1:9000");
    let held = (0..4).map(|_| Ok((connect()?, server.accept()?.0)));
    let _held = held.collect::<io::Result<Vec<(TcpStream, TcpStream)>>>()?;
    fail(2, connect)
}

/// What follows a full SYN queue is the namespace's setting.
pub(super) fn without_syncookies() -> io::Result<Option<Kept>> {
    enter_own_network(&[("tcp_syncookies", "0")])?;
    Ok(None)
}

/// See [`without_syncookies`].
pub(super) fn with_syncookies() -> io::Result<Option<Kept>> {
    enter_own_network(&[("tcp_syncookies", "1")])?;
    Ok(None)
}

/// A SYN queue that is full without a packet from a stranger: clients that send nothing keep their requests in
/// it, as the listener waits for data (`TCP_DEFER_ACCEPT`, tcp(7)).
pub(super) fn full_syn_queue() -> io::Result<()> {
    const BACKLOG: usize = 4;
    let server = bound(AddressFamily::Inet, SockType::Stream, &SockaddrIn::new(127, 0, 0, 1, 0))?;
    set_number(&server, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 30)?;
    listen(&server, Backlog::new(i32::try_from(BACKLOG).map_err(io::Error::other)?)?)?;
    let address: SockaddrIn = getsockname(server.as_raw_fd())?;
    let silent = (0..BACKLOG).map(|_| TcpStream::connect(("127.0.0.1", address.port())));
    let silent = silent.collect::<io::Result<Vec<TcpStream>>>()?;
    let late = (0..3).map(|_| connecting(&address)).collect::<io::Result<Vec<OwnedFd>>>()?;
    let server = TcpListener::from(server);
    server.set_nonblocking(true)?;
    // Those with a cookie.
    while server.accept().is_ok() {}
    linger();
    // A reset takes a request out of the queue; the last step of a handshake would move it to the other one.
    let silent = silent.into_iter().map(OwnedFd::from);
    for client in silent.chain(late) {
        setsockopt(&client, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    }
    Ok(())
}
