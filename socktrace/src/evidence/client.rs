//! Who connects: rights, namespaces, and how that task sees the tree.
//!
//! Owns how far what the kernel captured at the failure and what `/proc` says now are the same task.

use socktrace_common::Credentials;

use super::is_same;
use crate::{
    diagnose::{access, case::Case},
    event::Actor,
    host::{Host, IdMaps, SecurityLabels, path_walk::View},
};

/// A tree, as the client sees it.
pub(super) struct Sight {
    pub(super) view: View,
    /// Whose it is, where that is the client itself: `/proc` names its directories.
    pub(super) pid: Option<u32>,
    /// Whether root and mount namespace are those that the kernel captured.
    pub(super) as_client: bool,
    /// Whether the working directory is, too.
    pub(super) in_cwd: bool,
}

/// Who is to be imagined as a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Someone {
    /// This process itself.
    Myself,
    /// A running process, with all that it may and sees.
    Process(u32),
    /// A user with the groups that it has by the accounts, in this process's tree.
    User {
        /// Its uid.
        uid: u32,
        /// Its main group.
        gid: u32,
        /// All its groups.
        groups: Vec<u32>,
    },
}

/// Fills in the client of a failure. Of one that ends meanwhile, what the kernel captured is left, and its
/// tree, if that is another process's as well.
pub(super) fn recall(
    host: &Host,
    actor: &Actor,
    captured: Option<&Credentials>,
    case: &mut Case,
) -> Option<Sight> {
    case.client.pid = Some(actor.key.tgid);
    case.client.comm = Some(actor.task.comm.clone());
    case.client.address_len = captured.map(|it| it.address_len).filter(|len| *len != 0);
    let alive = is_same(host, actor.key) && host.read_has_thread(actor.key.tgid, actor.tid);
    let sight = look(host, actor.tid, captured, alive, case);
    // Still the same process: what was read is its own.
    if alive && !is_same(host, actor.key) {
        return look(host, actor.tid, captured, false, case);
    }
    sight
}

fn look(
    host: &Host,
    tid: u32,
    captured: Option<&Credentials>,
    alive: bool,
    case: &mut Case,
) -> Option<Sight> {
    case.client.rights = rights(host, tid, captured, alive);
    case.client.labels =
        if alive { host.read_security_labels(tid) } else { SecurityLabels::default() };
    let now = |kind| if alive { host.read_namespace(tid, kind).ok() } else { None };
    case.client.net_namespace =
        captured.map(|it| u64::from(it.net_namespace)).or_else(|| now("net"));
    case.client.mount_namespace =
        captured.map(|it| u64::from(it.mount_namespace)).or_else(|| now("mnt"));
    sight(host, tid, captured, alive)
}

/// Fills in a client that only might connect.
pub(super) fn imagine(host: &Host, someone: &Someone, case: &mut Case) -> Option<Sight> {
    let pid = match someone {
        Someone::Myself | Someone::User { .. } => std::process::id(),
        Someone::Process(pid) => *pid,
    };
    let ids = host.read_id_map(pid).ok();
    let rights = host.read_credentials(pid).ok().map(|held| access::Client::new(held, ids.clone()));
    case.client.rights = match someone {
        Someone::User { uid, gid, groups } => Some(access::Client {
            fsuid: *uid,
            fsgid: *gid,
            groups: Some(groups.clone()),
            cap_effective: Some(if *uid == 0 { u64::MAX } else { 0 }),
            id_maps: ids,
        }),
        Someone::Myself | Someone::Process(_) => rights,
    };
    if let Someone::Process(pid) = someone {
        case.client.pid = Some(*pid);
        case.client.comm = host.read_comm(*pid).ok();
        case.client.labels = host.read_security_labels(*pid);
    }
    case.client.net_namespace = host.read_netns(pid).ok();
    case.client.mount_namespace = host.read_namespace(pid, "mnt").ok();
    let view = match someone {
        Someone::Process(pid) => View::of_process(host, *pid).ok()?,
        Someone::Myself | Someone::User { .. } => View::of_self().ok()?,
    };
    let pid = case.client.pid;
    Some(Sight { view, pid, as_client: true, in_cwd: true })
}

/// What the kernel captured, with the groups that it only counted; else what `/proc` says.
fn rights(
    host: &Host,
    tid: u32,
    captured: Option<&Credentials>,
    alive: bool,
) -> Option<access::Client> {
    let now = if alive { host.read_credentials(tid).ok() } else { None };
    let Some(then) = captured else {
        return Some(access::Client::new(now?, host.read_id_map(tid).ok()));
    };
    let same = now.filter(|now| {
        now.fsuid == then.fsuid
            && now.fsgid == then.fsgid
            && now.cap_effective == then.cap_effective
            && now.groups.len() == then.groups as usize
    });
    let groups = if then.groups == 0 { Some(Vec::new()) } else { same.map(|now| now.groups) };
    Some(access::Client {
        fsuid: then.fsuid,
        fsgid: then.fsgid,
        groups,
        cap_effective: Some(then.cap_effective),
        id_maps: id_maps(host, tid, then, alive),
    })
}

fn id_maps(host: &Host, tid: u32, then: &Credentials, alive: bool) -> Option<IdMaps> {
    let is_of =
        |pid: u32| host.read_namespace(pid, "user").ok() == Some(u64::from(then.user_namespace));
    let own = std::process::id();
    if is_of(own) {
        return host.read_id_map(own).ok();
    }
    (alive && is_of(tid)).then(|| host.read_id_map(tid).ok())?
}

/// The client's own tree; where it is gone, that of another process with the same root.
fn sight(host: &Host, tid: u32, captured: Option<&Credentials>, alive: bool) -> Option<Sight> {
    let own = if alive { View::of_process(host, tid).ok() } else { None };
    let Some(then) = captured else {
        return Some(Sight { view: own?, pid: Some(tid), as_client: false, in_cwd: false });
    };
    if let Some(view) = own {
        let as_client = is_tree_of(&view, then);
        let in_cwd = as_client && view.lookup_id().cwd.is_some_and(|cwd| cwd.1 == then.cwd);
        return Some(Sight { view, pid: Some(tid), as_client, in_cwd });
    }
    let other = View::of_self().ok().filter(|view| is_tree_of(view, then));
    let view = other.or_else(|| another_view(host, then))?;
    // Roots of different filesystems may have one number: that it is the same tree is likely, not known.
    Some(Sight { view, pid: None, as_client: false, in_cwd: false })
}

fn is_tree_of(view: &View, then: &Credentials) -> bool {
    let seen = view.lookup_id();
    seen.root.is_some_and(|root| root.1 == then.root)
        && seen.mount_namespace == Some(u64::from(then.mount_namespace))
}

fn another_view(host: &Host, then: &Credentials) -> Option<View> {
    let found = host.read_namespace_representatives().ok()?;
    let pids = found.mnt.get(&then.mount_namespace)?;
    let mut views = pids.iter().filter_map(|pid| View::of_process(host, *pid).ok());
    views.find(|view| is_tree_of(view, then))
}
