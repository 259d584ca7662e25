//! Sockets as the incidents use them: addresses with their text, listeners, attempts to connect.
//!
//! Thin over the system calls: one call here is one call that a tracer sees.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, SockaddrStorage,
    UnixAddr, bind, connect, getsockname, setsockopt, socket, sockopt,
};

/// An address, and how a report names it.
#[derive(Clone, Copy, Debug)]
pub enum Address {
    /// A path or an abstract name.
    Unix(UnixAddr),
    /// IPv4.
    V4(SockaddrIn),
    /// IPv6.
    V6(SockaddrIn6),
}

impl Address {
    /// A Unix path.
    ///
    /// # Errors
    /// When it is longer than 107 bytes.
    pub fn path(path: &Path) -> Result<Self> {
        UnixAddr::new(path).map(Self::Unix).with_context(|| format!("{}", path.display()))
    }

    /// An abstract Unix name, without its leading NUL.
    ///
    /// # Errors
    /// When it is too long.
    pub fn abstract_name(name: &str) -> Result<Self> {
        UnixAddr::new_abstract(name.as_bytes()).map(Self::Unix).context("an abstract name")
    }

    /// An IP address and port.
    pub fn ip(ip: IpAddr, port: u16) -> Self {
        match SocketAddr::new(ip, port) {
            SocketAddr::V4(v4) => Self::V4(v4.into()),
            SocketAddr::V6(v6) => Self::V6(v6.into()),
        }
    }

    /// `unix`, `inet` or `inet6`.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Unix(_) => "unix",
            Self::V4(_) => "inet",
            Self::V6(_) => "inet6",
        }
    }

    /// The port; 0 for Unix.
    pub fn port(&self) -> u16 {
        match self {
            Self::Unix(_) => 0,
            Self::V4(v4) => v4.port(),
            Self::V6(v6) => v6.port(),
        }
    }

    /// The raw bytes of a path or name; empty for IP.
    pub fn bytes(&self) -> Vec<u8> {
        let Self::Unix(unix) = self else { return Vec::new() };
        let path = unix.path().map(|path| path.as_os_str().as_bytes().to_vec());
        path.or_else(|| unix.as_abstract().map(<[u8]>::to_vec)).unwrap_or_default()
    }

    /// As a report names it.
    pub fn text(&self) -> String {
        let bytes = self.bytes();
        let name = String::from_utf8_lossy(&bytes);
        match self {
            Self::Unix(unix) if unix.as_abstract().is_some() => format!("@{name}"),
            Self::Unix(_) => name.into_owned(),
            Self::V4(v4) => v4.to_string(),
            Self::V6(v6) => v6.to_string(),
        }
    }

    /// As the system calls take it.
    pub fn as_sockaddr(&self) -> &dyn SockaddrLike {
        match self {
            Self::Unix(unix) => unix,
            Self::V4(v4) => v4,
            Self::V6(v6) => v6,
        }
    }

    /// A socket of this family.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn socket(&self, kind: SockType, flags: SockFlag) -> Result<OwnedFd> {
        let family = match self {
            Self::Unix(_) => AddressFamily::Unix,
            Self::V4(_) => AddressFamily::Inet,
            Self::V6(_) => AddressFamily::Inet6,
        };
        socket(family, kind, flags | SockFlag::SOCK_CLOEXEC, None).context("socket")
    }

    /// One `connect()` on a socket; the errno if it fails.
    pub fn connect(&self, fd: &OwnedFd) -> Result<(), Errno> {
        connect(fd.as_raw_fd(), self.as_sockaddr())
    }
}

/// A socket that listens, with what a report must know of it.
pub struct Listener {
    /// The descriptor.
    pub fd: OwnedFd,
    /// Where it listens.
    pub at: Address,
    /// The address as a report names it.
    pub address: String,
    /// `unix`, `inet` or `inet6`.
    pub family: &'static str,
    /// The socket's inode number.
    pub inode: u64,
    /// The argument of `listen()`.
    pub backlog: u32,
}

impl Listener {
    /// The same listener for another process: a descriptor of its own.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn share(&self) -> Result<Self> {
        let fd = self.fd.try_clone().context("dup")?;
        Ok(Self { fd, address: self.address.clone(), ..*self })
    }
}

