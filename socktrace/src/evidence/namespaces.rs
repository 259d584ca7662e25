//! Every network namespace of the host, through a `sock_diag` socket that was opened in it.
//!
//! Owns the windows and which namespaces have none. Tells of each answer whether it is of all
//! namespaces.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    host::{
        AddressFact, Host, NamespaceWindow, NetworkNamespace, NetworkNamespaces, NetworkSettings,
        sock_diag::{Dump, SockDiag, SockDiagError},
    },
    listener::open_windows,
};

/// For how long the list of namespaces holds: making it reads a link of every process.
const FRESH: Duration = Duration::from_secs(1);

/// The namespaces that can be looked into.
pub struct Namespaces {
    host: Host,
    /// Those that were found, and when.
    listed: Option<(Instant, NetworkNamespaces)>,
    own: Option<(u32, SockDiag)>,
    windows: BTreeMap<u32, NamespaceWindow>,
    settings: BTreeMap<u32, NetworkSettings>,
    /// What was asked last of all of them about an address, for whom, and when.
    asked: Option<(Instant, Option<u32>, IpAddr, WithAddress)>,
}

/// Who has an address.
#[derive(Clone, Debug, Default)]
pub(super) struct WithAddress {
    /// The namespaces.
    pub(super) namespaces: Vec<u64>,
    /// Whether all could be asked.
    pub(super) all_asked: bool,
}

/// What all namespaces answered.
#[derive(Debug)]
pub(super) struct Answers<T> {
    /// What was asked for, with the namespace that it is in.
    pub(super) found: Vec<(u32, T)>,
    /// The namespaces that answered without losing anything.
    pub(super) whole: Vec<u32>,
    /// Whether these are all that are known.
    pub(super) complete: bool,
    /// Processes that would not show which namespace they are in: it may be another.
    pub(super) unreadable: u32,
}

impl Namespaces {
    /// Opens a socket in every namespace that may be entered: to be called before that is given up.
    pub fn open(host: Host) -> Self {
        let listed = host.read_network_namespaces().ok().map(|found| (Instant::now(), found));
        let known = listed.as_ref().map(|(_, found)| found.all.as_slice()).unwrap_or_default();
        let own = known.iter().find(|namespace| namespace.is_own());
        let own = own.and_then(|own| Some((own.inode, SockDiag::open().ok()?)));
        let windows = open_windows(&host, known);
        let reached = known.iter().filter(|namespace| windows.contains_key(&namespace.inode));
        let settings = reached.filter_map(|namespace| {
            Some((namespace.inode, host.read_network_settings_in(namespace).ok()?))
        });
        let settings = settings.collect();
        Self { host, listed, own, windows, settings, asked: None }
    }

    /// Inode of this process's own namespace.
    pub(super) fn own(&self) -> Option<u32> {
        self.own.as_ref().map(|(inode, _)| *inode)
    }

    /// The settings of one namespace: the own one's as they are, another's as they were when it could be
    /// entered.
    pub(super) fn settings(&self, inode: u32) -> Option<NetworkSettings> {
        if self.own() == Some(inode) {
            return Some(self.host.read_network_settings());
        }
        self.settings.get(&inode).cloned()
    }

    /// The socket of one namespace.
    pub(super) fn of(&mut self, inode: u32) -> Option<&mut SockDiag> {
        match &mut self.own {
            Some((own, sockets)) if *own == inode => Some(sockets),
            _ => self.windows.get_mut(&inode).map(NamespaceWindow::sockets),
        }
    }

    /// Asks each namespace the same. One that was made since is looked into if that is still allowed.
    pub(super) fn ask<T>(
        &mut self,
        mut question: impl FnMut(&mut SockDiag) -> Result<Dump<T>, SockDiagError>,
    ) -> Answers<T> {
        let listed = self.list();
        let mut answers = Answers {
            found: Vec::new(),
            whole: Vec::new(),
            complete: listed.is_some(),
            unreadable: listed.as_ref().map_or(0, |found| found.unreadable),
        };
        let known = listed.as_ref().map(|found| found.all.as_slice()).unwrap_or_default();
        let is_known = |inode: &u32| known.iter().any(|namespace| namespace.inode == *inode);
        keep_only(&mut self.windows, &mut self.settings, is_known);
        for namespace in known {
            let Some(sockets) = self.reach(namespace) else {
                answers.complete = false;
                continue;
            };
            let Ok(dump) = question(sockets) else {
                answers.complete = false;
                continue;
            };
            let whole = dump.malformed == 0 && !dump.interrupted;
            answers.complete &= whole;
            answers.whole.extend(whole.then_some(namespace.inode));
            answers.found.extend(dump.sockets.into_iter().map(|it| (namespace.inode, it)));
        }
        answers
    }

    /// The namespaces beside `client` that have this address as their own. Each is asked through a process that is in it,
    /// which takes no way in; the answer holds for a while.
    pub(super) fn with_address(&mut self, client: Option<u32>, address: IpAddr) -> WithAddress {
        if let Some((when, whose, which, answer)) = &self.asked
            && when.elapsed() < FRESH
            && (*whose, *which) == (client, address)
        {
            return answer.clone();
        }
        let Some(listed) = self.list() else { return WithAddress::default() };
        let mut answer = WithAddress { namespaces: Vec::new(), all_asked: listed.unreadable == 0 };
        for namespace in listed.all.iter().filter(|it| Some(it.inode) != client) {
            match namespace.read_address(address) {
                Some(AddressFact::Local) => answer.namespaces.push(u64::from(namespace.inode)),
                Some(AddressFact::Foreign) => {}
                Some(AddressFact::NotUsable | AddressFact::Unknown) | None => {
                    answer.all_asked = false;
                }
            }
        }
        self.asked = Some((Instant::now(), client, address, answer.clone()));
        answer
    }

    /// Lets those go that are none of these.
    pub(super) fn keep_only(&mut self, known: &HashSet<u32>) {
        keep_only(&mut self.windows, &mut self.settings, |inode| known.contains(inode));
    }

    /// Every namespace; `None` where they cannot be listed.
    fn list(&mut self) -> Option<NetworkNamespaces> {
        let fresh = self.listed.as_ref().is_some_and(|(read, _)| read.elapsed() < FRESH);
        if !fresh {
            let mut found = self.host.read_network_namespaces().ok();
            if let (Some(found), Some((_, before))) = (&mut found, &self.listed) {
                found.keep_hidden(&before.all);
            }
            self.listed = found.map(|found| (Instant::now(), found));
        }
        self.listed.as_ref().map(|(_, found)| found.clone())
    }

    fn reach(&mut self, namespace: &NetworkNamespace) -> Option<&mut SockDiag> {
        let known =
            self.own() == Some(namespace.inode) || self.windows.contains_key(&namespace.inode);
        if !known && let Ok(Some(window)) = namespace.open_window() {
            self.windows.insert(namespace.inode, window);
        }
        self.of(namespace.inode)
    }
}

fn keep_only(
    windows: &mut BTreeMap<u32, NamespaceWindow>,
    settings: &mut BTreeMap<u32, NetworkSettings>,
    is_known: impl Fn(&u32) -> bool,
) {
    windows.retain(|inode, _| is_known(inode));
    settings.retain(|inode, _| is_known(inode));
}
