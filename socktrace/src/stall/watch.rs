//! When does a listener stall? Pure: looks come in with their time, changes come out.
//!
//! A stall is a connection that has waited for a threshold and waits still: in the accept queue, or, as the queue is full,
//! asleep in `connect()`. Its age is known where the kernel side saw it come. For others there is a lower bound: an accept
//! queue is first in, first out, so if fewer were accepted since an earlier look than lay in the queue then,
//! one of those lies there still.

use std::collections::{HashMap, VecDeque};

/// Earlier looks that are kept of one listener; beyond it, every second one is forgotten.
const KEPT: usize = 64;

/// What one look saw of one listener with a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    /// Connections in its queue.
    pub queue: u32,
    /// Connections accepted from it so far, by the kernel side's count: read before the queue.
    pub accepted_before: u64,
    /// The same, read after the queue.
    pub accepted: u64,
    /// When the oldest was queued that the kernel side knows of, monotonic nanoseconds.
    pub oldest_known_ns: Option<u64>,
    /// How many in the queue the kernel side knows of.
    pub known: u32,
    /// The clients that found no room in it.
    pub asleep: Asleep,
}

/// Clients that sleep in `connect()` because the queue is, or was, full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asleep {
    /// Since when the first of them, monotonic nanoseconds.
    pub first_ns: Option<u64>,
    /// Since when the first of those for whom there is no room now: one for whom there is was woken, and comes.
    pub without_room_ns: Option<u64>,
}

/// A listener whose oldest connection has waited for the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalling {
    /// Since when its oldest connection waits, or was seen to, monotonic nanoseconds.
    pub since_ns: u64,
    /// The longest that any of its connections was seen to wait.
    pub longest_ns: u64,
    /// Whether it may be older.
    pub is_lower_bound: bool,
    /// Connections in its queue.
    pub pending: u32,
    /// The most of them in this stall.
    pub pending_peak: u32,
}

/// What became of a listener since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stalls now.
    Opened,
    /// Its oldest connection is twice as old as when that was last told.
    Grown,
    /// The connections that stalled were accepted, or are gone.
    Closed,
}

/// An earlier look at a listener.
#[derive(Clone, Copy, Debug)]
struct Earlier {
    time_ns: u64,
    queue: u32,
    accepted: u64,
}

#[derive(Debug, Default)]
struct Track {
    /// Looks of which connections may still lie in the queue, the oldest first.
    earlier: VecDeque<Earlier>,
    stalling: Option<Stalling>,
    /// Its oldest connection has waited for half the threshold.
    suspected: bool,
    /// Age when the stall was last told of.
    told_ns: u64,
    /// Whether the look before found a client asleep for whom there was no room.
    lacked_room: bool,
}

/// All listeners with a queue.
#[derive(Debug)]
pub struct Watch {
    threshold_ns: u64,
    tracks: HashMap<u64, Track>,
}

impl Watch {
    /// Nothing was seen yet.
    pub fn new(threshold_ns: u64) -> Self {
        Self { threshold_ns: threshold_ns.max(1), tracks: HashMap::new() }
    }

    /// Takes in one look at all listeners that have a queue, or clients that sleep, by inode; listeners that are
    /// missing have none. What changed, with the stall as it is, or was.
    pub fn look(
        &mut self,
        now_ns: u64,
        glances: &HashMap<u64, Glance>,
    ) -> Vec<(u64, Change, Stalling)> {
        let threshold_ns = self.threshold_ns;
        for (inode, glance) in glances {
            self.tracks.entry(*inode).or_default().take(now_ns, *glance);
        }
        let mut changes = Vec::new();
        self.tracks.retain(|inode, track| {
            let glance = glances.get(inode).copied().unwrap_or_default();
            if let Some((change, stalling)) = track.judge(now_ns, glance, threshold_ns) {
                changes.push((*inode, change, stalling));
            }
            glance.queue != 0 || glance.asleep.first_ns.is_some()
        });
        changes.sort_by_key(|(inode, ..)| *inode);
        changes
    }

