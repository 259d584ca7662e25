//! Looking at listeners while tracing: which there are, how full their queues are, and what waits there too long.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use socktrace_common::{Signal, Tier};

use super::{
    Live, LiveError,
    pace::{IDLE_STRETCH, Took},
};
use crate::{
    event::{Address, Record, Sighting, Sightings, Stall},
    host::{Effort, sock_diag::Subject},
    listener::Look,
    stall::{Scout, Sight},
    transport::{
        monotonic_now_ns, read_accepted, read_listener, read_progress, read_queued, read_sleepers,
    },
};

/// Where nothing is seen to wait, what hooks know of is read at every so manieth look only: of
/// namespaces that cannot be looked into, nothing else tells.
const IDLE_LOOKS: u32 = 4;

impl Live {
    pub(super) fn look(&mut self, into: &mut Vec<Record>) -> Result<(), LiveError> {
        let begin = Instant::now();
        if !self.pace.is_time_to_look(begin) {
            if !self.pace.is_time_to_ask(begin) || !self.is_due(begin)? {
                return Ok(());
            }
            // What is due may be what hooks alone know of.
            self.idle_looks = IDLE_LOOKS;
        }
        let began_ns = monotonic_now_ns();
        self.looked_ns = began_ns;
        let effort = Effort::of_thread();
        let accepted_before = read_accepted(&self.ebpf)?;
        let look = self.lookout.look();
        if let Some(namespaces) = self.lookout.enumerated() {
            self.at_start.keep_only(namespaces);
        }
        if let Some(left) = self.lookout.left() {
            self.worker.keep_only(left);
        }
        let idles = self.idles(&look, &accepted_before);
        if shows_all_it_can(&look, &self.seen) {
            self.idle_looks += if idles { IDLE_STRETCH } else { 1 };
            let stalls = self.scout_with(&look, &accepted_before, began_ns, Scout::look)?;
            into.extend(stalls.into_iter().map(|stall| Record::Stall(Box::new(stall))));
            self.tell_sightings(look.sightings, into);
        }
        let took = Took { begin, effort: effort.so_far(), passed: begin.elapsed() };
        self.pace.looked(took, idles);
        Ok(())
    }

    /// Whether a connection has come to stall its listener at a moment that hooks know, while looks take so much that they
    /// are rare.
    fn is_due(&mut self, begin: Instant) -> Result<bool, LiveError> {
        let effort = Effort::of_thread();
        let (queued, sleepers) = (read_queued(&self.ebpf)?, read_sleepers(&self.ebpf)?);
        let is_due = self.scout.has_due(&queued, &sleepers, self.looked_ns, monotonic_now_ns());
        self.pace.asked(Took { begin, effort: effort.so_far(), passed: begin.elapsed() });
        Ok(is_due)
    }

    /// Whether nothing waits, and nothing was accepted since the look before. What is told as an event brings
    /// the next look forward by itself.
    fn idles(&mut self, seen: &Look, accepted: &HashMap<u64, u64>) -> bool {
        let accepted = Some(accepted.values().sum());
        let before = std::mem::replace(&mut self.accepted, accepted);
        before == accepted && !waits(seen) && !self.scout.is_watching()
    }

    /// Looks at everything that waits.
    fn scout_with(
        &mut self,
        seen: &Look,
        accepted_before: &HashMap<u64, u64>,
        began_ns: u64,
        look: impl Fn(&mut Scout, &Sight<'_>) -> Vec<Stall>,
    ) -> Result<Vec<Stall>, LiveError> {
        let sightings = &seen.sightings;
        let (mut queued, mut sleepers) = (Vec::new(), Vec::new());
        if waits(seen) || self.scout.is_watching() || self.idle_looks >= IDLE_LOOKS {
            self.idle_looks = 0;
            queued = read_queued(&self.ebpf)?;
            sleepers = read_sleepers(&self.ebpf)?;
        }
        let progress = |inode| read_progress(&self.ebpf, inode).unwrap_or_default();
        let named = |inode| read_listener(&self.ebpf, inode).ok().flatten();
        // Only the fentry tier sees every accept: below it, what was queued and accepted elsewhere may
        // still be thought to wait.
        let sees_all = self.verdicts.iter().any(|verdict| {
            let tier = verdict.choice.as_ref().map(|choice| choice.tier);
            verdict.signal == Signal::Accept && tier == Some(Tier::Fentry)
        });
        let looked: HashSet<u32> = seen.namespaces.iter().filter_map(|it| it.inode).collect();
        let unlooked = |netns: u32| sees_all && !looked.contains(&netns);
        let sight = Sight {
            began_ns,
            now_ns: monotonic_now_ns(),
            sightings,
            accepted_before,
            unlooked: &unlooked,
            queued: &queued,
            sleepers: &sleepers,
            progress: &progress,
            named: &named,
        };
        Ok(look(&mut self.scout, &sight))
    }

    /// The stalls that outlive the session, as they are now.
    pub(super) fn last_look(&mut self, into: &mut Vec<Record>) -> Result<(), LiveError> {
        let began_ns = monotonic_now_ns();
        let accepted_before = read_accepted(&self.ebpf)?;
        let look = self.lookout.look();
        if shows_all_it_can(&look, &self.seen) {
            self.idle_looks += 1;
            let stalls = self.scout_with(&look, &accepted_before, began_ns, Scout::last_look)?;
            into.extend(stalls.into_iter().map(|stall| Record::Stall(Box::new(stall))));
            self.tell_sightings(look.sightings, into);
        }
        Ok(())
    }

    /// What is new of listeners.
    fn tell_sightings(&mut self, seen: HashMap<u64, Sighting>, into: &mut Vec<Record>) {
        let baseline = !std::mem::replace(&mut self.has_looked, true);
        let new = Sightings::between(&self.seen, &seen, monotonic_now_ns());
        let new = Sightings { baseline, ..new };
        let grown = new.changed.iter().filter(|(inode, sighting)| {
            let before = self.seen.get(inode).map_or(Some(0), |before| before.drops);
            !baseline && sighting.drops > before
        });
        self.dropping.extend(grown.map(|(inode, _)| *inode));
        if baseline || !new.changed.is_empty() || !new.gone.is_empty() {
            into.push(Record::Sightings(new));
        }
        self.seen = seen;
    }
}

/// Whether what this look lacks was never there to be seen. Of what an earlier look had, the queues would be unknown, and
/// drops without a listener.
fn shows_all_it_can(look: &Look, before: &HashMap<u64, Sighting>) -> bool {
    look.unseen.not_listed.iter().all(|(netns, error)| {
        let Some(subject) = error.refused_for_good() else { return false };
        let is_of_it = |it: &Sighting| {
            let is_tcp = matches!(it.local.address, Some(Address::Inet(_)));
            it.netns == *netns && is_tcp == (subject == Subject::Tcp)
        };
        !before.values().any(is_of_it)
    })
}

/// Whether any listener has a queue, or may have one.
fn waits(seen: &Look) -> bool {
    seen.sightings.values().any(|sighting| sighting.queue != Some(0))
}
