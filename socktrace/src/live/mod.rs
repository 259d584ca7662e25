//! The live [`Source`]: the kernel's buffer and totals, and what the host tells beside them.

mod alarm;
mod looks;
mod sums;

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use aya::Ebpf;
use socktrace_common::{DropKey, ListenerInfo, Signal, Stage};
use thiserror::Error;
use tokio::io::{Interest, unix::AsyncFd};

use self::{
    alarm::Alarm,
    sums::{cgroups_of, since},
};
use crate::{
    event::{
        Body, Counters, Diagnosis, Event, Listener, Owner, ReaderLoss, Record, Sighting, Source,
        Stages,
    },
    evidence::{Investigator, Worker},
    host::{Host, TcpExt},
    listener::{Lookout, read_owners},
    probe::{Attached, Filters, Timing, Verdict, detach},
    stall::Scout,
    transport::{CountersError, Reader, decode, read_counters, read_drops},
};

/// How often the buffer is drained when nobody wakes the reader.
const DRAIN: Duration = Duration::from_millis(50);
/// How often where nothing has come for [`QUIET_DRAINS`]: what is new wakes the reader by itself, so only
/// more of the same comes this late.
const QUIET_DRAIN: Duration = Duration::from_millis(250);
const QUIET_DRAINS: u32 = 20;
/// How often listeners are looked at: twice within the threshold of a stall, in these limits.
const LOOK_LIMITS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];
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
    verdicts: Vec<Verdict>,
    host: Host,
    lookout: Lookout,
    worker: Worker,
    scout: Scout,
    look_every: Duration,
    idle_looks: u32,
    next_drain: Instant,
    /// How often in a row nothing was there to be drained.
    quiet_drains: u32,
    next_look: Instant,
    /// When it would be, were the last look not of a host on which nothing happens.
    soonest_look: Instant,
    /// Connections accepted, as of the last look.
    accepted: Option<u64>,
    named: HashSet<u64>,
    delivered: u64,
    loss: ReaderLoss,
    /// What each network namespace had counted before; `None` where that could not be read.
    counted_at_start: HashMap<u32, Option<TcpExt>>,
    drops_at_start: HashMap<DropKey, u64>,
    /// The first look: what was there before.
    baseline: Vec<Record>,
    has_looked: bool,
    /// Listeners as they were last seen.
    seen: HashMap<u64, Sighting>,
    /// Of them, those whose `sk_drops` grew.
    dropping: HashSet<u64>,
    checkpoint_every: Option<Duration>,
    next_checkpoint: Instant,
    /// As of the last checkpoint.
    told_stages: Stages,
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
        let Attached { ebpf, reader, verdicts, timing, .. } = attached;
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
            verdicts,
            counted_at_start: HashMap::new(),
            drops_at_start: HashMap::new(),
            lookout,
            worker: Worker::start(investigator).map_err(LiveError::Thread)?,
            scout: Scout::new(host.clone(), u64::try_from(stall.as_nanos()).unwrap_or(u64::MAX)),
            look_every: (stall / 2).clamp(LOOK_LIMITS[0], LOOK_LIMITS[1]),
            host,
            next_drain: Instant::now(),
            quiet_drains: 0,
            idle_looks: 0,
            next_look: Instant::now(),
            soonest_look: Instant::now(),
            accepted: None,
            named: HashSet::new(),
            delivered: 0,
            loss: ReaderLoss::default(),
            baseline: Vec::new(),
            has_looked: false,
            seen: HashMap::new(),
            dropping: HashSet::new(),
            checkpoint_every: None,
            next_checkpoint: Instant::now(),
            told_stages: Stages::default(),
            owned: HashSet::new(),
            known_cgroups: HashSet::new(),
        };
        let mut baseline = Vec::new();
        live.look(&mut baseline)?;
        let namespaces = live.host.read_network_namespaces()?.all;
        live.counted_at_start = namespaces
            .iter()
            .map(|namespace| (namespace.inode, namespace.read_tcp_ext()))
            .collect();
        live.drops_at_start = read_drops(&live.ebpf)?;
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
        let soonest = self.next_drain.min(self.next_look);
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
            self.next_look = self.next_look.min(self.soonest_look);
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

    /// What was found out meanwhile.
    fn take_findings(&mut self, into: &mut Vec<Record>) {
        let mut found = Vec::new();
        self.worker.found(&mut found);
        self.tell_findings(found, into);
    }

    /// Puts how the queue that a failure met stands before what was found of it.
    fn tell_findings(&self, found: Vec<Diagnosis>, into: &mut Vec<Record>) {
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
                && let Some(listener) = lookup_listener(&self.ebpf, inode)
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

fn lookup_listener(ebpf: &Ebpf, inode: u64) -> Option<Listener> {
    let map = aya::maps::HashMap::<_, u64, ListenerInfo>::try_from(ebpf.map("LISTENERS")?);
    let info = map.ok()?.get(&inode, 0).ok()?;
    Some((&info).into())
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
        self.take_findings(into);
        self.look(into)?;
        self.checkpoint(into)?;
        Ok(true)
    }

    fn finish(&mut self, into: &mut Vec<Record>) -> Result<(), LiveError> {
        into.append(&mut self.baseline);
        // Together, before the detach, which takes its time: what the drops are compared with.
        self.last_look(into)?;
        let namespaces = self.counted()?;
        let drops = read_drops(&self.ebpf)?;
        self.tell_programs(into);
        detach(&mut self.ebpf);
        let mut counters = self.settle(into)?;
        counters.drops = since(drops, &self.drops_at_start);
        into.push(Record::Namespaces(namespaces));
        let mut found = Vec::new();
        let uninvestigated = self.worker.finish(&mut found);
        self.tell_findings(found, into);
        self.add_owners(&counters, uninvestigated, into);
        into.push(Record::Cgroups(self.cgroups(&cgroups_of(&counters).collect())));
        into.push(Record::Counters(Box::new(counters)));
        into.push(Record::Loss(self.loss));
        Ok(())
    }
}
