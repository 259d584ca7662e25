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
