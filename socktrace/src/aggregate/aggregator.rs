//! Takes records in and keeps the latest of each; `report.rs` makes a [`Snapshot`] of it.
//!
//! [`Snapshot`]: super::Snapshot

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::Hash,
};

use socktrace_common::{AcceptKey, Signal, TaskKey};

use super::{
    findings::{Diagnoses, with_stall},
    selection::Selection,
    snapshot::Session,
    timeline::{Recorder, Timeline},
};
use crate::event::{
    Body, Counters, Damage, Diagnosis, Endpoint, Listener, Misses, NamespaceCounters, Owner,
    ReaderLoss, Record, Runs, Sighting, Sightings, Stall, StallChange, Task, Unread, WaitTotals,
    Waiting,
};

/// Stalls that are kept: of more, the oldest that are over are counted only, and what comes while all go on.
const MOST_STALLS: usize = 1000;

/// Names of one kind that are kept: four times what a map of the kernel side has.
const MOST_ROWS: usize = 65536;
/// Totals of one kind that are kept: as many as the largest map of the kernel side has.
const MOST_TOTALS: usize = 16384;
/// The same of failed connects, and of those that were taken back, which have a map of their own there.
const MOST_FAILURES: usize = 2 * MOST_TOTALS;
/// The same of totals with histograms: twice as many as the kernel side has.
const MOST_WAITS: usize = 4096;
/// Listeners that are kept at most, and holders of all of them.
pub(super) const MOST_AT_ONCE: usize = 1 << 20;
/// Listeners that are kept while others are forgotten: those that are gone, and of which no total tells.
const MOST_WATCHED: usize = 65536;

/// A listener as `sock_diag` showed it over time.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    pub(super) last: Sighting,
    pub(super) peak: Option<u32>,
    pub(super) drops_at_start: u32,
    /// It is there no more.
    pub(super) gone: bool,
}

/// The state behind every report.
pub struct Aggregator {
    pub(super) session: Session,
    pub(super) selections: Vec<Selection>,
    pub(super) counters: Counters,
    /// Who accepted, by the listener's inode.
    pub(super) acceptors: HashMap<u64, BTreeSet<TaskKey>>,
    /// Real uids by pid; `None` where processes with that pid had several.
    pub(super) uids: HashMap<u32, Option<u32>>,
    pub(super) watched: HashMap<u64, Watched>,
    /// Beyond so many, those that are gone are forgotten.
    forget_at: usize,
    pub(super) named: HashMap<u64, Listener>,
    pub(super) owners: HashMap<u64, Vec<Owner>>,
    /// How many there are in `owners`.
    holders: usize,
    pub(super) unread: Option<Unread>,
    pub(super) cgroups: HashMap<u64, Vec<u8>>,
    pub(super) namespaces: Vec<NamespaceCounters>,
    pub(super) loss: ReaderLoss,
    pub(super) misses: Misses,
    pub(super) runs: Option<Runs>,
    pub(super) damage: Option<Damage>,
    /// Rows that were too many to keep.
    pub(super) left_out: u64,
    /// Every stall that was told, as it was last.
    pub(super) stalls: Vec<Stall>,
    pub(super) stalls_left_out: u64,
    /// Stalls that go on and are among those left out, by listener.
    stalls_unkept: HashSet<u64>,
    pub(super) diagnoses: Diagnoses,
    pub(super) diagnoses_left_out: u64,
    pub(super) delivered: [u64; Signal::COUNT],
    pub(super) course: Recorder,
}

impl Aggregator {
    /// Starts empty.
    pub fn new(session: Session, selection: Selection) -> Self {
        Self {
            course: Recorder::new(session.started_ns),
            session,
            selections: vec![selection],
            counters: Counters::default(),
            acceptors: HashMap::new(),
            uids: HashMap::new(),
            watched: HashMap::new(),
            forget_at: MOST_WATCHED,
            named: HashMap::new(),
            owners: HashMap::new(),
            holders: 0,
            unread: None,
            cgroups: HashMap::new(),
            namespaces: Vec::new(),
            loss: ReaderLoss::default(),
            misses: Misses::default(),
            runs: None,
            damage: None,
            left_out: 0,
            stalls: Vec::new(),
            stalls_left_out: 0,
            stalls_unkept: HashSet::new(),
            diagnoses: Diagnoses::default(),
            diagnoses_left_out: 0,
            delivered: [0; Signal::COUNT],
        }
    }

