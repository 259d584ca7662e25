//! Investigates on a thread of its own, so that reading events never waits for a filesystem or a dump.
//!
//! Owns what is looked into, and how often: each class of incidents once, and again when it recurs after
//! a while, as the cause may have changed.

use std::{
    collections::{HashMap, HashSet},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, channel, sync_channel},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::Investigator;
use crate::{
    event::{Actor, Body, Diagnosis, Event, FailureClass, Incident},
    host::Effort,
};

/// Incidents that may wait to be looked into.
const WAITING: usize = 256;
/// Incidents that are remembered as looked into.
const REMEMBERED: usize = 4096;
/// One that happens again after this time is looked into again.
const AGAIN: Duration = Duration::from_mins(1);
/// Those that are out of date are looked for this often, where there is no room.
const PRUNE: Duration = Duration::from_secs(1);
/// How long the last ones may take at the end of a session.
const LAST: Duration = Duration::from_secs(10);

/// An incident to be looked into.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// What happened.
    pub of: Incident,
    /// To whom.
    pub actor: Actor,
    /// When, monotonic nanoseconds.
    pub time_ns: u64,
}

impl Assignment {
    /// What is to be looked into because of an event, if anything.
    fn of(event: &Event) -> Option<Self> {
        let actor = event.actor.clone()?;
        let of = match &event.body {
            Body::ConnectFailure { .. } => Incident::ConnectFailure(FailureClass::of(event)?),
            Body::AcceptError { listener, errno } => Incident::AcceptError {
                task: actor.key,
                listener: listener.unwrap_or(0),
                errno: *errno,
            },
            _ => return None,
        };
        Some(Self { of, actor, time_ns: event.time_ns })
    }
}

/// What the thread is to do.
enum Task {
    LookInto(Box<Assignment>),
    /// Network namespaces but these are gone: what keeps them is let go.
    KeepOnly(HashSet<u32>),
}

/// How much CPU time the thread may take: five seconds at once, and a tenth of the time in the long run, so that a
/// host where many different things fail for long does not pay for their explanation.
struct Budget {
    /// What is left, nanoseconds; below zero it is owed.
    left_ns: i64,
    since: Instant,
}

impl Budget {
    const AT_ONCE_NS: i64 = 5_000_000_000;
    const SHARE: i64 = 10;

    fn new() -> Self {
        Self { left_ns: Self::AT_ONCE_NS, since: Instant::now() }
    }

    fn spend(&mut self, time: Duration) {
        self.left_ns = self.left_ns.saturating_sub(nanos(time));
    }

    fn earn(&mut self) {
        let earned = nanos(self.since.elapsed()) / Self::SHARE;
        self.left_ns = self.left_ns.saturating_add(earned).min(Self::AT_ONCE_NS);
        self.since = Instant::now();
    }

    /// Until nothing is owed, or there is reason to hurry.
    fn wait(&mut self, hurry: &AtomicBool) {
        self.earn();
        while self.left_ns < 0 && !hurry.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
            self.earn();
        }
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// The thread, and what it was given.
pub struct Worker {
    queue: Option<SyncSender<Task>>,
    answers: Receiver<Option<Diagnosis>>,
    thread: Option<JoinHandle<()>>,
    /// Set at the end of a session, when nothing is gained by going slowly.
    hurry: Arc<AtomicBool>,
    looked: HashMap<Incident, Instant>,
    pruned: Instant,
    open: usize,
    skipped: u64,
}

impl Worker {
    /// Starts the thread; its rights are those of the caller.
    pub fn start(mut investigator: Investigator) -> std::io::Result<Self> {
        let (queue, tasks) = sync_channel(WAITING);
        let (tell, answers) = channel();
        let hurry = Arc::new(AtomicBool::new(false));
        let hurried = Arc::clone(&hurry);
        let thread = thread::Builder::new().name("diagnose".into()).spawn(move || {
            let mut budget = Budget::new();
            for task in tasks {
                let Assignment { of, actor, time_ns } = match task {
                    Task::LookInto(assignment) => *assignment,
                    Task::KeepOnly(namespaces) => {
                        investigator.keep_only(&namespaces);
                        continue;
                    }
                };
                budget.wait(&hurried);
                let effort = Effort::with_children();
                let found = investigator.investigate(&of, &actor, time_ns);
                budget.spend(effort.so_far());
                if tell.send(found).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            queue: Some(queue),
            answers,
            thread: Some(thread),
            hurry,
            looked: HashMap::new(),
            pruned: Instant::now(),
            open: 0,
            skipped: 0,
        })
    }

    /// Has the event's incident looked into, unless it was lately.
    pub fn note(&mut self, event: &Event) {
        let Some(assignment) = Assignment::of(event) else { return };
        let now = Instant::now();
        let known = self.looked.get(&assignment.of);
        if known.is_some_and(|looked| now.duration_since(*looked) < AGAIN) {
            return;
        }
        if self.looked.len() >= REMEMBERED && known.is_none() {
            if now.duration_since(self.pruned) > PRUNE {
                self.looked.retain(|_, looked| now.duration_since(*looked) < AGAIN);
                self.pruned = now;
            }
            if self.looked.len() >= REMEMBERED {
                self.skipped += 1;
                return;
            }
        }
        let of = assignment.of.clone();
        let taken = match &self.queue {
            Some(queue) => queue.try_send(Task::LookInto(Box::new(assignment))).is_ok(),
            None => false,
        };
        if taken {
            self.open += 1;
            self.looked.insert(of, now);
        } else {
            self.skipped += 1;
        }
    }

    /// Lets all network namespaces but these go.
    pub fn keep_only(&self, namespaces: HashSet<u32>) {
        if let Some(queue) = &self.queue {
            // Where there is no room, something is looked into, and they are enumerated for that.
            let _ = queue.try_send(Task::KeepOnly(namespaces));
        }
    }

    /// What was found out since the last call.
    pub fn found(&mut self, into: &mut Vec<Diagnosis>) {
        loop {
            match self.answers.try_recv() {
                Ok(answer) => {
                    self.open = self.open.saturating_sub(1);
                    into.extend(answer);
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Waits for what is still looked into, but not for ever; returns how many incidents were not.
    pub fn finish(&mut self, into: &mut Vec<Diagnosis>) -> u64 {
        self.queue = None;
        self.hurry.store(true, Ordering::Relaxed);
        let begin = Instant::now();
        while self.open > 0 {
            let left = LAST.saturating_sub(begin.elapsed());
            match self.answers.recv_timeout(left) {
                Ok(answer) => {
                    self.open -= 1;
                    into.extend(answer);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        if self.open == 0
            && let Some(thread) = self.thread.take()
        {
            // It has nothing left to do.
            let _ = thread.join();
        }
        self.skipped + self.open as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A budget that was overdrawn by 3 ms just now.
    fn overdrawn() -> Budget {
        let mut budget = Budget::new();
        budget.spend(Duration::from_secs(5) + Duration::from_millis(3));
        budget
    }

    #[test]
    fn what_was_overdrawn_is_earned_in_ten_times_as_long() {
        let mut budget = overdrawn();
        let begin = Instant::now();
        budget.wait(&AtomicBool::new(false));
        assert!(begin.elapsed() >= Duration::from_millis(29), "{:?}", begin.elapsed());
        assert!(budget.left_ns >= 0);
    }

    #[test]
    fn nobody_waits_who_has_reason_to_hurry() {
        let mut budget = overdrawn();
        budget.wait(&AtomicBool::new(true));
        assert!(budget.left_ns < 0, "it waited until {} ns were left", budget.left_ns);
    }
}
