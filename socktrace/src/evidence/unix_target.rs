//! What a Unix address leads to: the way of its path, the sockets bound there or called so, the units
//! that would make them.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::errno::Errno;

use super::{
    accepted, client::Sight, holders::read_holders, namespaces::Namespaces, units::UnitFiles,
};
use crate::{
    diagnose::{
        Question,
        access::{CAP_SETGID, Client, first_denial},
        case::{Bases, BoundSocket, Case, Holder, Path, UnixSockets},
    },
    event::SocketKind,
    host::{
        Host,
        path_walk::{AclFact, End, Kind, Step, View, Walk},
        sock_diag::{FileId, States, UnixQueue, UnixSocket, UnixSocketKind, UnixState},
    },
};

/// The clock that files are stamped with lags behind by a tick (`ktime_get_coarse_real_ts64()`): 10 ms
/// at most, and as much again for the two readings of the clocks.
const STAMP_LAG: Duration = Duration::from_millis(20);
/// Filesystems whose inodes `sock_diag` numbers as stat(2) does.
const NUMBERED_ALIKE: [&[u8]; 8] =
    [b"tmpfs", b"ramfs", b"rootfs", b"devtmpfs", b"ext4", b"ext3", b"ext2", b"xfs"];

pub(super) fn gather(
    host: &Host,
    namespaces: &mut Namespaces,
    units: &mut UnitFiles,
    case: &mut Case,
    sight: Option<Sight>,
) {
    if let (Some(path), Some(sight)) = (case.unix_path(), sight) {
        case.path = Some(walk(host, case, path, &sight));
    }
    case.unix = Some(sockets(host, namespaces, case));
    // The host's units are those of the host's own tree and network namespace.
    let is_here = match &case.path {
        Some(path) => path.bases.root.as_ref().is_some_and(Vec::is_empty),
        None => case.client.net_namespace == namespaces.own().map(u64::from),
    };
    let target = resolved(case).map_or_else(|| case.question.clone(), Question::Unix);
    case.units = is_here.then(|| units.about(&target, case));
}

fn walk(host: &Host, case: &Case, path: &[u8], sight: &Sight) -> Path {
    let walk = sight.view.walk(path);
    let relative = path.first() != Some(&b'/');
    let as_client = sight.as_client && (!relative || sight.in_cwd);
    let protected_symlinks = host.read_protected_symlinks().ok();
    // Asked now, and read now: nothing can have changed.
    let changed = case.time.and_then(|time| changed_since(&walk, time));
    let rights_known = case.client.rights.as_ref().is_some_and(|rights| {
        let known = rights.groups.is_some();
        known && (case.time.is_none() || are_of_event(rights, &walk, protected_symlinks))
    });
    Path {
        bases: bases(sight),
        settled: as_client && rights_known && changed.is_none() && !walk.steps.is_empty(),
        changed,
        walk,
        as_client,
        protected_symlinks,
    }
}

/// Whether the groups that were read are those that the client had when it failed, of which the kernel side has told the number:
/// if there are none, it had no right in effect to change them, or they decide nothing.
fn are_of_event(rights: &Client, walk: &Walk, protected_symlinks: Option<bool>) -> bool {
    let has_none = rights.groups.as_ref().is_some_and(Vec::is_empty);
    let may_change = rights.cap_effective.is_none_or(|mask| mask & 1 << CAP_SETGID != 0);
    let denial = |groups: Vec<u32>| {
        first_denial(walk, &Client { groups: Some(groups), ..rights.clone() }, protected_symlinks)
    };
    // An access control list may name groups, too.
    let has_acl = |step: &Step| matches!(step.acl, AclFact::Present(_) | AclFact::Unknown);
    let decide = walk.steps.iter().any(has_acl)
        || denial(Vec::new()) != denial(walk.steps.iter().map(|step| step.gid).collect());
    has_none || !may_change || !decide
}