    /// Whether a connection that was queued at `since_ns` makes its listener suspected, or stall, after `looked_ns` and until
    /// `now_ns`, and is the first that does, as far as its `listener` is known.
    pub fn is_due(
        &self,
        listener: Option<u64>,
        since_ns: u64,
        looked_ns: u64,
        now_ns: u64,
    ) -> bool {
        let track = listener.and_then(|inode| self.tracks.get(&inode));
        let is_suspected = track.is_some_and(|track| track.suspected);
        let stalls = track.is_some_and(|track| track.stalling.is_some());
        let reached = |age_ns| {
            let due_ns = since_ns.saturating_add(age_ns);
            looked_ns < due_ns && due_ns <= now_ns
        };
        !stalls && (reached(self.threshold_ns) || !is_suspected && reached(self.threshold_ns / 2))
    }

    /// Whether any listener had a queue at the last look.
    pub fn is_watching(&self) -> bool {
        !self.tracks.is_empty()
    }

    /// The listeners whose oldest connection has waited for half the threshold, as of the last look.
    pub fn suspects(&self) -> impl Iterator<Item = u64> {
        self.tracks.iter().filter(|(_, track)| track.suspected).map(|(inode, _)| *inode)
    }

    /// The listeners that stall, as of the last look.
    pub fn stalling(&self) -> impl Iterator<Item = (u64, Stalling)> {
        self.tracks.iter().filter_map(|(inode, track)| Some((*inode, track.stalling?)))
    }
}

impl Track {
    fn take(&mut self, now_ns: u64, glance: Glance) {
        let Glance { queue, accepted_before, accepted, .. } = glance;
        // Whatever lay there before is gone.
        if queue == 0 {
            return self.earlier.clear();
        }
        // A count that went back is another socket's, or begins anew: nothing is known of before.
        if self.earlier.back().is_some_and(|last| last.accepted > accepted) {
            self.earlier.clear();
        }
        while let Some(first) = self.earlier.front()
            && accepted - first.accepted >= u64::from(first.queue)
        {
            self.earlier.pop_front();
        }
        // What was accepted between the two readings may have been of this queue, or after it: taken
        // for the latter, no connection is thought to wait that does not.
        self.earlier.push_back(Earlier { time_ns: now_ns, queue, accepted: accepted_before });
        if self.earlier.len() > KEPT {
            let mut position = 0;
            self.earlier.retain(|_| {
                position += 1;
                position % 2 == 1
            });
        }
    }

    /// Since when the oldest connection waits, and whether it may be longer.
    fn oldest(&self, glance: Glance) -> Option<(u64, bool)> {
        let bound = self.earlier.front()?.time_ns;
        let (queued_ns, is_lower_bound) = match glance.oldest_known_ns {
            Some(known) if glance.known >= glance.queue => (known, false),
            Some(known) => (known.min(bound), true),
            None => (bound, true),
        };
        Some((queued_ns, is_lower_bound))
    }

    /// Since when the first client sleeps for want of room. Between an accept and the client that it wakes there is room,
    /// and the client is believed for one look more; where there has been for longer, it does not sleep for that.
    fn asleep(&self, Asleep { first_ns, without_room_ns }: Asleep) -> Option<u64> {
        let woken = first_ns.filter(|_| self.lacked_room);
        woken.or(without_room_ns)
    }

