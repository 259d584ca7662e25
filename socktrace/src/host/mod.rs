//! What the host says about itself: `/proc`, cgroups, network namespaces and `sock_diag`.
//!
//! Owns every reader of those sources and the parsers of their bytes. Does not own what the
//! answers mean (`listener`, `diagnose`), nor how they are printed (`render`): command names, paths
//! and socket names leave here as the bytes the kernel gave.
//!
//! File readers are methods of [`Host`], which holds the root they read below, so that a test can
//! hand them a fake tree. `sock_diag` has no root: it answers for the network namespace of the
//! calling thread, as `/proc/thread-self/net` does.

mod accounts;
mod addresses;
mod bounded;
mod cgroup;
mod cgroup_dirs;
mod cgroup_memory;
mod cpu_quota;
mod credentials;
mod descriptors;
mod effort;
mod error;
mod file_limits;
mod id_map;
mod mountinfo;
mod namespace_pids;
mod netns;
mod netstat;
pub mod path_walk;
mod patience;
mod ports;
mod pressure;
mod process;
mod routes;
mod security_modules;
pub mod sock_diag;
mod socket_memory;
mod sockets;
mod systemd_units;
mod threads;

use std::path::{Path, PathBuf};

pub use accounts::{Accounts, Group, User};
pub use addresses::AddressFact;
pub use cgroup::{CgroupWalk, Cgroups, Container, Runtime, container, systemd_unit};
pub use cgroup_memory::{CgroupMemory, MemoryEvents};
pub use cpu_quota::CpuQuota;
pub use credentials::Credentials;
pub use descriptors::{
    Descriptor, DescriptorClass, DescriptorKind, Descriptors, PipeEnd, PipeHolders, SocketProtocol,
};
pub use effort::Effort;
pub use error::HostError;
pub use file_limits::FileLimits;
pub use id_map::{IdMap, IdMaps, IdRange};
pub use namespace_pids::NamespaceRepresentatives;
pub use netns::{
    EnterError, NamespaceWindow, NetworkNamespace, NetworkNamespaces, ScratchError, Syncookies,
    in_scratch_namespace, set_syncookies,
};
pub use netstat::TcpExt;
pub use ports::{NetworkSettings, PortRange};
pub use pressure::{Pressure, PressureStall, Pressures};
pub use process::{NofileLimits, same_start};
pub use routes::RouteFact;
pub use security_modules::{
    AppArmor, AppArmorMode, Sandbox, SeccompMode, SecurityLabels, SecurityModules,
    parse_apparmor_label,
};
pub use socket_memory::{ProtocolMemory, SocketMemory};
pub use sockets::{Holder, SocketOwners};
pub use systemd_units::{
    BindIpv6Only, Listen, ListenAddress, ListenKind, ServiceUnit, ServiceUnits, SocketUnit,
    SocketUnits, TmpfilesDirectories, TmpfilesDirectory, UnitState,
};
pub use threads::{FutexWaiters, Thread};

/// The tree that `/proc` and `/sys` are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    root: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self::at("/")
    }
}

impl Host {
    /// The host whose `/proc` and `/sys` lie below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// `path`, absolute on the host, as it is reached from here.
    fn below(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// `/proc/PID/net/name`, or that of the calling thread.
    fn net_path(&self, pid: Option<u32>, name: &str) -> PathBuf {
        match pid {
            Some(pid) => self.proc_path(pid, "net").join(name),
            None => self.below("proc/thread-self/net").join(name),
        }
    }

    /// `/proc/PID/entry`.
    fn proc_path(&self, pid: u32, entry: &str) -> PathBuf {
        self.root.join("proc").join(pid.to_string()).join(entry)
    }
}

/// A number of at most 16 hexadecimal digits and nothing else.
fn hexadecimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// The lines of a `/proc` file, without their newlines, numbered from 1.
fn numbered_lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    (1..).zip(bytes.split(|&byte| byte == b'\n'))
}

/// The words of a line: `/proc` separates them by spaces and tabs.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// A decimal number that is nothing but ASCII digits: no sign, no space.
fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(bytes).ok()?.parse().ok()
}

/// `N` out of `kind:[N]`, how procfs names the target of a socket or namespace link
/// (`sockfs_dname()`, `ns_dname()`).
fn bracketed_inode(link: &[u8], kind: &str) -> Option<u64> {
    let rest = link.strip_prefix(kind.as_bytes())?.strip_prefix(b":[")?;
    decimal(rest.strip_suffix(b"]")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_digits_and_nothing_else() {
        assert_eq!(decimal(b"4096"), Some(4096));
        for bad in [b"".as_slice(), b"+1", b"-1", b" 1", b"1\n", b"0x10", b"\xff"] {
            assert_eq!(decimal(bad), None, "{bad:?}");
        }
        assert_eq!(decimal(b"99999999999999999999"), None, "more than 64 bits");
    }

    #[test]
    fn an_inode_is_read_only_from_a_link_of_its_kind() {
        assert_eq!(bracketed_inode(b"socket:[77]", "socket"), Some(77));
        assert_eq!(bracketed_inode(b"net:[4026531840]", "net"), Some(4_026_531_840));
        for bad in [b"socket:[77".as_slice(), b"pipe:[77]", b"/tmp/socket:[77]", b"socket:[]"] {
            assert_eq!(bracketed_inode(bad, "socket"), None, "{bad:?}");
        }
    }
}
