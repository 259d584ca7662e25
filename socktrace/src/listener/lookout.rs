//! Looks at listeners again and again, at the cost of one look each.
//!
//! Owns when the namespaces are enumerated anew: that reads a link of every process. Into a namespace
//! that may be entered when windows are opened it looks on when it may not be entered any more; one
//! that is made later it then cannot see, and tells so.

use std::{
    collections::{BTreeSet, HashSet},
    time::{Duration, Instant},
};

use super::{Look, Unseen, read_own_sightings, units::UnitsByAddress, windows::Windows};
use crate::{
    event::Unread,
    host::{Effort, EnterError, Host, NetworkNamespace},
};

/// A new namespace is found within this time.
const ENUMERATE: Duration = Duration::from_secs(10);
/// Enumerating may use one in so many parts of a CPU's time.
const ENUMERATE_SHARE: u32 = 100;

/// The namespaces that are looked into.
pub struct Lookout {
    host: Host,
    namespaces: Vec<NetworkNamespace>,
    windows: Windows,
    units: UnitsByAddress,
    /// Namespaces that it may not enter: not tried again before the next enumeration.
    refused: HashSet<u32>,
    /// Every namespace that was once refused.
    not_entered: BTreeSet<u32>,
    next_enumeration: Option<Instant>,
    /// Whether an enumeration found fewer.
    some_went: bool,
    /// Whether there was one since that was asked last.
    is_fresh: bool,
    unread: Unread,
}

impl Lookout {
    /// Nothing is read yet.
    pub fn new(host: Host) -> Self {
        Self {
            host,
            namespaces: Vec::new(),
            windows: Windows::default(),
            units: UnitsByAddress::default(),
            refused: HashSet::new(),
            not_entered: BTreeSet::new(),
            next_enumeration: None,
            some_went: false,
            is_fresh: false,
            unread: Unread::default(),
        }
    }

    /// Opens a window into every other namespace: to be called while they may be entered, and where
    /// that is given up. Each takes descriptors, and keeps its namespace alive until it is found that
    /// nothing else does.
    #[must_use]
    pub fn with_windows(mut self) -> Self {
        self.enumerate_if_due();
        self.windows = Windows::open(&self.host, &self.namespaces);
        self
    }

    /// Looks into every namespace that it has a window into, or may enter; where none can be enumerated, into its own.
    /// Once refused, a namespace is not tried again before namespaces are enumerated anew, nor told
    /// as unseen by the looks between.
    pub fn look(&mut self) -> Look {
        self.enumerate_if_due();
        let mut look = if self.namespaces.is_empty() {
            read_own_sightings(&self.host)
        } else {
            self.look_into_all()
        };
        self.units.note(&mut look);
        self.refused.extend(look.unseen.not_entered.iter().map(EnterError::inode));
        self.note(&look.unseen);
        look
    }

    fn look_into_all(&mut self) -> Look {
        let mut look = Look::default();
        for namespace in &self.namespaces {
            if let Some(window) = self.windows.get_mut(namespace.inode) {
                if !look.look_through(window, namespace) {
                    // One that is broken must not hide the others from now on.
                    self.windows.close(namespace.inode);
                }
            } else if !self.refused.contains(&namespace.inode) {
                look.enter(&self.host, namespace);
            }
        }
        look
    }

    /// The network namespaces, by inode, if they were enumerated since this was asked last.
    pub fn enumerated(&mut self) -> Option<HashSet<u32>> {
        std::mem::take(&mut self.is_fresh).then(|| self.inodes())
    }

    /// The network namespaces that are left, by inode, if some have gone since this was asked last.
    pub fn left(&mut self) -> Option<HashSet<u32>> {
        std::mem::take(&mut self.some_went).then(|| self.inodes())
    }

    /// Those found last.
    pub fn namespaces(&self) -> &[NetworkNamespace] {
        &self.namespaces
    }

    fn inodes(&self) -> HashSet<u32> {
        self.namespaces.iter().map(|namespace| namespace.inode).collect()
    }

    /// What all looks so far could not read; nothing is known of owners here.
    pub fn unread(&self) -> Unread {
        Unread { not_entered: self.not_entered.iter().copied().collect(), ..self.unread.clone() }
    }

    fn note(&mut self, unseen: &Unseen) {
        self.not_entered.extend(unseen.not_entered.iter().map(EnterError::inode));
        let refused = u32::try_from(unseen.not_listed.len()).unwrap_or(u32::MAX);
        self.unread.not_listed = self.unread.not_listed.saturating_add(refused);
        self.unread.interrupted = self.unread.interrupted.saturating_add(unseen.interrupted);
        // The same one again in each look.
        self.unread.malformed = self.unread.malformed.max(unseen.malformed);
    }

