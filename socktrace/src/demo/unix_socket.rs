//! Unix sockets that take no connection: of another type, not listening, full, in another namespace.

use std::{
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
    },
    path::Path,
    thread,
    time::Duration,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::socket::{
        AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, connect, shutdown, socket,
    },
};

use super::stage::{Kept, Scratch, Server, bound, fail, fail_to_connect, linger, listener};

pub(super) fn wrong_type(scratch: &Scratch) -> io::Result<()> {
    let path = scratch.join("log.sock");
    let _server = UnixDatagram::bind(&path)?;
    fail_to_connect(&path, 2)
}

pub(super) fn not_listening(scratch: &Scratch) -> io::Result<()> {
    let path = scratch.join("app.sock");
    let _server = bound(AddressFamily::Unix, SockType::Stream, &UnixAddr::new(&path)?)?;
    fail_to_connect(&path, 2)
}

pub(super) fn shut_down(scratch: &Scratch) -> io::Result<()> {
    let path = scratch.join("app.sock");
    let server = UnixListener::bind(&path)?;
    shutdown(server.as_raw_fd(), Shutdown::Both)?;
    fail_to_connect(&path, 2)
}

pub(super) fn peer_taken(scratch: &Scratch) -> io::Result<()> {
    let path = scratch.join("log.sock");
    let (server, peer) = (UnixDatagram::bind(&path)?, scratch.join("client.sock"));
    let _client = UnixDatagram::bind(&peer)?;
    server.connect(&peer)?;
    fail(2, || UnixDatagram::unbound()?.connect(&path))
}

/// A listener with a backlog of 1, and the two connections that fill it.
fn full(path: &Path) -> io::Result<(UnixListener, [UnixStream; 2])> {
    let server = listener(AddressFamily::Unix, &UnixAddr::new(path)?, 1)?;
    Ok((server.into(), [UnixStream::connect(path)?, UnixStream::connect(path)?]))
}

/// A connect that does not wait.
fn try_connect(path: &Path) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let client = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(client.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(client)
}

pub(super) fn backlog(scratch: &Scratch) -> io::Result<()> {
    let path = scratch.join("app.sock");
    let _full = full(&path)?;
    fail(3, || try_connect(&path))
}

pub(super) fn stopped_server(scratch: &Scratch) -> io::Result<()> {
    let path = scratch.join("app.sock");
    let server = Server::start(|| listener(AddressFamily::Unix, &UnixAddr::new(&path)?, 1))?;
    server.stop()?;
    let _waiting = [UnixStream::connect(&path)?, UnixStream::connect(&path)?];
    // Long enough to be told as a stall.
    thread::sleep(Duration::from_millis(1500));
    fail(3, || try_connect(&path))
}

pub(super) fn inherited_listener(scratch: &Scratch) -> io::Result<()> {
    let path = scratch.join("app.sock");
    let made = listener(AddressFamily::Unix, &UnixAddr::new(&path)?, 1)?;
    // It keeps what it has inherited, and waits for its end.
    let _heir = Server::start(|| Ok(()))?;
    drop(made);
    let _waiting = [UnixStream::connect(&path)?, UnixStream::connect(&path)?];
    fail(3, || try_connect(&path))
}

pub(super) fn blocked_connect(scratch: &Scratch) -> io::Result<()> {
    let path = scratch.join("app.sock");
    let (server, _waiting) = full(&path)?;
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| UnixStream::connect(&path));
        thread::sleep(Duration::from_millis(300));
        for _ in 0..3 {
            server.accept()?;
        }
        sleeper.join().map_err(|_| io::Error::other("the client panicked"))?
    })?;
    linger();
    Ok(())
}

/// The same in every run: in a namespace of its own, nothing else can have it.
const ABSTRACT: &str = "socktrace-demo";

pub(super) fn abstract_missing() -> io::Result<()> {
    let name = format!("socktrace-demo-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name)?;
    fail(2, || UnixStream::connect_addr(&address))
}

/// A namespace that is made while socktrace traces could not be looked into: it has given up the right.
pub(super) fn in_another_namespace() -> io::Result<Option<Kept>> {
    let address = SocketAddr::from_abstract_name(ABSTRACT)?;
    let server = Server::start(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        UnixListener::bind_addr(&address)
    })?;
    Ok(Some(Box::new(server)))
}

pub(super) fn abstract_namespace() -> io::Result<()> {
    let address = SocketAddr::from_abstract_name(ABSTRACT)?;
    fail(2, || UnixStream::connect_addr(&address))
}
