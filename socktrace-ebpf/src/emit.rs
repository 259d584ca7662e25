//! The one way out: a detail event goes to the reader, or is counted as lost.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_CURRENT_CPU, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_perf_event_output, bpf_ringbuf_output, bpf_ringbuf_query},
};
use socktrace_common::{Actor, EventHeader, Signal, Stage};

use crate::{
    globals::param,
    kernel::now_ns,
    maps::{EVENTS_PERF, EVENTS_RING},
    tally::{Tallied, count, within_budget},
};

/// Opens an event of type `T`.
#[inline(always)]
pub(crate) fn header<T>(signal: Signal, actor: Actor) -> EventHeader {
    EventHeader { signal: signal as u32, size: size_of::<T>() as u32, time_ns: now_ns(), actor }
}

/// Whether an event may be sent: to be asked before it is made, as most of what it costs is gathering what it
/// tells. One that may not is counted.
#[inline(always)]
pub(crate) fn admits(signal: Signal, tallied: Tallied) -> bool {
    let admits = within_budget(signal, tallied);
    if !admits {
        count(signal, Stage::SampledOut, 1);
    }
    admits
}

/// Sends an event that was admitted. Counts what became of it.
#[inline(always)]
pub(crate) fn submit<T>(ctx: &impl EbpfContext, signal: Signal, tallied: Tallied, event: &T) {
    let arrived = output(ctx, event, tallied == Tallied::New);
    count(signal, if arrived { Stage::Submitted } else { Stage::LostBuffer }, 1);
}

/// Sends `event`, unless the signal's budget is used up. Counts what became of it.
#[inline(always)]
pub(crate) fn send<T>(ctx: &impl EbpfContext, signal: Signal, tallied: Tallied, event: &T) {
    if admits(signal, tallied) {
        submit(ctx, signal, tallied, event);
    }
}

#[inline(always)]
fn output<T>(ctx: &impl EbpfContext, event: &T, urgent: bool) -> bool {
    let (transport, wakeup_bytes) = (param!(transport), param!(wakeup_bytes));
    let data = core::ptr::from_ref(event).cast_mut().cast();
    // SAFETY: both maps are statics whose address the loader relocates; `data` is `size_of::<T>`
    // initialised bytes, because wire types have no implicit padding.
    let result = unsafe {
        if transport == 0 {
            let map = (&raw const EVENTS_RING).cast_mut().cast();
            // The reader drains on a timer; it is woken only where that would be late.
            let full = bpf_ringbuf_query(map, 0) >= wakeup_bytes;
            let flags = if urgent || full { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
            bpf_ringbuf_output(map, data, size_of::<T>() as u64, flags.into())
        } else {
            let map = (&raw const EVENTS_PERF).cast_mut().cast();
            let flags = BPF_F_CURRENT_CPU;
            bpf_perf_event_output(ctx.as_ptr(), map, flags, data, size_of::<T>() as u64)
        }
    };
    result == 0
}
