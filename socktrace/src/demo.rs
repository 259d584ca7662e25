//! The incidents of `socktrace demo`: real sockets, a scratch directory, nothing left behind.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        resource::{Resource, setrlimit},
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, connect, getsockname,
            listen, socket,
        },
    },
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};

/// An ordinary user without any right.
const NOBODY: u32 = 65534;

/// Which incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incident {
    /// A client without permission on a Unix socket.
    Eacces,
    /// A socket file that a server left behind.
    StaleSocket,
    /// A server that accepts late.
    Stall,
    /// A listener whose accept queue overflows.
    Backlog,
    /// A server that runs out of descriptors.
    FdLimit,
}

impl Incident {
    /// What is about to happen, in a sentence.
    pub const fn story(self) -> &'static str {
        match self {
            Self::Eacces => {
                "A server listens on a Unix socket of mode 0600; a client of uid 65534 tries three \
                 times to connect."
            }
            Self::StaleSocket => {
                "A server ended and left its socket file behind; a client tries twice to connect."
            }
            Self::Stall => {
                "A server leaves five connections waiting for 300 ms before it accepts them."
            }
            Self::Backlog => {
                "A server asks for a backlog of 2 and accepts nothing while 12 clients connect."
            }
            Self::FdLimit => {
                "A server with a limit of 16 descriptors goes on accepting until it has none left."
            }
        }
    }
}

/// Makes the incident happen, in this process.
pub fn play(incident: Incident) -> io::Result<()> {
    match incident {
        Incident::Eacces => eacces(),
        Incident::StaleSocket => stale_socket(),
        Incident::Stall => stall(),
        Incident::Backlog => backlog(),
        Incident::FdLimit => fd_limit(),
    }
}

/// A directory of its own that goes away with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("socktrace-demo-{}", std::process::id()));
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self(path))
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nobody is left to tell; the directory is in the temporary one.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn expect_failure(path: &Path, times: usize) -> io::Result<()> {
    for _ in 0..times {
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::other("a connect that had to fail succeeded"));
        }
    }
    Ok(())
}

fn eacces() -> io::Result<()> {
    let scratch = Scratch::new()?;
    let path = scratch.join("app.sock");
    let _server = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    // Only the effective ids change, so that the scratch directory can be removed afterwards;
    // real ids are what the report shows.
    setgroups(&[])?;
    let (nobody, root) = (Uid::from_raw(NOBODY), Uid::from_raw(0));
    setresgid(Gid::from_raw(NOBODY), Gid::from_raw(NOBODY), Gid::from_raw(0))?;
    setresuid(nobody, nobody, root)?;
    let result = expect_failure(&path, 3);
    setresuid(root, root, root)?;
    result
}

fn stale_socket() -> io::Result<()> {
    let scratch = Scratch::new()?;
    let path = scratch.join("gone.sock");
    drop(UnixListener::bind(&path)?);
    expect_failure(&path, 2)
}

fn stall() -> io::Result<()> {
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

fn small_listener(backlog: i32) -> io::Result<(OwnedFd, SockaddrIn)> {
    let server = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(server.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0))?;
    listen(&server.as_fd(), Backlog::new(backlog)?)?;
    let address: SockaddrIn = getsockname(server.as_raw_fd())?;
    Ok((server, address))
}

fn backlog() -> io::Result<()> {
    let (server, address) = small_listener(2)?;
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

fn fd_limit() -> io::Result<()> {
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
            return Err(io::Error::other("an accept that had to fail succeeded"));
        }
    }
    Ok(())
}
