//! The facts of one incident, gathered for the rules: what is unknown is `None`.
//!
//! Owns what a rule may know. Does not read anything (`evidence`), nor decide (`rules`).

use std::{collections::BTreeMap, net::SocketAddr, time::SystemTime};

use nix::errno::Errno;

use super::access;
use crate::{
    event::{Hold, SocketKind},
    host::{
        Accounts, AddressFact, AppArmorMode, NetworkSettings, NofileLimits, RouteFact,
        SecurityLabels, SocketUnit, UnitState, path_walk::Walk, sock_diag::FileId,
    },
};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Why does `connect()` to this Unix address fail?
    Unix(Vec<u8>),
    /// Why does `connect()` to this TCP address fail?
    Tcp(SocketAddr),
    /// Why does `accept()` fail?
    Accept,
}

/// Everything known of an incident.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is asked.
    pub question: Question,
    /// The errno that the kernel gave; `None` where nothing happened yet, and the question is what would.
    pub errno: Option<Errno>,
    /// When it happened.
    pub time: Option<SystemTime>,
    /// Who failed.
    pub client: Client,
    /// How the client came to the Unix path.
    pub path: Option<Path>,
    /// Unix sockets that are bound there, or called so.
    pub unix: Option<UnixSockets>,
    /// What is known of the TCP target.
    pub tcp: Option<Tcp>,
    /// What systemd's unit files say of the target.
    pub units: Option<Units>,
    /// Security modules.
    pub security: Option<Security>,
    /// Descriptors of the acceptor and of the host.
    pub descriptors: Option<Descriptors>,
    /// Names of users and groups.
    pub accounts: Accounts,
}

impl Case {
    /// A case of which nothing is known yet.
    pub fn new(question: Question, errno: Option<Errno>) -> Self {
        Self {
            question,
            errno,
            time: None,
            client: Client::default(),
            path: None,
            unix: None,
            tcp: None,
            units: None,
            security: None,
            descriptors: None,
            accounts: Accounts::default(),
        }
    }

    /// Whether the kernel gave this errno, or would have to be asked.
    pub fn may_be(&self, errno: Errno) -> bool {
        self.errno.is_none_or(|known| known == errno)
    }

    /// The Unix path that is asked about; `None` for an abstract name and all else.
    pub fn unix_path(&self) -> Option<&[u8]> {
        match &self.question {
            Question::Unix(name) if name.first().is_some_and(|byte| *byte != 0) => Some(name),
            _ => None,
        }
    }

    /// The inode of the Unix listener there, if there is just one.
    pub(super) fn unix_listener(&self) -> Option<u64> {
        let mut there = self.unix.as_ref()?.there.iter().filter(|it| it.listens);
        let first = there.next()?;
        there.next().is_none().then_some(first.inode)
    }

    /// The abstract name that is asked about, with its leading NUL.
    pub fn abstract_name(&self) -> Option<&[u8]> {
        match &self.question {
            Question::Unix(name) if name.first() == Some(&0) => Some(name),
            _ => None,
        }
    }
}

/// The task that connects, or would.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Its process; `None` where one is only imagined.
    pub pid: Option<u32>,
    /// `comm` of it.
    pub comm: Option<Vec<u8>>,
    /// What decides over a path; `None` where it is not known.
    pub rights: Option<access::Client>,
    /// Inode of its network namespace.
    pub net_namespace: Option<u64>,
    /// Inode of its mount namespace.
    pub mount_namespace: Option<u64>,
    /// What security modules call it, if it lives.
    pub labels: SecurityLabels,
    /// What kind of socket it connects.
    pub kind: Option<SocketKind>,
    /// The length of the address that it passed.
    pub address_len: Option<u32>,
}

/// The way to a Unix path.
#[derive(Clone, Debug)]
pub struct Path {
    /// As walked.
    pub walk: Walk,
    /// Whether it was walked as the client itself would: in its tree, from its directory.
    pub as_client: bool,
    /// Whether nothing on it can have changed since the incident, and the client's rights are those that
    /// the kernel captured.
    pub settled: bool,
    /// The first on the way that was changed since the incident, or just before; of a directory, what is in
    /// it counts.
    pub changed: Option<Vec<u8>>,
    /// `fs.protected_symlinks`; `None` where unknown.
    pub protected_symlinks: Option<bool>,
    /// Where this host has what the client sees.
    pub bases: Bases,
}

/// What stands before a path of the client to make it a path of this host; `None` where that is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bases {
    /// Before an absolute one: nothing where both see the same tree, else `/proc/PID/root`.
    pub root: Option<Vec<u8>>,
    /// Before a relative one: its working directory, or `/proc/PID/cwd`.
    pub cwd: Option<Vec<u8>>,
}

