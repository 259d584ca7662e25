//! Takes records in and keeps the latest of each; `report.rs` makes a [`Snapshot`] of it.
//!
//! [`Snapshot`]: super::Snapshot

use std::collections::HashMap;

use socktrace_common::Signal;

use super::{findings::Diagnoses, selection::Selection, snapshot::Session, timeline::Recorder};
use crate::event::{
    Body, Counters, Diagnosis, Endpoint, Event, Incident, Listener, Misses, NamespaceCounters,
    Owner, ReaderLoss, Record, Sighting, Stall, StallChange, Unread, Waiting,
};

/// Stalls that are kept: of more, the oldest that are over are counted only.
const MOST_STALLS: usize = 1000;

/// A listener as `sock_diag` showed it over time.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    pub(super) last: Sighting,
    pub(super) peak: Option<u32>,
    pub(super) drops_at_start: u32,
}

/// The state behind every report.
pub struct Aggregator {
    pub(super) session: Session,
    pub(super) selection: Selection,
    pub(super) counters: Counters,
    pub(super) watched: HashMap<u64, Watched>,
    pub(super) baseline_taken: bool,
    pub(super) named: HashMap<u64, Listener>,
    pub(super) owners: HashMap<u64, Vec<Owner>>,
    pub(super) unread: Option<Unread>,
    pub(super) cgroups: HashMap<u64, Vec<u8>>,
    pub(super) namespaces: Vec<NamespaceCounters>,
    pub(super) loss: ReaderLoss,
    pub(super) misses: Misses,
    /// Every stall that was told, as it was last.
    pub(super) stalls: Vec<Stall>,
    pub(super) stalls_left_out: u64,
    pub(super) diagnoses: Diagnoses,
    pub(super) delivered: [u64; Signal::COUNT],
    pub(super) course: Recorder,
}

impl Aggregator {
    /// Starts empty.
    pub fn new(session: Session, selection: Selection) -> Self {
        Self {
            course: Recorder::new(session.started_ns),
            session,
            selection,
            counters: Counters::default(),
            watched: HashMap::new(),
            baseline_taken: false,
            named: HashMap::new(),
            owners: HashMap::new(),
            unread: None,
            cgroups: HashMap::new(),
            namespaces: Vec::new(),
            loss: ReaderLoss::default(),
            misses: Misses::default(),
            stalls: Vec::new(),
            stalls_left_out: 0,
            diagnoses: Diagnoses::default(),
            delivered: [0; Signal::COUNT],
        }
    }

