//! Groups of tracks: which number and which name each process and each listener has.
//!
//! A process goes by its pid. A listener goes by a number that no process can have. Numbers and names
//! are told once, and again when a name changes; memory is bounded.

use std::collections::HashMap;

use serde_json::Value;

use super::objects::names;
use crate::{
    event::{Actor, Endpoint},
    render::{cells::endpoint, escape::escape},
};

/// The kernel's `PID_MAX_LIMIT`: every pid is smaller. Listeners that are not known, or too many.
const OTHERS: u32 = 1 << 22;
/// Listeners that have a group of their own.
const MOST_LISTENERS: usize = 1 << 16;
/// Processes whose names are kept: of more, all are told again.
const MOST_PROCESSES: usize = 1 << 14;

/// A listener.
#[derive(Debug)]
struct Group {
    number: u32,
    /// Its address, once that is known.
    local: Endpoint,
    queue: Option<u32>,
}

/// Everyone who was told of.
#[derive(Debug, Default)]
pub(super) struct Groups {
    listeners: HashMap<u64, Group>,
    processes: HashMap<u32, Vec<u8>>,
    others_are_named: bool,
}

impl Groups {
    /// The group of a process; its name goes to `out` where it is new.
    pub(super) fn process(&mut self, actor: &Actor, out: &mut Vec<Value>) -> u32 {
        let (pid, comm) = (actor.key.tgid, &actor.task.comm);
        if self.processes.get(&pid) != Some(comm) {
            if self.processes.len() >= MOST_PROCESSES {
                self.processes.clear();
            }
            self.processes.insert(pid, comm.clone());
            out.extend(names(pid, &escape(comm), "failures"));
        }
        pid
    }

    /// The group of a listener; its name goes to `out` where it is new.
    pub(super) fn listener(
        &mut self,
        inode: Option<u64>,
        local: Option<&Endpoint>,
        out: &mut Vec<Value>,
    ) -> u32 {
        let room = self.listeners.len() < MOST_LISTENERS;
        let number = OTHERS + 1 + u32::try_from(self.listeners.len()).unwrap_or(0);
        let Some(inode) = inode.filter(|inode| room || self.listeners.contains_key(inode)) else {
            if !std::mem::replace(&mut self.others_are_named, true) {
                out.extend(names(OTHERS, "other listeners", "drops"));
            }
            return OTHERS;
        };
        let is_new = !self.listeners.contains_key(&inode);
        let new = || Group { number, local: Endpoint::default(), queue: None };
        let group = self.listeners.entry(inode).or_insert_with(new);
        let known = local.filter(|local| local.address.is_some() && **local != group.local);
        if let Some(local) = known {
            group.local = local.clone();
        }
        if is_new || known.is_some() {
            let name = format!("listener {} (inode {inode})", endpoint(&group.local));
            out.extend(names(group.number, &name, "drops"));
        }
        group.number
    }

    /// Whether this listener has a group of its own.
    pub(super) fn knows(&self, inode: u64) -> bool {
        self.listeners.contains_key(&inode)
    }

    /// The group of a listener whose queue has another length than it was last told.
    pub(super) fn queue_changed(&mut self, inode: u64, queue: u32) -> Option<u32> {
        let group = self.listeners.get_mut(&inode)?;
        let before = group.queue.replace(queue);
        (before != Some(queue)).then_some(group.number)
    }
}

#[cfg(test)]
mod tests {
    use socktrace_common::TaskKey;

    use super::*;
    use crate::event::{Address, Task};

    fn actor(pid: u32) -> Actor {
        let task = Task { comm: b"web".to_vec(), uid: 0, gid: 0, cgroup: 0 };
        Actor { key: TaskKey { tgid: pid, ..TaskKey::NONE }, tid: pid, task }
    }

    #[test]
    fn a_name_is_told_once_and_again_when_it_changes() {
        let (mut groups, mut out) = (Groups::default(), Vec::new());
        let renamed = Actor { task: Task { comm: b"\x1b".to_vec(), ..actor(7).task }, ..actor(7) };
        for who in [&actor(7), &actor(7), &renamed] {
            assert_eq!(groups.process(who, &mut out), 7);
        }
        let told: Vec<_> = out.iter().map(|it| it["args"]["name"].as_str()).collect();
        let [first, second] = [Some("web"), Some("\\x1b")];
        assert_eq!(told, [first, Some("failures"), second, Some("failures")]);
    }

    #[test]
    fn a_listener_is_no_process_and_keeps_its_number_when_its_address_comes_later() {
        let (mut groups, mut out) = (Groups::default(), Vec::new());
        let local = Endpoint { address: "[::]:1".parse().ok().map(Address::Inet), kind: None };
        let number = groups.listener(Some(5), None, &mut out);
        assert!(number > OTHERS);
        assert_eq!(groups.listener(Some(5), Some(&local), &mut out), number);
        assert_eq!(groups.listener(Some(5), None, &mut out), number);
        assert_eq!(out.len(), 4, "twice, a group and its thread: {out:?}");
        assert_eq!(out[2]["args"]["name"], "listener [::]:1 (inode 5)");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut groups, mut out) = (Groups::default(), Vec::new());
        for n in 0..MOST_LISTENERS as u64 + 10 {
            groups.listener(Some(n), None, &mut out);
        }
        assert_eq!(groups.listeners.len(), MOST_LISTENERS);
        assert_eq!(groups.listener(Some(u64::MAX), None, &mut out), OTHERS);
        for pid in 0..3 * MOST_PROCESSES {
            groups.process(&actor(u32::try_from(pid).expect("small")), &mut out);
            out.clear();
        }
        assert!(groups.processes.len() <= MOST_PROCESSES);
    }
}
