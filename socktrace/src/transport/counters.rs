//! Reads the kernel's totals out of its maps.

use std::{collections::HashMap, hash::Hash};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap as BpfHashMap, Map, MapError, PerCpuArray},
};
use socktrace_common::{
    AcceptErrorKey, AcceptKey, ConnectBlockedKey, ConnectFailureKey, DropKey, ListenerInfo, Signal,
    Stage, TaskInfo, TaskKey, WaitTally,
};
use thiserror::Error;

use super::clock::monotonic_now_ns;
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

/// Reads every total. Names are read last, so that every key read before has its name.
pub fn read_counters(ebpf: &Ebpf) -> Result<Counters, CountersError> {
    Ok(Counters {
        time_ns: monotonic_now_ns(),
        accepts: read_map(ebpf, "ACCEPT_TALLY", |key: AcceptKey| key, |tally| wait_totals(&tally))?,
        accept_errors: read_map(ebpf, "ACCEPT_ERROR_TALLY", |key: AcceptErrorKey| key, plain)?,
        connect_failures: read_connects(ebpf)?,
        connect_blocked: read_map(
            ebpf,
            "BLOCKED_TALLY",
            |key: ConnectBlockedKey| key,
            |tally| wait_totals(&tally),
        )?,
        drops: read_drops(ebpf)?,
        tasks: read_map(
            ebpf,
            "TASKS",
            |key: TaskKey| key,
            |info: TaskInfo| Task::from_wire(info.comm, info.uid, info.gid, info.cgroup),
        )?,
        listeners: read_map(ebpf, "LISTENERS", plain, |info: ListenerInfo| (&info).into())?,
        stages: read_stages(ebpf)?,
    })
}

/// Failed connects, and with them those that were taken back.
fn read_connects(ebpf: &Ebpf) -> Result<HashMap<ConnectFailureKey, u64>, CountersError> {
    let read = |map| read_map(ebpf, map, |key: ConnectFailureKey| key, plain);
    let mut connects = read("CONNECT_TALLY")?;
    connects.extend(read("ABANDONED_TALLY")?);
    let name = "ABANDONED_OTHER";
    let failed = |source| CountersError { map: name, source };
    let others = Array::<_, u64>::try_from(map(ebpf, name)?).map_err(failed)?;
    let others = others.get(&0, 0).map_err(failed)?;
    if others != 0 {
        connects.insert(ConnectFailureKey::OTHERS_ABANDONED, others);
    }
    Ok(connects)
}

/// Reads the drops alone.
pub fn read_drops(ebpf: &Ebpf) -> Result<HashMap<DropKey, u64>, CountersError> {
    read_map(ebpf, "DROP_TALLY", |key: DropKey| key, plain)
}

/// A map of the object.
pub(super) fn map<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<&'a Map, CountersError> {
    let missing = MapError::InvalidMapType { map_type: 0 };
    ebpf.map(name).ok_or(CountersError { map: name, source: missing })
}

/// Reads a hash map. An entry that goes away in between is none: totals are never removed.
fn read_map<K: Pod, V: Pod, L: Eq + Hash, W>(
    ebpf: &Ebpf,
    name: &'static str,
    key: impl Fn(K) -> L,
    value: impl Fn(V) -> W,
) -> Result<HashMap<L, W>, CountersError> {
    let failed = |source| CountersError { map: name, source };
    let found = BpfHashMap::<_, K, V>::try_from(map(ebpf, name)?).map_err(failed)?;
    let mut read = HashMap::new();
    for entry in &found {
        match entry {
            Ok((k, v)) => {
                read.insert(key(k), value(v));
            }
            Err(MapError::KeyNotFound) => {}
            Err(source) => return Err(failed(source)),
        }
    }
    Ok(read)
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
    for signal in Signal::ALL {
        for stage in Stage::ALL {
            let values = array.get(&stage.index(signal), 0).map_err(failed)?;
            stages.0[signal as usize][stage as usize] = values.iter().sum();
        }
    }
    Ok(stages)
}

/// A number that is what it is on both sides.
const fn plain(number: u64) -> u64 {
    number
}