    /// Takes one record in.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Event(event) => {
                self.delivered[event.body.signal() as usize] += 1;
                self.diagnoses.note(&event);
                if let Body::Listen { inode, listener } = event.body {
                    self.named.insert(inode, listener);
                }
            }
            Record::Listener(inode, listener) => {
                self.named.insert(inode, listener);
            }
            Record::Counters(counters) => {
                self.counters = *counters;
                let reading = self.reading();
                self.course.read(reading);
            }
            Record::Sightings(sightings) => self.apply_sightings(sightings),
            Record::Owners(owners) => self.owners = owners,
            Record::Unread(unread) => self.unread = Some(unread),
            Record::Cgroups(cgroups) => self.cgroups = cgroups,
            Record::Namespaces(namespaces) => self.namespaces = namespaces,
            Record::Loss(loss) => self.loss = loss,
            Record::Misses(misses) => self.misses = misses,
            Record::Stall(stall) => self.apply_stall(*stall),
            Record::Diagnosis(diagnosis) => self.diagnoses.take(*diagnosis),
        }
    }

    /// What the first look finds was there before: its drops are not this session's.
    fn apply_sightings(&mut self, sightings: HashMap<u64, Sighting>) {
        let baseline = !std::mem::replace(&mut self.baseline_taken, true);
        for (inode, sighting) in sightings {
            let watched = self.watched.entry(inode).or_default();
            if baseline {
                watched.drops_at_start = sighting.drops.unwrap_or(0);
            }
            watched.peak = watched.peak.max(sighting.queue);
            self.course.saw_queue(inode, sighting.queue.unwrap_or(0));
            watched.last = sighting;
        }
    }

    /// A stall is told of from its opening to its end; what it once knew, its end still knows.
    fn apply_stall(&mut self, stall: Stall) {
        if !self.wants_stall(&stall) {
            return;
        }
        let open = |known: &&mut Stall| {
            known.listener == stall.listener && known.change != StallChange::Closed
        };
        match self.stalls.iter_mut().rev().find(open) {
            Some(known) if stall.change == StallChange::Closed => {
                known.change = StallChange::Closed;
                known.time_ns = stall.time_ns;
                known.pending = 0;
                known.pending_peak = stall.pending_peak;
                known.accepted_ns = stall.accepted_ns;
            }
            Some(known) => {
                let acceptor = in_turn(known.acceptor.take(), stall.acceptor.clone());
                let known_before = std::mem::take(&mut known.clients);
                let named = |clients: &[Waiting]| -> u32 {
                    clients.iter().filter(|it| it.pid.is_some()).map(|it| it.count).sum()
                };
                // From outside before anything of its own.
                let hold = [known.hold, stall.hold].into_iter().flatten().min();
                *known = Stall { hold, acceptor, ..stall };
                // Clients that have gone meanwhile had waited all the same.
                if named(&known_before) > named(&known.clients) {
                    known.clients = known_before;
                }
            }
            None => {
                if self.stalls.len() >= MOST_STALLS {
                    let over = |known: &Stall| known.change == StallChange::Closed;
                    let oldest = self.stalls.iter().position(over).unwrap_or(0);
                    self.stalls.remove(oldest);
                    self.stalls_left_out += 1;
                }
                self.stalls.push(stall);
            }
        }
    }

    /// Whether a stall is to be seen.
    pub fn wants_stall(&self, stall: &Stall) -> bool {
        let by_process = !self.selection.processes || stall.selected;
        by_process && !self.selection.only_errnos && self.selection.wants(&stall.local)
    }

    /// Whether what was found out is to be seen: if its incident is.
    pub fn wants_diagnosis(&self, diagnosis: &Diagnosis) -> bool {
        match &diagnosis.of {
            Incident::ConnectFailure(class) => self.selection.wants_path(&class.target),
            Incident::AcceptError { listener, .. } => {
                let local = self.listener_address(*listener);
                self.selection.wants_path(local.unwrap_or(&Endpoint::default()))
            }
        }
    }

    /// Whether sinks are to see this event: what the kernel's filters could not decide.
    pub fn wants(&self, event: &Event) -> bool {
        match &event.body {
            Body::ConnectFailure { target, .. } | Body::ConnectBlocked { target, .. } => {
                self.selection.wants_path(target)
            }
            Body::Listen { listener, .. } => self.selection.wants_path(&listener.local),
            Body::Accept { listener, .. }
            | Body::AcceptError { listener, .. }
            | Body::BacklogDrop { listener, .. } => {
                let local = listener.and_then(|inode| self.listener_address(inode));
                self.selection.wants_path(local.unwrap_or(&Endpoint::default()))
            }
        }
    }

    /// The address of a listener: its own where that is known, else that of a connection.
    pub fn listener_address(&self, inode: u64) -> Option<&Endpoint> {
        let counted = self.counters.listeners.get(&inode).or_else(|| self.named.get(&inode));
        let seen = self.watched.get(&inode).map(|watched| &watched.last.local);
        match counted {
            Some(listener) if !listener.local_is_inferred => Some(&listener.local),
            inferred => seen.or_else(|| inferred.map(|listener| &listener.local)),
        }
    }
}

/// What held an acceptor up, one after the other; the first few, if it changes often.
fn in_turn(before: Option<String>, now: Option<String>) -> Option<String> {
    const TOLD: usize = 3;
    let (before, now) = match (before, now) {
        (Some(before), Some(now)) => (before, now),
        (before, now) => return before.or(now),
    };
    let last = before.rsplit(", then ").next();
    if last == Some(now.as_str()) || before.split(", then ").count() >= TOLD {
        return Some(before);
    }
    Some(format!("{before}, then {now}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_held_an_acceptor_up_is_told_in_turn_each_once_and_not_for_ever() {
        let turn = |before: &str, now: &str| {
            let own = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            in_turn(own(before), own(now)).unwrap_or_default()
        };
        assert_eq!(turn("", "on CPU"), "on CPU");
        assert_eq!(turn("stopped", ""), "stopped");
        assert_eq!(turn("stopped", "on CPU"), "stopped, then on CPU");
        assert_eq!(turn("stopped, then on CPU", "on CPU"), "stopped, then on CPU");
        assert_eq!(turn("a, then b, then c", "d"), "a, then b, then c");
    }
}
