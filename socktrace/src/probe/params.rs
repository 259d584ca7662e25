//! The user's options as the eBPF programs read them: pure.

use socktrace_common::{Params, Signal, family_bit, filter, preempted};

use super::{Options, Verdict};
use crate::{kernel::Preemption, transport::Transport};

/// Detail events per second and CPU, beside the first of each key. Accepts are chosen by
/// `--slow`; a flood of failures or drops must cost counters, not a stream.
const BUDGET: [u32; Signal::COUNT] = [u32::MAX, 1_000, 10_000, 1_000, u32::MAX, 1_000];

/// What goes into the object before it loads. Who may be preempted decides which hooks are attached; `loads` are the
/// bits of what programs may read by loads.
pub(super) fn params(
    options: &Options,
    verdicts: &[Verdict],
    preemption: Preemption,
    loads: u32,
) -> Params {
    let filters = &options.filters;
    let mut params = Params {
        tier: [0; Signal::COUNT],
        budget: BUDGET,
        transport: u32::from(options.transport == Transport::Perf),
        filters: 0,
        slow_ns: options.slow_ns,
        wakeup_bytes: u64::from(options.buffer_bytes / 4),
        errnos: [0; 3],
        uid: filters.uid.unwrap_or(0),
        families: filters.families.iter().fold(0, |bits, family| bits | family_bit(*family)),
        comm: [0; 16],
        tracer: std::process::id(),
        preempted: match preemption {
            Preemption::Nobody => preempted::NOBODY,
            Preemption::Tracing => preempted::TRACING,
            Preemption::Tracepoints => preempted::TRACEPOINTS,
        },
        loads,
        pad: 0,
    };
    for verdict in verdicts {
        params.tier[verdict.signal as usize] =
            verdict.choice.as_ref().map_or(0, |choice| choice.tier as u32);
    }
    for errno in &filters.errnos {
        if let Some(word) = params.errnos.get_mut(*errno as usize / 64) {
            *word |= 1 << (errno % 64);
        }
    }
    if let Some(comm) = &filters.comm {
        let len = comm.len().min(15);
        params.comm[..len].copy_from_slice(&comm[..len]);
    }
    let bits = [
        (!filters.pids.is_empty(), filter::PIDS),
        (filters.uid.is_some(), filter::UID),
        (filters.comm.is_some(), filter::COMM),
        (!filters.ports.is_empty(), filter::PORTS),
        (!filters.errnos.is_empty(), filter::ERRNOS),
        (!filters.families.is_empty(), filter::FAMILIES),
        (filters.follow, filter::FOLLOW),
    ];
    params.filters = bits.iter().filter(|(set, _)| *set).fold(0, |all, (_, bit)| all | bit);
    params
}