/// How this host names what the client sees.
fn bases(sight: &Sight) -> Bases {
    let own = View::of_self().ok().map(|own| own.lookup_id());
    let seen = sight.view.lookup_id();
    let same = own.is_some_and(|own| {
        own.mount_namespace.is_some()
            && own.mount_namespace == seen.mount_namespace
            && own.root.is_some()
            && own.root == seen.root
    });
    let cwd = sight.view.cwd_path().filter(|_| same).map(<[u8]>::to_vec);
    Bases {
        root: if same { Some(Vec::new()) } else { sight.pid.map(View::root_link) },
        cwd: cwd.or_else(|| sight.pid.map(View::cwd_link)),
    }
}

/// The first on the way that was changed after `time`, or just before.
fn changed_since(walk: &Walk, time: SystemTime) -> Option<Vec<u8>> {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let limit = since.saturating_sub(STAMP_LAG);
    let is_older = |step: &&Step| {
        let (seconds, nanos) = step.ctime;
        u64::try_from(seconds).is_ok_and(|seconds| Duration::new(seconds, nanos) < limit)
    };
    walk.steps.iter().find(|step| !is_older(step)).map(|step| step.path.clone())
}

/// The absolute path that a listener there would be called by; none for an abstract name.
fn resolved(case: &Case) -> Option<Vec<u8>> {
    let path = case.unix_path()?;
    if path.first() == Some(&b'/') {
        return Some(path.to_vec());
    }
    let walk = &case.path.as_ref()?.walk;
    let last = case.path.as_ref()?.bases.shown(&walk.steps.last()?.path);
    match &walk.end {
        End::Missing { name, .. } => Some([&last, b"/".as_slice(), name].concat()),
        _ => Some(last),
    }
}

/// Whether it is a path that depends on the working directory; abstract names begin with a NUL.
fn is_relative(name: &[u8]) -> bool {
    !matches!(name.first(), None | Some(b'/' | 0))
}

fn last(case: &Case) -> Option<&Step> {
    let walk = &case.path.as_ref()?.walk;
    walk.steps.last().filter(|step| walk.end == End::Found && step.kind == Kind::Socket)
}

/// What a client asks for.
struct Asked<'a> {
    name: &'a [u8],
    /// The same from the root, where it is a path.
    full: Option<Vec<u8>>,
    /// The socket file that its way ends at.
    file: Option<&'a Step>,
    /// The network namespace that an abstract name is looked up in.
    net_namespace: Option<u64>,
}

impl<'a> Asked<'a> {
    fn of(case: &'a Case) -> Option<Self> {
        let Question::Unix(name) = &case.question else { return None };
        let net_namespace = case.abstract_name().and(case.client.net_namespace);
        Some(Self { name, full: resolved(case), file: last(case), net_namespace })
    }

    /// Whether it is bound to what is asked for, in whatever namespace. What a listener has accepted has its name and
    /// file, too: there may be many of those.
    fn concerns(&self, socket: &UnixSocket) -> bool {
        let is_accepted =
            socket.state == UnixState::Established && socket.kind != UnixSocketKind::Datagram;
        socket.inode.is_some()
            && !is_accepted
            && (self.is_name_of(socket) || self.is_file_of(socket))
    }

    /// A relative name means another file in each working directory: it is compared by its full path only.
    fn is_name_of(&self, socket: &UnixSocket) -> bool {
        let is_asked = |name| !is_relative(self.name) && name == self.name;
        let mut name = socket.name.as_deref().into_iter();
        name.any(|name| is_asked(name) || self.full.as_deref() == Some(name))
    }

    fn is_file_of(&self, socket: &UnixSocket) -> bool {
        self.file.zip(socket.file).is_some_and(|(step, bound)| is_file(&bound, step))
    }

    /// Whether the client's connect gets to it.
    fn leads_to(&self, netns: u32, socket: &UnixSocket) -> bool {
        self.is_file_of(socket) || self.net_namespace == Some(u64::from(netns))
    }
}