    /// Shows only what this selection wants, too.
    #[must_use]
    pub fn narrowed(mut self, selection: Selection) -> Self {
        self.selections.push(selection);
        self
    }

    /// Takes one record in.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Event(event) => {
                self.delivered[event.body.signal() as usize] += 1;
                self.diagnoses.note(&event);
                if let Body::Listen { inode, listener } = event.body {
                    self.left_out += extend(&mut self.named, [(inode, listener)]);
                }
            }
            Record::Listener(inode, listener) => {
                self.left_out += extend(&mut self.named, [(inode, listener)]);
            }
            Record::Counters(counters) => self.apply_counters(*counters),
            Record::Sightings(sightings) => self.apply_sightings(sightings),
            Record::Owners(owners) => self.apply_owners(owners),
            Record::Unread(unread) => self.unread = Some(unread),
            Record::Cgroups(cgroups) => self.left_out += extend(&mut self.cgroups, cgroups),
            Record::Namespaces(namespaces) => self.namespaces = namespaces,
            Record::Loss(loss) => self.loss = loss,
            Record::Misses(misses) => self.misses = misses,
            Record::Runs(runs) => self.runs = Some(runs),
            Record::Carried(carried) => self.resume(*carried),
            Record::Damage(damage) => self.damage = Some(damage),
            Record::Stall(stall) => self.apply_stall(*stall),
            Record::Diagnosis(diagnosis) => {
                self.diagnoses_left_out += u64::from(!self.diagnoses.take(*diagnosis));
            }
        }
    }

    /// What the first look finds was there before: its drops are not this session's.
    fn apply_sightings(&mut self, sightings: Sightings) {
        self.take_base();
        for inode in sightings.gone {
            self.course.saw_queue(inode, 0);
            if let Some(watched) = self.watched.get_mut(&inode) {
                watched.gone = true;
            }
        }
        for (inode, sighting) in sightings.changed {
            if self.watched.len() >= MOST_AT_ONCE && !self.watched.contains_key(&inode) {
                self.left_out += 1;
                continue;
            }
            let watched = self.watched.entry(inode).or_default();
            if sightings.baseline {
                watched.drops_at_start = sighting.drops.unwrap_or(0);
            }
            watched.peak = watched.peak.max(sighting.queue);
            watched.gone = false;
            self.course.saw_queue(inode, sighting.queue.unwrap_or(0));
            watched.last = sighting;
        }
        if self.watched.len() > self.forget_at {
            self.forget_gone();
            // Not again before there are many more: looking at all of them takes long.
            self.forget_at = MOST_WATCHED.max(self.watched.len() * 2);
        }
    }

    /// Listeners that are there no more, and of which no total tells.
    fn forget_gone(&mut self) {
        let counted: HashSet<u64> = self.counters.accepts.keys().map(|key| key.listener).collect();
        self.watched.retain(|inode, watched| {
            let dropped = watched.last.drops.unwrap_or(0) != watched.drops_at_start;
            !watched.gone || dropped || counted.contains(inode)
        });
    }

    /// Totals only grow, and none goes away: what is not named is as it was.
    fn apply_counters(&mut self, new: Counters) {
        let Counters {
            time_ns,
            accepts,
            accept_errors,
            connect_failures,
            connect_blocked,
            drops,
            tasks,
            listeners,
            stages,
        } = new;
        self.take_base();
        self.index(&accepts, &tasks);
        let rows = accepts.len()
            + accept_errors.len()
            + connect_failures.len()
            + connect_blocked.len()
            + drops.len();
        let known = &mut self.counters;
        known.time_ns = time_ns;
        known.stages = stages;
        self.left_out += extend_up_to(MOST_WAITS, &mut known.accepts, accepts)
            + extend_up_to(MOST_TOTALS, &mut known.accept_errors, accept_errors)
            + extend_up_to(MOST_FAILURES, &mut known.connect_failures, connect_failures)
            + extend_up_to(MOST_WAITS, &mut known.connect_blocked, connect_blocked)
            + extend_up_to(MOST_TOTALS, &mut known.drops, drops)
            + extend_up_to(MOST_TOTALS, &mut known.tasks, tasks)
            + extend_up_to(MOST_TOTALS, &mut known.listeners, listeners);
        if self.course.is_due(time_ns, rows) {
            let reading = self.reading();
            self.course.read(reading);
        }
    }

    /// Finds later what would take a look at all rows.
    fn index(&mut self, accepts: &HashMap<AcceptKey, WaitTotals>, tasks: &HashMap<TaskKey, Task>) {
        let known = &self.counters;
        let has_room = |length: usize, most: usize, is_known: bool| length < most || is_known;
        for key in accepts.keys() {
            if has_room(known.accepts.len(), MOST_WAITS, known.accepts.contains_key(key)) {
                self.acceptors.entry(key.listener).or_default().insert(key.task);
            }
        }
        for (key, task) in tasks {
            if has_room(known.tasks.len(), MOST_TOTALS, known.tasks.contains_key(key)) {
                let uid = self.uids.entry(key.tgid).or_insert(Some(task.uid));
                *uid = uid.filter(|uid| *uid == task.uid);
            }
        }
    }

    /// Where the course of this part of a session begins: with everything that came before it.
    fn take_base(&mut self) {
        if self.course.takes_base() {
            let base = self.reading();
            self.course.begin_at(base);
        }
    }

    /// How it went until now.
    pub(super) fn timeline(&self) -> Timeline {
        let mut course = self.course.clone();
        if course.is_behind() {
            course.read(self.reading());
        }
        course.into_timeline()
    }

    /// The totals as they are now.
    pub fn totals(&self) -> &Counters {
        &self.counters
    }

    /// A stall is told of from its opening to its end; what it once knew, its end still knows.
    fn apply_stall(&mut self, mut stall: Stall) {
        if !self.wants_stall(&stall) {
            return;
        }
        stall.bound_owners();
        let open = |known: &&mut Stall| {
            known.listener == stall.listener && known.change != StallChange::Closed
        };
        match self.stalls.iter_mut().rev().find(open) {
            Some(known) if stall.change == StallChange::Closed => {
                known.change = StallChange::Closed;
                known.time_ns = stall.time_ns;
                known.longest_ns = known.longest_ns.max(stall.longest_ns);
                known.pending = 0;
                known.pending_peak = stall.pending_peak;
                known.accepted_ns = stall.accepted_ns;
            }
            Some(known) => {
                let acceptor = in_turn(known.acceptor.take(), stall.acceptor.clone());
                let known_before = std::mem::take(&mut known.clients);
                let named = |clients: &[Waiting]| -> u64 {
                    clients.iter().filter(|it| it.pid.is_some()).map(|it| u64::from(it.count)).sum()
                };
                // From outside before anything of its own.
                let hold = [known.hold, stall.hold].into_iter().flatten().min();
                let passed = stall.hold.is_some() && stall.hold != hold;
                let seen_in_part = known.seen_in_part || stall.seen_in_part || passed;
                let longest_ns = known.longest_ns.max(stall.longest_ns);
                *known = Stall { longest_ns, seen_in_part, hold, acceptor, ..stall };
                // Clients that have gone meanwhile had waited all the same.
                if named(&known_before) > named(&known.clients) {
                    known.clients = known_before;
                }
            }
            None => self.keep_stall(stall),
        }
    }

    /// Takes in who holds listeners: of each what is told last, and of all as many as there is room for.
    fn apply_owners(&mut self, owners: HashMap<u64, Vec<Owner>>) {
        for (inode, mut holders) in owners {
            let before = self.owners.get(&inode).map_or(0, Vec::len);
            let others = self.holders.saturating_sub(before);
            let room = MOST_AT_ONCE.saturating_sub(others);
            self.left_out += holders.len().saturating_sub(room) as u64;
            holders.truncate(room);
            let kept = holders.len();
            let too_many = extend(&mut self.owners, [(inode, holders)]);
            self.left_out += too_many;
            if too_many == 0 {
                self.holders = others + kept;
            }
        }
    }

    /// Keeps a stall that is told for the first time, or counts it where there are too many.
    fn keep_stall(&mut self, stall: Stall) {
        let is_over = stall.change == StallChange::Closed;
        if self.stalls_unkept.contains(&stall.listener) {
            if is_over {
                self.stalls_unkept.remove(&stall.listener);
            }
            return;
        }
        if self.stalls.len() < MOST_STALLS {
            return self.stalls.push(stall);
        }
        self.stalls_left_out += 1;
        let over = |known: &Stall| known.change == StallChange::Closed;
        if let Some(oldest) = self.stalls.iter().position(over) {
            self.stalls.remove(oldest);
            self.stalls.push(stall);
        } else if !is_over && self.stalls_unkept.len() < MOST_ROWS {
            self.stalls_unkept.insert(stall.listener);
        }
    }

    /// A diagnosis with what is known by now of the queue that the failure met, as a report would tell it.
    pub fn told(&self, diagnosis: &Diagnosis) -> Diagnosis {
        let Diagnosis { time_ns, listener, findings, .. } = diagnosis;
        let findings = with_stall(findings, *listener, *time_ns, &self.stalls);
        let findings = findings.unwrap_or_else(|| diagnosis.findings.clone());
        Diagnosis { findings, ..diagnosis.clone() }
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

/// Takes rows in, and new ones as long as there is room; how many were too many. The kernel's maps have less, so
/// that this is only for what was read from a file, and for sessions that last very long.
fn extend<K: Eq + Hash, V>(
    known: &mut HashMap<K, V>,
    new: impl IntoIterator<Item = (K, V)>,
) -> u64 {
    extend_up_to(MOST_ROWS, known, new)
}

fn extend_up_to<K: Eq + Hash, V>(
    most: usize,
    known: &mut HashMap<K, V>,
    new: impl IntoIterator<Item = (K, V)>,
) -> u64 {
    let mut left_out = 0;
    for (key, value) in new {
        if known.len() < most || known.contains_key(&key) {
            known.insert(key, value);
        } else {
            left_out += 1;
        }
    }
    left_out
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
    use crate::aggregate::Snapshot;
    use crate::event::{Hold, MOST_OWNERS};

    fn aggregator() -> Aggregator {
        Aggregator::new(Snapshot::of_nothing().session, Selection::default())
    }

    fn holders(pids: std::ops::Range<u32>) -> Vec<Owner> {
        pids.map(|pid| Owner { pid, comm: Vec::new(), uid: None, cgroup: None }).collect()
    }

    #[test]
    fn holders_have_a_limit_and_what_is_told_again_takes_the_place_of_what_was() {
        let mut known = aggregator();
        let most = u32::try_from(MOST_AT_ONCE).expect("a number");
        for (inode, count) in [(7, most), (7, most - 1), (8, 3), (8, 3)] {
            known.apply(Record::Owners(HashMap::from([(inode, holders(0..count))])));
        }
        assert_eq!((known.owners[&7].len(), known.owners[&8].len()), (MOST_AT_ONCE - 1, 1));
        assert_eq!((known.holders, known.left_out), (MOST_AT_ONCE, 4));
    }

    #[test]
    fn a_stall_is_kept_with_so_many_owners_at_most_and_says_that_there_are_more() {
        let most = u32::try_from(MOST_OWNERS).expect("a number");
        let kept = |count| {
            let mut known = aggregator();
            let stall = Stall { owners: holders(0..count), ..Stall::of_listener(7) };
            known.apply(Record::Stall(Box::new(stall)));
            (known.stalls[0].owners.len(), known.stalls[0].seen_in_part)
        };
        assert_eq!(kept(most), (MOST_OWNERS, false));
        assert_eq!(kept(most + 1), (MOST_OWNERS, true));
    }

    #[test]
    fn what_held_an_owner_up_for_a_while_is_told_to_be_a_part() {
        let told = |holds: &[Option<Hold>]| {
            let mut known = aggregator();
            for hold in holds {
                let stall = Stall { hold: *hold, ..Stall::of_listener(7) };
                known.apply(Record::Stall(Box::new(stall)));
            }
            (known.stalls[0].hold, known.stalls[0].seen_in_part)
        };
        let [throttled, running, asleep] = [Hold::Throttled, Hold::Running, Hold::Asleep].map(Some);
        assert_eq!(told(&[throttled, throttled, None]), (throttled, false));
        assert_eq!(
            told(&[running, throttled]),
            (throttled, false),
            "the quota is known from the second look on"
        );
        assert_eq!(told(&[throttled, asleep]), (throttled, true));
        assert_eq!(told(&[throttled, asleep, throttled]), (throttled, true));
    }

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