impl Bases {
    /// A path of a step as commands of this host can name it; as it is where nothing is known.
    pub fn on_host(&self, path: &[u8]) -> Vec<u8> {
        match (path, &self.root, &self.cwd) {
            ([b'/', ..], Some(root), _) => [root, path].concat(),
            ([b'/', ..], None, _) | (_, _, None) => path.to_vec(),
            (b".", _, Some(cwd)) => cwd.clone(),
            (_, _, Some(cwd)) => {
                let cwd = cwd.strip_suffix(b"/").unwrap_or(cwd);
                [cwd, b"/", path].concat()
            }
        }
    }

    /// The same as findings show it: an absolute path stays what the client calls it.
    pub fn shown(&self, path: &[u8]) -> Vec<u8> {
        if path.starts_with(b"/") { path.to_vec() } else { self.on_host(path) }
    }

    /// Whether the client sees another tree than this host's.
    pub fn is_another_tree(&self) -> bool {
        self.root.as_ref().is_none_or(|root| !root.is_empty())
    }
}

/// Unix sockets of all network namespaces that could be looked into.
#[derive(Clone, Debug, Default)]
pub struct UnixSockets {
    /// Bound to the inode that the path leads to (or, abstract, to the name in the client's namespace).
    pub there: Vec<BoundSocket>,
    /// Bound to the same name, but to another inode, or in another namespace.
    pub namesakes: Vec<BoundSocket>,
    /// Whether every known namespace was looked into.
    pub complete: bool,
    /// Whether the file's number can be compared with those that listeners are bound to.
    pub comparable: bool,
    /// Processes that would not show which network namespace they are in.
    pub unreadable: u32,
}

/// A bound Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundSocket {
    /// Its inode.
    pub inode: u64,
    /// What kind it is.
    pub kind: SocketKind,
    /// Whether it listens.
    pub listens: bool,
    /// Whether it no longer receives: `shutdown()` was called.
    pub shut: bool,
    /// The file that it was bound to.
    pub file: Option<FileId>,
    /// Whether that file still has the socket's name, as a holder sees the tree; `None` where unknown.
    pub in_place: Option<bool>,
    /// Its network namespace.
    pub net_namespace: Option<u64>,
    /// Connections in its accept queue, and the limit.
    pub queue: Option<(u32, u32)>,
    /// Connections that were accepted from it and are open; `None` where that was not looked for.
    pub accepted: Option<u64>,
    /// Who holds it; `None` where that could not be found out.
    pub holders: Option<Vec<Holder>>,
}

impl BoundSocket {
    /// Whether clients can reach it: it listens, or takes datagrams.
    pub fn serves(&self) -> bool {
        self.listens || self.kind == SocketKind::Dgram
    }
}

/// Holders of one socket that are looked at: there may be more.
pub const MOST_HOLDERS: usize = 8;

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its pid.
    pub pid: u32,
    /// Its `comm`.
    pub comm: Vec<u8>,
    /// Inode of its mount namespace.
    pub mount_namespace: Option<u64>,
    /// What holds it up, if that can be told.
    pub hold: Option<Hold>,
    /// What it does now, in words.
    pub activity: Option<String>,
    /// Whether a thread of it waits in `accept()`; `None` where it may wait for connections otherwise.
    pub accepts: Option<bool>,
    /// Open descriptors, and the limit.
    pub descriptors: Option<(u64, u64)>,
    /// The systemd unit that it belongs to.
    pub unit: Option<Vec<u8>>,
}

/// A TCP listener on the port that is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpListening {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it takes IPv6 only; `None` where unknown.
    pub v6only: Option<bool>,
    /// The interface that it is bound to (`SO_BINDTODEVICE`), by index.
    pub interface: Option<u32>,
    /// Its network namespace.
    pub net_namespace: Option<u64>,
    /// Its inode.
    pub inode: u64,
    /// Connections in its accept queue, and the limit.
    pub queue: Option<(u32, u32)>,
    /// Connections on its port that were accepted and are open; `None` where that was not looked for.
    pub accepted: Option<u64>,
    /// `sk_drops`.
    pub drops: Option<u32>,
    /// Who holds it.
    pub holders: Option<Vec<Holder>>,
}