fn sockets(host: &Host, namespaces: &mut Namespaces, case: &Case) -> UnixSockets {
    let Some(asked) = Asked::of(case) else { return UnixSockets::default() };
    // A datagram socket with a peer is established.
    let states = match case.errno {
        None | Some(Errno::EPERM | Errno::EPROTOTYPE) => States::ALL,
        Some(_) => States::ALL.except(States::of(&[UnixState::Established])),
    };
    let answers =
        namespaces.ask(|sockets| sockets.unix_sockets(states, |socket| asked.concerns(socket)));
    let holders = read_holders(host, &those_led_to_first(&asked, &answers.found));
    let mut walks = HashMap::new();
    let mut all = UnixSockets {
        complete: answers.complete,
        unreadable: answers.unreadable.max(holders.unreadable),
        // Where the two number inodes differently, one that is not found may be there all the same.
        comparable: asked.file.is_none_or(numbered_alike),
        ..UnixSockets::default()
    };
    for (netns, socket) in &answers.found {
        let Some(inode) = socket.inode else { continue };
        let mut one = bound_socket(*netns, inode, socket, holders.of.get(&inode).cloned());
        if asked.leads_to(*netns, socket) {
            let waits = one.queue.is_some_and(|(queue, _)| queue != 0);
            one.accepted = waits.then(|| accepted::of_unix(namespaces, *netns, socket)).flatten();
            all.there.push(one);
        } else if holders.left_out.contains(&inode) {
            // Where its holders live decides what it means.
            all.complete = false;
        } else {
            let holder = one.holders.as_ref().and_then(|all| all.first());
            one.in_place = in_place(host, &mut walks, socket, holder);
            all.namesakes.push(one);
        }
    }
    all
}

/// Inodes in the order in which their holders are looked for, as long as that is bearable.
fn those_led_to_first(asked: &Asked, found: &[(u32, UnixSocket)]) -> Vec<u64> {
    let ranked = found
        .iter()
        .filter_map(|(netns, socket)| Some((!asked.leads_to(*netns, socket), socket.inode?)));
    let mut ranked: Vec<(bool, u64)> = ranked.collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, inode)| inode).collect()
}

/// What `sock_diag` and `/proc` tell of it by themselves.
fn bound_socket(
    netns: u32,
    inode: u64,
    socket: &UnixSocket,
    holders: Option<Vec<Holder>>,
) -> BoundSocket {
    BoundSocket {
        in_place: None,
        inode,
        kind: match socket.kind {
            UnixSocketKind::Stream => SocketKind::Stream,
            UnixSocketKind::Datagram => SocketKind::Dgram,
            UnixSocketKind::Seqpacket => SocketKind::Seqpacket,
        },
        listens: socket.state == UnixState::Listening,
        shut: socket.shutdown.is_some_and(|bits| bits & 1 != 0),
        file: socket.file,
        net_namespace: Some(u64::from(netns)),
        queue: match socket.queue {
            Some(UnixQueue::Accept { connections, backlog }) => Some((connections, backlog)),
            _ => None,
        },
        accepted: None,
        holders,
    }
}

/// The ways to names as processes see them, each walked once: one process may hold thousands of sockets of a name.
type Walks = HashMap<(u32, Vec<u8>), Option<Walk>>;

/// Whether the file that a listener was bound to still has its name, in the tree of who holds it.
fn in_place(
    host: &Host,
    walks: &mut Walks,
    socket: &UnixSocket,
    holder: Option<&Holder>,
) -> Option<bool> {
    let path = socket.name.as_deref().filter(|name| name.starts_with(b"/"))?;
    let bound = socket.file?;
    let pid = holder?.pid;
    let look = || Some(View::of_process(host, pid).ok()?.walk(path));
    let walk = walks.entry((pid, path.to_vec())).or_insert_with(look).as_ref()?;
    match &walk.end {
        End::Found => {
            let step = walk.steps.last()?;
            is_file(&bound, step).then_some(true).or(numbered_alike(step).then_some(false))
        }
        End::Missing { .. } | End::NotADirectory => Some(false),
        _ => None,
    }
}

/// Whether the filesystem numbers files as `sock_diag` does.
fn numbered_alike(step: &Step) -> bool {
    step.mount.as_ref().is_some_and(|mount| NUMBERED_ALIKE.contains(&mount.fs_type.as_slice()))
}

/// Whether a socket was bound to this inode, of whose number `sock_diag` tells the lower half.
fn is_file(bound: &FileId, step: &Step) -> bool {
    bound.dev == step.dev && u64::from(bound.inode_low) == step.inode & u64::from(u32::MAX)
}
