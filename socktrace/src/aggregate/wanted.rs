//! What of all that is known is to be shown: every selection must want it.
//!
//! A live session has one selection, most of which the hooks have applied. A saved one has that, and
//! the one of whoever reads it.

use socktrace_common::{AcceptErrorKey, AcceptKey, ConnectBlockedKey, ConnectFailureKey, TaskKey};

use super::{Aggregator, Selection};
use crate::event::{Body, Diagnosis, Endpoint, Event, Incident, Owner, Stall, Task};

impl Aggregator {
    /// Whether sinks are to see this event.
    pub fn wants(&self, event: &Event) -> bool {
        let errno = match &event.body {
            Body::AcceptError { errno, .. } | Body::ConnectFailure { errno, .. } => Some(*errno),
            Body::ConnectBlocked { errno, .. } => *errno,
            Body::Accept { .. } | Body::BacklogDrop { .. } | Body::Listen { .. } => None,
        };
        let of_listener = |inode: &Option<u64>| inode.and_then(|it| self.listener_address(it));
        let unknown = Endpoint::default();
        let end = match &event.body {
            Body::ConnectFailure { target, .. } | Body::ConnectBlocked { target, .. } => target,
            Body::Listen { listener, .. } => &listener.local,
            Body::Accept { listener, .. }
            | Body::AcceptError { listener, .. }
            | Body::BacklogDrop { listener, .. } => of_listener(listener).unwrap_or(&unknown),
        };
        self.every(|selection| {
            selection.wants_end(end)
                && selection.wants_errno(errno)
                && match (&event.actor, &event.body) {
                    (Some(actor), _) => {
                        selection.wants_client(actor.key, actor.task.uid, Some(&actor.task))
                    }
                    (None, Body::BacklogDrop { listener: Some(inode), .. }) => {
                        selection.in_kernel || self.is_held_as_wanted(*inode, selection)
                    }
                    (None, _) => selection.in_kernel || !selection.selects_processes(),
                }
        })
    }

    /// Whether a stall is to be seen.
    pub fn wants_stall(&self, stall: &Stall) -> bool {
        let held = |selection: &Selection| {
            if selection.in_kernel {
                stall.selected
            } else {
                self.is_one_wanted(&stall.owners, selection)
            }
        };
        self.every(|selection| {
            (!selection.selects_processes() || held(selection))
                && !selection.only_errnos()
                && selection.wants(&stall.local)
        })
    }

    /// Whether what was found out is to be seen: if its incident is.
    pub fn wants_diagnosis(&self, diagnosis: &Diagnosis) -> bool {
        match &diagnosis.of {
            Incident::ConnectFailure(class) => self.every(|it| it.wants_end(&class.target)),
            Incident::AcceptError { listener, .. } => {
                let local = self.listener_address(*listener).cloned().unwrap_or_default();
                self.every(|selection| selection.wants_end(&local))
            }
        }
    }

    pub(super) fn wants_accepts(&self, key: &AcceptKey) -> bool {
        self.wants_of_listener(key.listener, key.task, None)
    }

    pub(super) fn wants_accept_errors(&self, key: &AcceptErrorKey) -> bool {
        self.wants_of_listener(key.listener, key.task, Some(key.errno))
    }

    /// Of very many, again and again: what nobody selects by is not looked up.
    fn wants_of_listener(&self, inode: u64, task: TaskKey, errno: Option<u32>) -> bool {
        let unknown = Endpoint::default();
        let local = || self.listener_address(inode).unwrap_or(&unknown);
        self.every(|selection| {
            (!selection.asks_for_ends() || selection.wants_end(local()))
                && (!selection.asks_for_tasks() || selection.wants_task(task, self.task(task)))
                && selection.wants_errno(errno)
        })
    }