    fn enumerate_if_due(&mut self) {
        let begin = Instant::now();
        if self.next_enumeration.is_some_and(|next| begin < next) {
            return;
        }
        let effort = Effort::of_thread();
        self.units = UnitsByAddress::read(&self.host);
        // Those known before are still good where `/proc` cannot be read now.
        if let Ok(mut found) = self.host.read_network_namespaces() {
            found.keep_hidden(&self.namespaces);
            let is_gone = |was: &NetworkNamespace| found.all.iter().all(|it| it.inode != was.inode);
            self.some_went |= self.namespaces.iter().any(is_gone);
            self.namespaces = found.all;
            self.is_fresh = true;
            self.windows.retain_known(&self.namespaces);
            self.refused.clear();
            self.unread.namespaces_of = self.unread.namespaces_of.max(found.unreadable);
        }
        let pause = ENUMERATE.max(effort.so_far() * ENUMERATE_SHARE);
        self.next_enumeration = Some(Instant::now() + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_namespaces_to_enumerate_the_own_one_is_looked_into() {
        let empty = tempfile::tempdir().expect("a temporary directory");
        let mut lookout = Lookout::new(Host::at(empty.path()));
        let look = lookout.look();
        assert_eq!(look.namespaces.len(), 1);
        assert!(look.unseen.not_listed.is_empty(), "{:?}", look.unseen);
    }

    #[test]
    fn a_refused_namespace_is_not_tried_again_at_once_and_told_in_the_end() {
        let root = tempfile::tempdir().expect("a temporary directory");
        for process in ["thread-self", "self", "5"] {
            std::fs::create_dir_all(root.path().join("proc").join(process).join("ns"))
                .expect("a fake process");
        }
        let link = |process: &str, to: &str| {
            let at = root.path().join("proc").join(process).join("ns/net");
            std::os::unix::fs::symlink(to, at).expect("a fake link");
        };
        link("thread-self", "net:[1]");
        // It leads nowhere in a way that is no end: a link to itself.
        let loop_link = root.path().join("loop");
        std::os::unix::fs::symlink("loop", &loop_link).expect("a link");
        let mounts = "1 1 0:4 net:[8] /loop rw - nsfs nsfs rw\n";
        std::fs::write(root.path().join("proc/self/mountinfo"), mounts).expect("fake mounts");
        let mut lookout = Lookout::new(Host::at(root.path()));
        let told: Vec<usize> = (0..2).map(|_| lookout.look().unseen.not_entered.len()).collect();
        assert_eq!(told, [1, 0]);
        assert_eq!(lookout.unread().not_entered, [8]);
    }

    /// A namespace with a process in it.
    struct Elsewhere(std::process::Child);

    impl Elsewhere {
        fn make() -> (Self, NetworkNamespace) {
            let mut command = std::process::Command::new("unshare");
            let child = command.args(["-n", "sleep", "60"]).spawn().expect("unshare(1)");
            let elsewhere = Self(child);
            let host = Host::default();
            let own = host.read_netns(std::process::id()).expect("a namespace");
            for _ in 0..5000 {
                std::thread::sleep(Duration::from_millis(1));
                let inode = host.read_netns(elsewhere.0.id()).expect("a namespace");
                let mut all = host.read_network_namespaces().expect("namespaces").all;
                all.retain(|namespace| u64::from(namespace.inode) == inode && inode != own);
                if let Some(namespace) = all.pop() {
                    return (elsewhere, namespace);
                }
            }
            unreachable!("no namespace after seconds");
        }
    }

    impl Drop for Elsewhere {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_namespace_is_seen_on_when_it_may_not_be_entered_any_more_and_let_go_with_its_process() {
        let (elsewhere, namespace) = Elsewhere::make();
        let listener =
            namespace.enter(|| std::net::TcpListener::bind("0.0.0.0:0").expect("a port"));
        let listener = listener.expect("the way in, as root");
        let inode = rustix::fs::fstat(&listener).expect("fstat").st_ino;
        let work = || {
            let mut open = Lookout::new(Host::default()).with_windows();
            let mut shut = Lookout::new(Host::default());
            // Of this thread alone, which ends.
            caps::drop(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_ADMIN)
                .expect("a capability to drop");
            assert!(!shut.look().sightings.contains_key(&inode));
            assert!(shut.unread().not_entered.contains(&namespace.inode));
            for _ in 0..2 {
                let look = open.look();
                assert_eq!(look.sightings[&inode].netns, Some(namespace.inode));
                let known =
                    |it: &&super::super::NamespaceSighting| it.inode == Some(namespace.inode);
                let seen = look.namespaces.iter().find(known).expect("the namespace");
                assert!(seen.somaxconn.is_some() && seen.tcp_ext.is_some(), "{seen:?}");
            }
            assert!(!open.unread().not_entered.contains(&namespace.inode));
            drop(elsewhere);
            open.next_enumeration = None;
            assert!(!open.look().sightings.contains_key(&inode));
            assert!(open.windows.get_mut(namespace.inode).is_none());
        };
        std::thread::scope(|scope| scope.spawn(work).join()).expect("no panic");
    }
}
