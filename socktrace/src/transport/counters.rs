//! Reads the kernel's totals out of its maps.

use std::{collections::HashMap, hash::Hash};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap as BpfHashMap, Map, MapError, PerCpuArray},
};
use socktrace_common::{
    AcceptErrorKey, AcceptKey, ConnectBlockedKey, ConnectFailureKey, DROP_ENTRY_WORDS, DropKey,
    DropStage, ListenerInfo, Signal, Stage, TaskInfo, TaskKey, WaitTally,
};
use thiserror::Error;

use super::{clock::monotonic_now_ns, turn::Turn};
use crate::event::{Counters, Stages, Task, WaitTotals};

/// A map could not be read.
#[derive(Debug, Error)]
#[error("cannot read the kernel's totals from the map {map}: {source}")]
pub struct CountersError {
    /// Its name.
    pub map: &'static str,
    /// What went wrong.
    pub source: MapError,
}

/// Reads every total.
pub fn read_counters(ebpf: &Ebpf) -> Result<Counters, CountersError> {
    read_counters_of(ebpf, |_| true)
}

/// Reads the totals of these signals: the kernel goes through all buckets of a map, also where they are empty. Names are
/// read last, so that every key read before has its name.
pub fn read_counters_of(
    ebpf: &Ebpf,
    wanted: impl Fn(Signal) -> bool,
) -> Result<Counters, CountersError> {
    let mut counters = Counters { time_ns: monotonic_now_ns(), ..Counters::default() };
    if wanted(Signal::Accept) {
        let accepts = |key: AcceptKey| key;
        counters.accepts = read_map(ebpf, "ACCEPT_TALLY", accepts, |tally| wait_totals(&tally))?;
    }
    if wanted(Signal::AcceptError) {
        let errors = |key: AcceptErrorKey| key;
        counters.accept_errors = read_map(ebpf, "ACCEPT_ERROR_TALLY", errors, plain)?;
    }
    if wanted(Signal::ConnectFailure) {
        counters.connect_failures = read_connects(ebpf)?;
    }
    if wanted(Signal::ConnectBlocked) {
        let blocked = |key: ConnectBlockedKey| key;
        counters.connect_blocked =
            read_map(ebpf, "BLOCKED_TALLY", blocked, |tally| wait_totals(&tally))?;
    }
    if wanted(Signal::BacklogDrop) {
        counters.drops = read_drops(ebpf)?;
    }
    Ok(Counters {
        tasks: read_map(
            ebpf,
            "TASKS",
            |key: TaskKey| key,
            |info: TaskInfo| Task::from_wire(info.comm, info.uid, info.gid, info.cgroup),
        )?,
        listeners: read_map(ebpf, "LISTENERS", plain, |info: ListenerInfo| (&info).into())?,
        stages: read_stages(ebpf)?,
        ..counters
    })
}

/// Failed connects, and with them those that were taken back.
fn read_connects(ebpf: &Ebpf) -> Result<HashMap<ConnectFailureKey, u64>, CountersError> {
    let read = |map| read_map(ebpf, map, |key: ConnectFailureKey| key, plain);
    let mut connects = read("CONNECT_TALLY")?;
    connects.extend(read("ABANDONED_TALLY")?);
    let others = read_total(ebpf, "ABANDONED_OTHER")?;
    if others != 0 {
        connects.insert(ConnectFailureKey::OTHERS_ABANDONED, others);
    }
    Ok(connects)
}

/// Reads how many connects were seen to fail, and nothing else of them.
pub fn read_connects_unseen(ebpf: &Ebpf) -> Result<u64, CountersError> {
    read_total(ebpf, "CONNECT_UNSEEN")
}

/// The only number of a map.
fn read_total(ebpf: &Ebpf, name: &'static str) -> Result<u64, CountersError> {
    let failed = |source| CountersError { map: name, source };
    let total = Array::<_, u64>::try_from(map(ebpf, name)?).map_err(failed)?;
    let _turn = Turn::begin();
    total.get(&0, 0).map_err(failed)
}

/// Reads the drops alone.
pub fn read_drops(ebpf: &Ebpf) -> Result<HashMap<DropKey, u64>, CountersError> {
    read_map(ebpf, "DROP_TALLY", |key: DropKey| key, plain)
}

/// Reads how many calls are under way of which the kernel may have counted a drop that is in no total yet.
pub fn read_drops_under_way(ebpf: &Ebpf) -> Result<u64, CountersError> {
    let failed = |source| CountersError { map: "DROP_ENTRIES", source };
    let entries = map(ebpf, "DROP_ENTRIES")?;
    let entries = PerCpuArray::<_, [u64; DROP_ENTRY_WORDS]>::try_from(entries).map_err(failed)?;
    let mut under_way = 0;
    let _turn = Turn::begin();
    for stage in DropStage::ALL {
        let of_cpus = entries.get(&(stage as u32), 0).map_err(failed)?;
        under_way += of_cpus.iter().filter(|entry| entry[0] != 0).count() as u64;
    }
    Ok(under_way)
}

/// A map of the object.
pub(super) fn map<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<&'a Map, CountersError> {
    let missing = MapError::InvalidMapType { map_type: 0 };
    ebpf.map(name).ok_or(CountersError { map: name, source: missing })
}

/// Reads a hash map of totals, none of which is ever removed.
fn read_map<K: Pod, V: Pod, L: Eq + Hash, W>(
    ebpf: &Ebpf,
    name: &'static str,
    key: impl Fn(K) -> L,
    value: impl Fn(V) -> W,
) -> Result<HashMap<L, W>, CountersError> {
    let mut read = HashMap::new();
    each(ebpf, name, |k, v| {
        read.insert(key(k), value(v));
    })?;
    Ok(read)
}

/// Hands every entry of a hash map over. One that goes away in between is none.
pub(super) fn each<K: Pod, V: Pod>(
    ebpf: &Ebpf,
    name: &'static str,
    mut take: impl FnMut(K, V),
) -> Result<(), CountersError> {
    let failed = |source| CountersError { map: name, source };
    let entries = BpfHashMap::<_, K, V>::try_from(map(ebpf, name)?).map_err(failed)?;
    let mut turn = Turn::begin();
    for entry in &entries {
        match entry {
            Ok((key, value)) => take(key, value),
            Err(MapError::KeyNotFound) => {}
            Err(source) => return Err(failed(source)),
        }
        turn.one_more();
    }
    Ok(())
}

fn wait_totals(wire: &WaitTally) -> WaitTotals {
    let buckets = wire.buckets.iter().enumerate().filter(|(_, n)| **n != 0);
    WaitTotals {
        count: wire.count,
        waited: wire.waited,
        sum_ns: wire.sum_ns,
        max_ns: wire.max_ns,
        buckets: buckets
            .filter_map(|(bucket, n)| Some((u16::try_from(bucket).ok()?, *n)))
            .collect(),
    }
}

/// Reads the stage counters alone.
pub fn read_stages(ebpf: &Ebpf) -> Result<Stages, CountersError> {
    let failed = |source| CountersError { map: "STAGES", source };
    let array = PerCpuArray::<_, u64>::try_from(map(ebpf, "STAGES")?).map_err(failed)?;
    let mut stages = Stages::default();
    let mut turn = Turn::begin();
    for signal in Signal::ALL {
        for stage in Stage::ALL {
            let values = array.get(&stage.index(signal), 0).map_err(failed)?;
            stages.0[signal as usize][stage as usize] = values.iter().sum();
            turn.one_more();
        }
    }
    Ok(stages)
}

/// A number that is what it is on both sides.
const fn plain(number: u64) -> u64 {
    number
}
