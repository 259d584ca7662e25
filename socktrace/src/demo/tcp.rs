//! TCP targets that refuse, and a listener that drops.

use std::{
    io,
    net::TcpStream,
    os::fd::{AsRawFd, OwnedFd},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, getsockname, socket},
};

use super::stage::{bound, fail, listener};

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

/// Lets a client give up after 3 s instead of two minutes (`TCP_SYNCNT`, tcp(7)).
fn repeat_syn_once(client: &OwnedFd) -> io::Result<()> {
    let once: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&once)).map_err(io::Error::other)?;
    // SAFETY: the value lives through the call, and its size is its own.
    let set = unsafe {
        libc::setsockopt(
            client.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SYNCNT,
            (&raw const once).cast(),
            length,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub(super) fn backlog() -> io::Result<()> {
    let server = listener(AddressFamily::Inet, &SockaddrIn::new(127, 0, 0, 1, 0), 2)?;
    let address: SockaddrIn = getsockname(server.as_raw_fd())?;
    let mut clients = Vec::new();
    for _ in 0..12 {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let client = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        match connect(client.as_raw_fd(), &address) {
            Ok(()) | Err(Errno::EINPROGRESS) => clients.push(client),
            Err(errno) => return Err(errno.into()),
        }
    }
    // Long enough for the clients to repeat their SYN once.
    thread::sleep(Duration::from_millis(1500));
    drop(clients);
    drop(server);
    Ok(())
}