/// Ports that the kernel chose here for this process so far.
static CHOSEN_PORTS: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Binds without listening: the port or path is taken, nobody answers.
///
/// A port that the kernel chooses was not chosen here before: a report names targets, and one incident's
/// failures are not to be another's, towards a port that was given back in between.
///
/// # Errors
/// When the system refuses it.
pub fn bound(at: &Address, kind: SockType) -> Result<(OwnedFd, Address)> {
    let mut used_before = Vec::new();
    loop {
        let (fd, got) = bind_socket(at, kind)?;
        let chosen = at.port() != got.port();
        let mut ports = CHOSEN_PORTS.lock().unwrap_or_else(PoisonError::into_inner);
        if !chosen || ports.insert(got.port()) {
            return Ok((fd, got));
        }
        used_before.push(fd);
    }
}

fn bind_socket(at: &Address, kind: SockType) -> Result<(OwnedFd, Address)> {
    let fd = at.socket(kind, SockFlag::empty())?;
    if at.family() != "unix" {
        setsockopt(&fd, sockopt::ReuseAddr, &true).context("SO_REUSEADDR")?;
    }
    bind(fd.as_raw_fd(), at.as_sockaddr()).with_context(|| format!("bind {}", at.text()))?;
    let at = local_address(&fd, *at)?;
    Ok((fd, at))
}

/// Binds and listens.
///
/// # Errors
/// When the system refuses it.
pub fn listen(at: &Address, kind: SockType, backlog: u32) -> Result<Listener> {
    let (fd, at) = bound(at, kind)?;
    listen_on(fd, at, backlog)
}

/// Listens on a socket that is bound to `at`.
///
/// # Errors
/// When the system refuses it.
pub fn listen_on(fd: OwnedFd, at: Address, backlog: u32) -> Result<Listener> {
    let number = i32::try_from(backlog).context("backlog")?;
    // SAFETY: takes no pointers. nix refuses backlogs above SOMAXCONN, which is the case to test.
    Errno::result(unsafe { libc::listen(fd.as_raw_fd(), number) }).context("listen")?;
    listening(fd, at, backlog)
}

/// What a report must know of a socket that listens at `at`.
///
/// # Errors
/// When the system does not tell.
pub fn listening(fd: OwnedFd, at: Address, backlog: u32) -> Result<Listener> {
    let inode = nix::sys::stat::fstat(&fd).context("fstat")?.st_ino;
    Ok(Listener { at, address: at.text(), family: at.family(), inode, backlog, fd })
}

/// One `accept4()` call; the errno if it fails.
///
/// # Errors
/// What the system call says.
pub fn accept(listener: &Listener, flags: SockFlag) -> Result<OwnedFd, Errno> {
    let fd = listener.fd.as_raw_fd();
    let flags = (flags | SockFlag::SOCK_CLOEXEC).bits();
    // SAFETY: null address and length are allowed: the peer is not asked for.
    let new = unsafe { libc::accept4(fd, std::ptr::null_mut(), std::ptr::null_mut(), flags) };
    let new = Errno::result(new)?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Sets an integer option.
///
/// # Errors
/// When the system refuses it.
pub fn set_option(fd: &OwnedFd, level: i32, option: i32, value: i32) -> Result<()> {
    let len = libc::socklen_t::try_from(size_of::<i32>()).context("size of an int")?;
    let value = (&raw const value).cast();
    // SAFETY: `value` points to an int that lives through the call, and `len` is its size.
    let set = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value, len) };
    Errno::result(set).map(drop).with_context(|| format!("setsockopt {level} {option}"))
}

/// Makes `close()` reset the connection, so that nothing is sent any more afterwards.
///
/// # Errors
/// When the system refuses it.
pub fn reset_on_close(fd: &OwnedFd) -> Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(fd, sockopt::Linger, &linger).context("SO_LINGER")
}

/// Where a socket is bound that was asked to be bound to `asked`.
///
/// # Errors
/// When the system does not tell.
pub fn local_address(fd: &OwnedFd, asked: Address) -> Result<Address> {
    if matches!(asked, Address::Unix(_)) {
        return Ok(asked);
    }
    let got: SockaddrStorage = getsockname(fd.as_raw_fd()).context("getsockname")?;
    let v4 = got.as_sockaddr_in().copied().map(Address::V4);
    v4.or_else(|| got.as_sockaddr_in6().copied().map(Address::V6)).context("not an IP socket")
}