    fn judge(
        &mut self,
        now_ns: u64,
        glance: Glance,
        threshold_ns: u64,
    ) -> Option<(Change, Stalling)> {
        let queued = if glance.queue == 0 { None } else { self.oldest(glance) };
        let oldest = match (queued, self.asleep(glance.asleep)) {
            (Some((queued_ns, is_lower_bound)), asleep_ns) => {
                Some((queued_ns.min(asleep_ns.unwrap_or(queued_ns)), is_lower_bound))
            }
            (None, asleep_ns) => asleep_ns.map(|since_ns| (since_ns, false)),
        };
        self.lacked_room = glance.asleep.without_room_ns.is_some();
        let age_of = |(since_ns, _): (u64, bool)| now_ns.saturating_sub(since_ns);
        self.suspected = oldest.is_some_and(|it| age_of(it) >= threshold_ns / 2);
        let oldest =
            oldest.filter(|(since_ns, _)| now_ns.saturating_sub(*since_ns) >= threshold_ns);
        let Some((since_ns, is_lower_bound)) = oldest else {
            return Some((Change::Closed, self.stalling.take()?));
        };
        let peak = self.stalling.map_or(0, |before| before.pending_peak);
        let longest_ns = self.stalling.map_or(0, |before| before.longest_ns);
        let stalling = Stalling {
            since_ns,
            longest_ns: longest_ns.max(now_ns.saturating_sub(since_ns)),
            is_lower_bound,
            pending: glance.queue,
            pending_peak: glance.queue.max(peak),
        };
        let age_ns = now_ns.saturating_sub(since_ns);
        let change = match self.stalling.replace(stalling) {
            None => Change::Opened,
            Some(_) if age_ns >= self.told_ns.saturating_mul(2) => Change::Grown,
            Some(_) => return None,
        };
        self.told_ns = age_ns;
        Some((change, stalling))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn unknown(queue: u32, accepted: u64) -> Glance {
        Glance { queue, accepted_before: accepted, accepted, ..Glance::default() }
    }

    fn look(watch: &mut Watch, second: u64, glance: Glance) -> Vec<(Change, Stalling)> {
        let changes = watch.look(second * SECOND, &HashMap::from([(7, glance)]));
        changes.into_iter().map(|(_, change, stalling)| (change, stalling)).collect()
    }

    #[test]
    fn a_known_connection_stalls_when_it_is_old_enough_with_its_exact_age() {
        let mut watch = Watch::new(SECOND);
        let known =
            Glance { queue: 1, oldest_known_ns: Some(9 * SECOND), known: 1, ..Glance::default() };
        assert!(look(&mut watch, 9, known).is_empty());
        let changes = look(&mut watch, 10, known);
        let (change, stalling) = changes[0];
        assert_eq!((change, changes.len()), (Change::Opened, 1));
        assert_eq!((stalling.since_ns, stalling.is_lower_bound), (9 * SECOND, false));
    }

    #[test]
    fn a_connection_is_due_once_it_has_waited_half_the_threshold_and_once_all_of_it() {
        let watch = Watch::new(1000);
        let due = |looked_ns, now_ns| watch.is_due(None, 5000, looked_ns, now_ns);
        assert!(!due(4900, 5499), "it is young");
        assert!(due(4900, 5500), "half");
        assert!(!due(5500, 5999), "looked at since");
        assert!(due(5500, 6000), "it stalls");
        assert!(!due(6000, 9000), "that was seen");
        assert!(!watch.is_due(None, u64::MAX, 0, u64::MAX - 1), "not yet");
    }

    #[test]
    fn connections_behind_the_one_that_stalls_are_not_due() {
        let mut watch = Watch::new(1000);
        let queue = Glance { queue: 2, oldest_known_ns: Some(5000), known: 2, ..Glance::default() };
        let due = |watch: &Watch, now_ns| {
            [Some(7), Some(8), None].map(|it| watch.is_due(it, 5400, now_ns - 200, now_ns))
        };
        watch.look(5600, &HashMap::from([(7, queue)]));
        assert_eq!(due(&watch, 6000), [false, true, true], "7 is suspected already");
        assert_eq!(due(&watch, 6500), [true; 3]);
        watch.look(6100, &HashMap::from([(7, queue)]));
        assert_eq!(due(&watch, 6500), [false, true, true], "7 stalls");
    }

    #[test]
    fn an_unknown_connection_is_at_least_as_old_as_its_first_sight() {
        let mut watch = Watch::new(SECOND);
        assert!(look(&mut watch, 5, unknown(2, 10)).is_empty());
        let changes = look(&mut watch, 6, unknown(2, 11));
        let (change, stalling) = changes[0];
        assert_eq!((change, changes.len()), (Change::Opened, 1));
        assert_eq!((stalling.since_ns, stalling.is_lower_bound), (5 * SECOND, true));
    }

    #[test]
    fn a_busy_listener_whose_queue_is_never_empty_does_not_stall() {
        let mut watch = Watch::new(SECOND);
        for second in 1..200 {
            assert!(look(&mut watch, second, unknown(3, second * 5)).is_empty(), "{second}");
        }
    }

    #[test]
    fn a_client_that_sleeps_too_long_is_a_stall_of_a_listener_whose_queue_moves_on() {
        let mut watch = Watch::new(2 * SECOND);
        let mut look = |second: u64, queue: u32, asleep: Option<u64>| {
            let queued = (queue != 0).then_some(second * SECOND);
            let first_ns = asleep.map(|it| it * SECOND);
            let without_room_ns = first_ns.filter(|_| queue == 3);
            let asleep = Asleep { first_ns, without_room_ns };
            let moved = unknown(queue, second);
            let moved = Glance { oldest_known_ns: queued, known: queue, asleep, ..moved };
            look(&mut watch, second, moved).pop()
        };
        assert_eq!(look(11, 3, Some(10)), None);
        let (change, stalling) = look(12, 3, Some(10)).expect("it has slept for two seconds");
        assert_eq!((change, stalling.since_ns), (Change::Opened, 10 * SECOND));
        assert_eq!((stalling.is_lower_bound, stalling.pending), (false, 3));
        assert_eq!(look(13, 0, Some(10)), None, "there is room for a moment");
        let (change, _) = look(14, 3, Some(10)).expect("it is twice as old");
        assert_eq!(change, Change::Grown);
        let (change, stalling) = look(15, 3, Some(14)).expect("it was let in");
        assert_eq!((change, stalling.since_ns), (Change::Closed, 10 * SECOND));
        assert_eq!(stalling.longest_ns, 4 * SECOND);
        assert_eq!(look(16, 3, None), None);
    }

    #[test]
    fn a_client_is_not_believed_to_sleep_where_there_has_been_room() {
        let mut watch = Watch::new(SECOND);
        let asleep = Asleep { first_ns: Some(SECOND), without_room_ns: None };
        let asleep = Glance { asleep, ..unknown(0, 0) };
        assert!((5..20).all(|second| look(&mut watch, second, asleep).is_empty()));
    }

    #[test]
    fn a_slow_listener_stalls_once_the_queue_of_an_earlier_look_outlives_the_threshold() {
        let mut watch = Watch::new(3 * SECOND);
        // One accept per second, eight in the queue.
        let opened: Vec<u64> = (0..10)
            .filter(|second| !look(&mut watch, *second, unknown(8, *second)).is_empty())
            .collect();
        assert_eq!(opened[0], 3);
    }

    #[test]
    fn a_stall_is_told_again_when_it_is_twice_as_old_and_when_it_ends() {
        let mut watch = Watch::new(SECOND);
        let told: Vec<(u64, Change)> = (0..9)
            .flat_map(|second| {
                let changes = look(&mut watch, second, unknown(1, 0));
                changes.into_iter().map(move |(change, _)| (second, change))
            })
            .collect();
        assert_eq!(
            told,
            [(1, Change::Opened), (2, Change::Grown), (4, Change::Grown), (8, Change::Grown)]
        );
        assert_eq!(watch.stalling().count(), 1);
        let ended = look(&mut watch, 9, unknown(0, 1));
        assert!(matches!(ended[..], [(Change::Closed, _)]), "{ended:?}");
        assert_eq!(watch.stalling().count(), 0);
    }

    #[test]
    fn the_peak_of_a_stall_outlives_its_queue() {
        let mut watch = Watch::new(SECOND);
        look(&mut watch, 0, unknown(3, 0));
        look(&mut watch, 1, unknown(9, 0));
        look(&mut watch, 2, unknown(4, 0));
        let (change, stalling) = look(&mut watch, 3, unknown(0, 9))[0];
        assert_eq!(change, Change::Closed);
        assert_eq!((stalling.pending, stalling.pending_peak), (4, 9));
    }

    #[test]
    fn a_long_stall_keeps_few_looks_and_its_beginning() {
        let mut watch = Watch::new(SECOND);
        for second in 0..10_000 {
            look(&mut watch, second, unknown(1, 0));
        }
        let track = &watch.tracks[&7];
        assert!(track.earlier.len() <= KEPT);
        assert_eq!(track.stalling.map(|stalling| stalling.since_ns), Some(0));
    }

    #[test]
    fn a_count_that_goes_back_begins_anew() {
        let mut watch = Watch::new(SECOND);
        look(&mut watch, 0, unknown(1, 5));
        assert!(look(&mut watch, 1, unknown(1, 0)).is_empty());
    }
}
