//! The live [`Source`]: the kernel's buffer and totals, and what the host tells beside them.

mod alarm;
mod drops;
mod looks;
mod pace;
mod sums;

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use aya::Ebpf;
use socktrace_common::{Signal, Stage};
use thiserror::Error;
use tokio::io::{Interest, unix::AsyncFd};

use self::{
    alarm::Alarm,
    drops::Start,
    pace::{Allowance, Pace, TOTALS_SHARE},
    sums::{cgroups_of, since},
};
use crate::{
    event::{
        Body, Counters, Diagnosis, Event, Owner, ReaderLoss, Record, Runs, Sighting, Source, Stages,
    },
    evidence::{Investigator, Worker},
    host::Host,
    listener::{Lookout, read_owners},
    probe::{Attached, Filters, MissReader, Timing, Verdict, detach},
    stall::Scout,
    transport::{CountersError, Reader, decode, read_counters, read_listener},
};

/// How often the buffer is drained when nobody wakes the reader.
const DRAIN: Duration = Duration::from_millis(50);
/// How often where nothing has come for [`QUIET_DRAINS`]: what is new wakes the reader by itself, so only
/// more of the same comes this late.
const QUIET_DRAIN: Duration = Duration::from_millis(250);
const QUIET_DRAINS: u32 = 20;
/// How long the last events may take to arrive once the programs are detached.
const SETTLE: Duration = Duration::from_secs(1);