    /// Of no process: counted for the listener's sake.
    pub(super) fn wants_failures(&self, key: &ConnectFailureKey, target: &Endpoint) -> bool {
        key.task != TaskKey::NONE
            && self.every(|selection| {
                selection.wants_end(target)
                    && selection.wants_client(key.task, key.uid, self.task(key.task))
                    && selection.wants_errno(Some(key.errno))
            })
    }

    pub(super) fn wants_blocked(&self, key: &ConnectBlockedKey, target: &Endpoint) -> bool {
        self.every(|selection| {
            selection.wants_end(target)
                && selection.wants_task(key.task, self.task(key.task))
                && selection.wants_errno(None)
        })
    }

    /// Whether drops of a listener are wanted: the kernel counts those of every one, whatever the
    /// filters.
    pub(super) fn shows_drops_of(&self, inode: u64) -> bool {
        let local = self.listener_address(inode).cloned().unwrap_or_default();
        self.wants_listener(inode, &local)
    }

    /// Whether what is a listener's own is wanted.
    pub fn wants_listener(&self, inode: u64, local: &Endpoint) -> bool {
        self.every(|selection| {
            !selection.only_errnos()
                && selection.wants(local)
                && self.is_held_as_wanted(inode, selection)
        })
    }

    /// Whether a process that this selection wants holds the listener.
    fn is_held_as_wanted(&self, inode: u64, selection: &Selection) -> bool {
        let known = self.counters.listeners.get(&inode);
        if !selection.selects_processes() {
            true
        } else if selection.in_kernel {
            known.is_some_and(|known| known.selected)
        } else {
            self.is_one_wanted(&self.owners_of(inode, known), selection)
        }
    }

    fn is_one_wanted(&self, owners: &[Owner], selection: &Selection) -> bool {
        let uid = |owner: &Owner| owner.uid.or_else(|| self.uid_of(owner.pid));
        owners.iter().any(|owner| selection.wants_owner(owner, uid(owner)))
    }

    /// Real uid of a process, where every process with that pid had the same.
    fn uid_of(&self, pid: u32) -> Option<u32> {
        self.uids.get(&pid).copied().flatten()
    }

    fn task(&self, key: TaskKey) -> Option<&Task> {
        self.counters.tasks.get(&key)
    }

    pub(super) fn every(&self, wants: impl Fn(&Selection) -> bool) -> bool {
        self.selections.iter().all(wants)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use socktrace_common::{DropKey, DropReason, DropStage};

    use super::*;
    use crate::{
        aggregate::Snapshot,
        event::{Counters, Record},
    };

    const INODE: u64 = 7;

    /// Who is shown of a listener that dropped something and that a process of uid 33 holds, which did
    /// nothing else: what is left for a reader who asks for a user.
    fn shown_to(owner: Owner, uid: u32) -> usize {
        let mut session = Snapshot::of_nothing().session;
        session.signals.iter_mut().for_each(|row| row.tier = Some(socktrace_common::Tier::Fentry));
        let whose = Selection { uid: Some(uid), ..Selection::default() };
        let mut aggregator = Aggregator::new(session, Selection::default()).narrowed(whose);
        let key = DropKey {
            listener: INODE,
            reason: DropReason::AcceptQueueFull as u32,
            stage: DropStage::Ack as u32,
        };
        let drops = HashMap::from([(key, 5)]);
        aggregator.apply(Record::Counters(Box::new(Counters { drops, ..Counters::default() })));
        aggregator.apply(Record::Owners(HashMap::from([(INODE, vec![owner])])));
        aggregator.snapshot(Duration::ZERO).listeners.len()
    }

    #[test]
    fn a_listener_is_its_owners_users_though_the_owner_did_nothing_that_was_counted() {
        let owner = |uid| Owner { pid: 12, comm: b"web".to_vec(), uid, cgroup: None };
        assert_eq!(shown_to(owner(Some(33)), 33), 1);
        assert_eq!(shown_to(owner(Some(33)), 34), 0);
        // A session of before users of owners were saved.
        assert_eq!(shown_to(owner(None), 33), 0);
    }
}