/// What is known of a TCP target.
#[derive(Clone, Debug, Default)]
pub struct Tcp {
    /// Listeners on the target's port in every namespace that could be looked into.
    pub listening: Vec<TcpListening>,
    /// The namespaces whose listeners were all listed.
    pub looked_into: Vec<u64>,
    /// Whether every known namespace was.
    pub complete: bool,
    /// Processes that would not show which network namespace they are in.
    pub unreadable: u32,
    /// What the target's address is in the client's namespace.
    pub address: Option<AddressFact>,
    /// Where it is none of the client's own: the other namespaces that have it, as containers do.
    pub address_of: Vec<u64>,
    /// Whether it was asked of every namespace; `None` where none was asked.
    pub all_asked: Option<bool>,
    /// The route to it.
    pub route: Option<RouteFact>,
    /// Settings of the client's namespace.
    pub settings: Option<NetworkSettings>,
    /// Those of the one whose listeners take the connect, where that is another.
    pub settings_there: Option<NetworkSettings>,
    /// Local ports in use towards the target.
    pub ports: Option<Ports>,
    /// Ports on which somebody listens on the target's address, where it is, ascending, the first few.
    pub other_ports: Vec<u16>,
}

impl Tcp {
    /// The namespace that has the target's address: the client's, also where that is not known, or, where what is sent
    /// there leaves that, the only other one of this host. Another host may have the address, too.
    pub fn namespace_of_target(&self, clients: Option<u64>) -> Option<u64> {
        match (self.address, self.address_of.as_slice()) {
            (None | Some(AddressFact::Local | AddressFact::Unknown), _) => clients,
            (Some(AddressFact::Foreign), [only]) if self.leads_out() => Some(*only),
            _ => None,
        }
    }

    /// Settings of the namespace whose listeners take the connect.
    pub fn settings_of_listener(&self, clients: Option<u64>) -> Option<&NetworkSettings> {
        let own = self.namespace_of_target(clients) == clients;
        if own { self.settings.as_ref() } else { self.settings_there.as_ref() }
    }

    /// Whether what the client sends may leave its namespace.
    pub fn leads_out(&self) -> bool {
        matches!(self.route, Some(RouteFact::Via { .. } | RouteFact::Several | RouteFact::Unknown))
    }
}

/// Local ports in use towards one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// How many.
    pub used: usize,
    /// Of them, in TIME-WAIT.
    pub time_wait: usize,
}

/// What systemd's unit files say of a Unix path.
#[derive(Clone, Debug, Default)]
pub struct Units {
    /// The socket unit that listens there, and whether its service runs.
    pub socket: Option<(SocketUnit, UnitState)>,
    /// What would make the directory that is missing: a unit, or a file of tmpfiles.d.
    pub maker: Option<(Vec<u8>, UnitState)>,
    /// The directories on the way that services have made for them (`RuntimeDirectory=`), each with the service.
    pub runtime_directories: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What security modules are about.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// Those that are active.
    pub modules: Option<Vec<Vec<u8>>>,
    /// Whether `SELinux` enforces.
    pub selinux_enforces: Option<bool>,
    /// Whether BPF programs are loaded that decide as a module.
    pub has_programs: Option<bool>,
    /// The client's label.
    pub label: Option<Vec<u8>>,
    /// What `AppArmor` does with the client; `None` where that is not known.
    pub apparmor: Option<AppArmorMode>,
}

/// Descriptors of a process and of the host.
#[derive(Clone, Debug, Default)]
pub struct Descriptors {
    /// How many the process has open.
    pub open: Option<usize>,
    /// Its limits.
    pub limits: Option<NofileLimits>,
    /// Open files of the host, and its limit.
    pub host: Option<(u64, u64)>,
    /// How many of each kind it has, by name.
    pub kinds: BTreeMap<String, u64>,
}

#[cfg(test)]
mod tests {
    use super::Bases;

    #[test]
    fn paths_of_a_client_become_paths_of_the_host() {
        let same = Bases { root: Some(Vec::new()), cwd: Some(b"/srv/app".to_vec()) };
        assert_eq!(same.on_host(b"/run/a"), b"/run/a");
        assert_eq!(same.on_host(b"a"), b"/srv/app/a");
        assert_eq!(same.on_host(b".."), b"/srv/app/..");
        assert_eq!(same.shown(b"."), b"/srv/app");
        let other =
            Bases { root: Some(b"/proc/7/root".to_vec()), cwd: Some(b"/proc/7/cwd".to_vec()) };
        assert_eq!(other.on_host(b"/run/a"), b"/proc/7/root/run/a");
        assert_eq!(other.shown(b"/run/a"), b"/run/a");
        assert_eq!(other.shown(b"a"), b"/proc/7/cwd/a");
        assert_eq!(Bases { root: None, cwd: Some(b"/".to_vec()) }.on_host(b"a"), b"/a");
        assert_eq!(Bases::default().on_host(b"a"), b"a");
        assert!(other.is_another_tree() && !same.is_another_tree());
        assert!(Bases::default().is_another_tree());
    }
}