/// Tracing broke off.
#[derive(Debug, Error)]
pub enum LiveError {
    /// The totals.
    #[error(transparent)]
    Counters(#[from] CountersError),
    /// Waiting for events.
    #[error("cannot wait for events: {0}")]
    Wait(#[from] io::Error),
    /// Diagnosing beside the reader.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The filters.
    #[error(transparent)]
    Attach(#[from] crate::probe::AttachError),
    /// Own namespace's counters or process list.
    #[error(transparent)]
    Host(#[from] crate::host::HostError),
}

/// Everything that is attached, as a source of records.
pub struct Live {
    /// A copy of the reader's descriptor: the reader stays free to be drained.
    readable: AsyncFd<OwnedFd>,
    alarm: Alarm,
    reader: Reader,
    ebpf: Ebpf,
    timing: Option<Timing>,
    /// What programs had run when that began: the self-test has them counted, too.
    runs_before: Runs,
    verdicts: Vec<Verdict>,
    misses: MissReader,
    host: Host,
    lookout: Lookout,
    worker: Worker,
    scout: Scout,
    pace: Pace,
    idle_looks: u32,
    next_drain: Instant,
    /// How often in a row nothing was there to be drained.
    quiet_drains: u32,
    /// Connections accepted, as of the last look.
    accepted: Option<u64>,
    named: HashSet<u64>,
    delivered: u64,
    loss: ReaderLoss,
    /// What had been dropped before.
    at_start: Start,
    /// The first look: what was there before.
    baseline: Vec<Record>,
    has_looked: bool,
    /// Listeners as they were last seen.
    seen: HashMap<u64, Sighting>,
    /// Of them, those whose `sk_drops` grew.
    dropping: HashSet<u64>,
    /// When the last look began, monotonic nanoseconds.
    looked_ns: u64,
    /// What was found out, and is not told yet.
    found: Vec<Diagnosis>,
    checkpoint_every: Option<Duration>,
    next_checkpoint: Instant,
    /// Of checkpoints.
    allowance: Allowance,
    /// As of the last checkpoint.
    told_stages: Stages,
    /// By signal, whether there was anything new at it.
    moved: [bool; Signal::COUNT],
    /// Listeners whose owners were looked for, and cgroups whose paths were, at a checkpoint.
    owned: HashSet<u64>,
    known_cgroups: HashSet<u64>,
}

impl Live {
    /// Takes over what was attached, and what sees the listeners; to be called on the runtime that
    /// will read it. A connection that waits for `stall` stalls its listener.
    pub fn new(
        attached: Attached,
        lookout: Lookout,
        investigator: Investigator,
        host: Host,
        stall: Duration,
    ) -> Result<Self, LiveError> {
        let Attached { ebpf, reader, verdicts, timing, runs_before, .. } = attached;
        let fd = reader.as_fd().try_clone_to_owned()?;
        // SAFETY: `AsyncFd` owns the descriptor, which stays open and the same until it is dropped.
        let readable = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        let readable = readable.map_err(io::Error::from)?;
        let mut live = Self {
            readable,
            alarm: Alarm::new()?,
            reader,
            ebpf,
            timing,
            runs_before,
            verdicts,
            misses: MissReader::new(),
            at_start: Start::default(),
            lookout,
            worker: Worker::start(investigator).map_err(LiveError::Thread)?,
            scout: Scout::new(host.clone(), u64::try_from(stall.as_nanos()).unwrap_or(u64::MAX)),
            pace: Pace::new(stall, Instant::now()),
            host,
            next_drain: Instant::now(),
            quiet_drains: 0,
            idle_looks: 0,
            accepted: None,
            named: HashSet::new(),
            delivered: 0,
            loss: ReaderLoss::default(),
            baseline: Vec::new(),
            has_looked: false,
            seen: HashMap::new(),
            dropping: HashSet::new(),
            looked_ns: 0,
            found: Vec::new(),
            checkpoint_every: None,
            next_checkpoint: Instant::now(),
            allowance: Allowance::new(TOTALS_SHARE, Instant::now()),
            told_stages: Stages::default(),
            moved: [false; Signal::COUNT],
            owned: HashSet::new(),
            known_cgroups: HashSet::new(),
        };
        let mut baseline = Vec::new();
        let namespaces = live.host.read_network_namespaces()?.all;
        live.at_start = Start::at(live.moment(&namespaces, |live| live.look(&mut baseline))?);
        live.baseline = baseline;
        Ok(live)
    }

    /// Tells totals in each interval, too, and not only in the end.
    #[must_use]
    pub fn with_checkpoints(mut self, every: Duration) -> Self {
        self.checkpoint_every = Some(every);
        self.next_checkpoint = Instant::now() + every;
        self
    }

    /// What became of each signal.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// Marks the listeners that belong to processes which the filters select, so that what
    /// happens to them in softirq context passes the filters.
    pub fn select_listeners(&mut self, filters: &Filters) -> Result<(), LiveError> {
        if !filters.select_processes() || filters.follow {
            return Ok(());
        }
        let sightings = self.lookout.look().sightings;
        let owners = read_owners(&self.host, &sightings.keys().copied().collect())?;
        let selected = |owner: &Owner| {
            (filters.pids.is_empty() || filters.pids.contains(&owner.pid))
                && filters.comm.as_ref().is_none_or(|comm| *comm == owner.comm)
                && filters.uid.is_none_or(|uid| owner.uid == Some(uid))
        };
        let marked: Vec<u64> = owners
            .by_inode
            .into_iter()
            .filter(|(_, owners)| owners.iter().any(selected))
            .map(|(inode, _)| inode)
            .collect();
        for inode in marked {
            crate::probe::select_listener(&mut self.ebpf, inode, &sightings[&inode])?;
        }
        Ok(())
    }

    /// When there is something to do, although nobody wakes the reader.
    fn next_wake(&self) -> Instant {
        let checkpoint = self.checkpoint_every.map(|_| self.next_checkpoint);
        let soonest = self.next_drain.min(self.pace.next());
        checkpoint.map_or(soonest, |checkpoint| soonest.min(checkpoint))
    }

    fn drain(&mut self, into: &mut Vec<Record>) {
        let first = into.len();
        let (delivered, loss) = (&mut self.delivered, &mut self.loss);
        let overrun = self.reader.drain(&mut |bytes| match decode(bytes) {
            Ok(event) => {
                *delivered += 1;
                into.push(Record::Event(event));
            }
            Err(_) => loss.undecodable += 1,
        });
        self.loss.perf_lost += overrun;
        if into.len() > first {
            self.quiet_drains = 0;
            self.pace.hasten();
        } else {
            self.quiet_drains = self.quiet_drains.saturating_add(1);
        }
        let pause = if self.quiet_drains > QUIET_DRAINS { QUIET_DRAIN } else { DRAIN };
        self.next_drain = Instant::now() + pause;
        for record in into.get(first..).unwrap_or_default() {
            if let Record::Event(event) = record {
                self.worker.note(event);
            }
        }
        self.name_listeners(into, first);
    }

    /// What was found out meanwhile. What may be of a full queue is told when there has been a look at all listeners
    /// since: the queue may have begun to stall.
    fn take_findings(&mut self, into: &mut Vec<Record>) {
        self.worker.found(&mut self.found);
        let found = std::mem::take(&mut self.found);
        let unlooked = |it: &Diagnosis| {
            let stalls = |inode| self.scout.still(inode).is_some();
            it.time_ns > self.looked_ns && it.of_queue().is_some_and(|inode| !stalls(inode))
        };
        let (unlooked, looked) = found.into_iter().partition(unlooked);
        self.found = unlooked;
        if !self.found.is_empty() {
            self.pace.hasten();
        }
        self.tell_findings(looked, into);
    }

    /// Puts how the queue that a failure met stands before what was found of it.
    pub(super) fn tell_findings(&self, found: Vec<Diagnosis>, into: &mut Vec<Record>) {
        for diagnosis in found {
            let stall = diagnosis.listener.and_then(|inode| self.scout.still(inode));
            into.extend(stall.map(|stall| Record::Stall(Box::new(stall))));
            into.push(Record::Diagnosis(Box::new(diagnosis)));
        }
    }

    /// Puts the name of each listener before the events that are the first to need it.
    fn name_listeners(&mut self, into: &mut Vec<Record>, first: usize) {
        let mut names = Vec::new();
        for record in &into[first..] {
            if let Record::Event(event) = record
                && let Some(inode) = listener_of(event)
                && self.named.insert(inode)
                && let Ok(Some(listener)) = read_listener(&self.ebpf, inode)
            {
                names.push(Record::Listener(inode, listener));
            }
        }
        into.splice(first..first, names);
    }

    /// Drains until everything that was submitted has arrived; gives up after [`SETTLE`].
    fn settle(&mut self, into: &mut Vec<Record>) -> Result<Counters, LiveError> {
        let begin = Instant::now();
        loop {
            self.drain(into);
            let counters = read_counters(&self.ebpf)?;
            let submitted: u64 = Signal::ALL
                .iter()
                .map(|signal| counters.stages.get(*signal, Stage::Submitted))
                .sum();
            let arrived = self.delivered + self.loss.undecodable;
            if arrived >= submitted || begin.elapsed() > SETTLE {
                return Ok(counters);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn listener_of(event: &Event) -> Option<u64> {
    match &event.body {
        Body::Accept { listener, .. }
        | Body::AcceptError { listener, .. }
        | Body::ConnectBlocked { listener, .. }
        | Body::BacklogDrop { listener, .. } => *listener,
        Body::Listen { .. } | Body::ConnectFailure { .. } => None,
    }
}

impl Source for Live {
    type Error = LiveError;

    async fn read(&mut self, into: &mut Vec<Record>) -> Result<bool, LiveError> {
        tokio::select! {
            ready = self.readable.readable() => ready?.clear_ready(),
            rang = self.alarm.wait_until(self.next_wake()) => rang?,
        }
        into.append(&mut self.baseline);
        self.drain(into);
        self.look(into)?;
        self.take_findings(into);
        self.checkpoint(into)?;
        Ok(true)
    }

    fn finish(&mut self, into: &mut Vec<Record>) -> Result<(), LiveError> {
        into.append(&mut self.baseline);
        // Together, before the detach, which takes its time: what the drops are compared with.
        let namespaces = self.namespaces_left()?;
        let now = self.moment(&namespaces, |live| live.last_look(into))?;
        self.tell_programs(into);
        detach(&mut self.ebpf);
        let mut counters = self.settle(into)?;
        into.push(Record::Namespaces(self.counted(&namespaces, &now)));
        counters.drops = since(now.drops, &self.at_start.drops);
        let mut found = std::mem::take(&mut self.found);
        let uninvestigated = self.worker.finish(&mut found);
        self.tell_findings(found, into);
        self.add_owners(&counters, uninvestigated, into);
        into.push(Record::Cgroups(self.cgroups(&cgroups_of(&counters).collect())));
        into.push(Record::Counters(Box::new(counters)));
        into.push(Record::Loss(self.loss));
        Ok(())
    }
}
