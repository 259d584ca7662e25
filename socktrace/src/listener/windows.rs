//! Windows into the other network namespaces of the host, kept open.
//!
//! Owns how many there may be, and that each is closed when nothing else keeps its namespace: until
//! then the tracer does.

use std::collections::{BTreeMap, HashSet};

use rustix::process::{Resource, getrlimit};

use crate::host::{Host, NamespaceWindow, NetworkNamespace};

/// Windows at most: each is read at every look.
const MOST: usize = 256;
/// Descriptors that are left for everything else that is opened.
const LEFT_FREE: u64 = 256;

/// The open windows, by inode of the namespace.
#[derive(Debug, Default)]
pub(super) struct Windows {
    open: BTreeMap<u32, NamespaceWindow>,
}

impl Windows {
    /// Opens one into each namespace that may be entered, as far as descriptors allow; the limit is
    /// the user's, and stays. A namespace without window is told as unseen once it may not be
    /// entered.
    pub(super) fn open(host: &Host, namespaces: &[NetworkNamespace]) -> Self {
        Self { open: open_windows(host, namespaces) }
    }

    pub(super) fn get_mut(&mut self, inode: u32) -> Option<&mut NamespaceWindow> {
        self.open.get_mut(&inode)
    }

    pub(super) fn close(&mut self, inode: u32) {
        self.open.remove(&inode);
    }

    /// Closes those into namespaces that nothing else was found to keep.
    pub(super) fn retain_known(&mut self, namespaces: &[NetworkNamespace]) {
        let known: HashSet<u32> = namespaces.iter().map(|namespace| namespace.inode).collect();
        self.open.retain(|inode, _| known.contains(inode));
    }
}

/// A window into each of these namespaces but the own one, by inode, as far as descriptors allow.
pub fn open_windows(
    host: &Host,
    namespaces: &[NetworkNamespace],
) -> BTreeMap<u32, NamespaceWindow> {
    let used = host.read_open_fds(std::process::id()).ok();
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let others = namespaces.iter().filter(|namespace| !namespace.is_own());
    let mut open = BTreeMap::new();
    for namespace in others.take(used.map_or(0, |used| room(limit, used as u64))) {
        if let Ok(Some(window)) = namespace.open_window() {
            open.insert(namespace.inode, window);
        }
    }
    open
}

/// How many windows may be opened where `used` descriptors of `limit` are in use.
fn room(limit: u64, used: u64) -> usize {
    let free = limit.saturating_sub(used).saturating_sub(LEFT_FREE);
    usize::try_from(free / NamespaceWindow::DESCRIPTORS).unwrap_or(usize::MAX).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_leave_descriptors_for_the_rest() {
        assert_eq!(room(1024, 200), 256);
        assert_eq!(room(1024, 748), 10);
        assert_eq!(room(256, 20), 0);
        assert_eq!(room(10, 20), 0);
        assert_eq!(room(u64::MAX, 0), MOST);
    }
}
