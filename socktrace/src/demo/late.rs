//! Servers that accept late or cannot accept: busy elsewhere, stopped, out of descriptors.

use std::{
    hint, io, iter,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    thread,
    time::Duration,
};

use nix::{
    sys::{
        resource::{Resource, setrlimit},
        socket::{AddressFamily, Backlog, SockType, SockaddrIn, getsockname, listen},
    },
    unistd::dup,
};

use super::{
    cgroup::Group,
    stage::{Scratch, Server, bound, linger, unexpected},
};

pub(super) fn stall() -> io::Result<()> {
    let server = TcpListener::bind("127.0.0.1:0")?;
    let address = server.local_addr()?;
    let clients: io::Result<Vec<TcpStream>> = (0..5).map(|_| TcpStream::connect(address)).collect();
    let clients = clients?;
    thread::sleep(Duration::from_millis(300));
    for _ in &clients {
        server.accept()?;
    }
    Ok(())
}

pub(super) fn stopped_server() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = Server::start(|| {
        let listener = listener.try_clone()?;
        Ok(thread::spawn(move || listener.incoming().collect::<Vec<_>>()))
    })?;
    // From here on it is the server's alone.
    drop(listener);
    server.stop()?;
    let clients: io::Result<Vec<TcpStream>> = (0..3).map(|_| TcpStream::connect(address)).collect();
    thread::sleep(Duration::from_secs(2));
    server.go_on()?;
    linger();
    drop(clients?);
    Ok(())
}

/// A server in a process of its own that listens and does something else, and three connections that wait for
/// two seconds once it is `hindered`.
fn not_accepting<T, H>(
    instead: impl FnOnce() -> io::Result<T>,
    hindered: impl FnOnce() -> io::Result<H>,
) -> io::Result<()> {
    let socket = bound(AddressFamily::Inet, SockType::Stream, &SockaddrIn::new(127, 0, 0, 1, 0))?;
    let address: SockaddrIn = getsockname(socket.as_raw_fd())?;
    let server = Server::start(|| {
        listen(&socket, Backlog::new(16)?)?;
        instead()
    })?;
    // From here on it is the server's alone.
    drop(socket);
    let hindered = hindered()?;
    let connect = || TcpStream::connect(("127.0.0.1", address.port()));
    let clients: io::Result<Vec<TcpStream>> = (0..3).map(|_| connect()).collect();
    thread::sleep(Duration::from_secs(2));
    linger();
    // What is frozen does not end.
    drop(hindered);
    drop(server);
    drop(clients?);
    Ok(())
}

/// Until the process ends.
fn compute() -> thread::JoinHandle<()> {
    thread::spawn(|| {
        loop {
            hint::spin_loop();
        }
    })
}

pub(super) fn busy_server() -> io::Result<()> {
    not_accepting(|| Ok(compute()), || Ok(()))
}

pub(super) fn sleeping_server() -> io::Result<()> {
    // It waits for its end, in read().
    not_accepting(|| Ok(()), || Ok(()))
}

pub(super) fn frozen_server(scratch: &Scratch) -> io::Result<()> {
    let group = Group::of(scratch)?;
    not_accepting(|| group.enter(), || group.freeze())
}

pub(super) fn throttled_server(scratch: &Scratch) -> io::Result<()> {
    let group = Group::of(scratch)?;
    not_accepting(|| group.enter().map(|()| compute()), || Ok(()))
}

/// More than its cgroup may have (`cgroup::with_little_memory`).
const WANTED: usize = 32 << 20;
const PAGE: usize = 4096;

/// Takes memory and gives it back, until the process ends.
fn hoard() -> thread::JoinHandle<()> {
    thread::spawn(|| {
        loop {
            let mut memory = vec![0u8; WANTED];
            for page in memory.chunks_mut(PAGE) {
                page[0] = 1;
            }
            hint::black_box(memory);
        }
    })
}

pub(super) fn memory_pressure(scratch: &Scratch) -> io::Result<()> {
    let group = Group::of(scratch)?;
    not_accepting(|| group.enter().map(|()| hoard()), || group.runs_short())
}

pub(super) fn no_descriptors() -> io::Result<()> {
    not_accepting(
        || {
            setrlimit(Resource::RLIMIT_NOFILE, 16, 16)?;
            Ok(iter::from_fn(|| dup(io::stdin()).ok()).collect::<Vec<_>>())
        },
        || Ok(()),
    )
}

pub(super) fn closed_listener() -> io::Result<()> {
    let server = TcpListener::bind("127.0.0.1:0")?;
    let address = server.local_addr()?;
    let clients: io::Result<Vec<TcpStream>> = (0..3).map(|_| TcpStream::connect(address)).collect();
    let clients = clients?;
    linger();
    drop(server);
    drop(clients);
    Ok(())
}

pub(super) fn inherited_listener() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // It keeps what it has inherited, and waits for its end.
    let _heir = Server::start(|| Ok(()))?;
    drop(listener);
    let clients: io::Result<Vec<TcpStream>> = (0..3).map(|_| TcpStream::connect(address)).collect();
    thread::sleep(Duration::from_secs(2));
    linger();
    drop(clients?);
    Ok(())
}

pub(super) fn fd_limit() -> io::Result<()> {
    let server = TcpListener::bind("127.0.0.1:0")?;
    let address: SocketAddr = server.local_addr()?;
    // One client at a time, so that both ends fill the table together.
    setrlimit(Resource::RLIMIT_NOFILE, 16, 16)?;
    let mut held = Vec::new();
    loop {
        match TcpStream::connect(address) {
            Ok(client) => held.push(client),
            // No descriptor for a client either: make room for one connection that waits.
            Err(_) => break,
        }
        match server.accept() {
            Ok((accepted, _)) => held.push(accepted),
            Err(_) => break,
        }
    }
    held.truncate(held.len().saturating_sub(1));
    let _waiting = TcpStream::connect(address)?;
    for _ in 0..4 {
        if server.accept().is_ok() {
            return Err(unexpected("an accept that had to fail succeeded"));
        }
    }
    linger();
    Ok(())
}
