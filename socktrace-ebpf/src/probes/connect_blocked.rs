//! `connect_blocked`: a Unix `connect()` slept because the listener's backlog was full.
//!
//! `BLOCKED_CALLS[pid_tgid]` holds since when, so that user space can see it while it sleeps. A call
//! may sleep several times, as others can be faster when there is room: the wait is the time from
//! the first sleep until `connect()` returned.

use aya_ebpf::{
    EbpfContext,
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use socktrace_common::{
    BlockedCall, ConnectBlockedEvent, ConnectBlockedKey, Endpoint, Signal, Stage,
};

use super::{connect_failure, interrupted};
use crate::{
    emit, filter,
    kernel::{Sock, Task, now_ns, pid_tgid, read_kernel_address},
    maps::{BLOCKED_CALLS, BLOCKED_TALLY, UnderWay},
    tally,
};

const SIGNAL: Signal = Signal::ConnectBlocked;
const BPF_NOEXIST: u64 = 1;
const EEXIST: i32 = -17;

/// The current task is about to sleep until `listener` has room.
#[inline(never)]
fn sleeps(listener: Sock) {
    // Sending to a full connected socket sleeps in the same function.
    if !listener.listens() {
        return;
    }
    let mut call = call(listener.inode(), 0);
    listener.read_local(&mut call.event.key.target);
    remember(&call);
}

/// The current task calls `connect()` with a Unix address, in a tier that does not see it sleep.
#[inline(never)]
pub(super) fn called(target: &Endpoint) {
    let mut call = call(0, Task::current().voluntary_switches());
    call.event.key.target = *target;
    remember(&call);
}

/// A call of the current task that begins to sleep now.
#[inline(always)]
fn call(listener: u64, switches: u64) -> BlockedCall {
    let header = emit::header::<ConnectBlockedEvent>(SIGNAL, Task::actor());
    let key = ConnectBlockedKey { task: header.actor.task, listener, target: Endpoint::NONE };
    BlockedCall {
        event: ConnectBlockedEvent { header, key, wait_ns: 0, errno: 0, pad: 0 },
        switches,
    }
}

/// A sleep that is remembered already began earlier.
#[inline(always)]
fn remember(call: &BlockedCall) {
    tally::begins(UnderWay::BlockedCalls);
    match BLOCKED_CALLS.insert(pid_tgid(), call, BPF_NOEXIST) {
        Ok(()) => return,
        Err(EEXIST) => {}
        Err(_) => tally::count(SIGNAL, Stage::LostPending, 1),
    }
    tally::ends(UnderWay::BlockedCalls);
}

/// The current task's `connect()` returned `-errno`; it had slept. Its event is finished where it
/// lies, in the map: it is too large for the stack beside what sends it.
#[inline(never)]
pub(super) fn returned(ctx: &impl EbpfContext, errno: u32, passed: Option<&Endpoint>) {
    let Some(call) = BLOCKED_CALLS.get_ptr_mut(pid_tgid()) else { return };
    // SAFETY: a live map value; only this task writes this entry.
    let event = unsafe { &mut (*call).event };
    if interrupted(errno) {
        // It may be made anew at once: then its sleep begins anew, too.
        return forgotten();
    }
    if event.wait_ns == 0 {
        event.wait_ns = now_ns().saturating_sub(event.header.time_ns);
    }
    event.header.time_ns += event.wait_ns;
    event.errno = errno;
    if let Some(passed) = passed
        && passed.len != 0
    {
        event.key.target = *passed;
    }
    blocked(ctx, event);
    forgotten();
}

/// The current task's `connect()` has come through, and will return that: how long it had slept. The end of a call
/// that was under way at the attach is not seen.
#[inline(always)]
pub(super) fn came_through() {
    if tally::any(UnderWay::BlockedCalls)
        && let Some(call) = BLOCKED_CALLS.get_ptr_mut(pid_tgid())
    {
        // SAFETY: a live map value; only this task writes this entry.
        let event = unsafe { &mut (*call).event };
        event.wait_ns = now_ns().saturating_sub(event.header.time_ns).max(1);
    }
}

/// What an earlier call of the current task left, which came through and whose end was not seen.
#[inline(always)]
fn end_earlier(ctx: &impl EbpfContext) {
    if tally::any(UnderWay::BlockedCalls)
        && let Some(call) = BLOCKED_CALLS.get_ptr(pid_tgid())
        // SAFETY: a live map value; only this task writes this entry.
        && unsafe { (*call).event.wait_ns } != 0
    {
        returned(ctx, 0, None);
    }
}

/// As [`returned`], in a tier that does not see it sleep: a Unix stream `connect()` that went to
/// sleep of its own accord was waiting for room.
#[inline(always)]
pub(super) fn returned_unseen(ctx: &impl EbpfContext, errno: u32, passed: Option<&Endpoint>) {
    let Some(call) = BLOCKED_CALLS.get_ptr(pid_tgid()) else { return };
    // SAFETY: a live map value; only this task writes this entry.
    if Task::current().voluntary_switches() == unsafe { (*call).switches } {
        return forgotten();
    }
    returned(ctx, errno, passed);
}

/// The call ended in another way, or never slept.
#[inline(always)]
pub(super) fn forgotten() {
    if tally::any(UnderWay::BlockedCalls) && BLOCKED_CALLS.remove(pid_tgid()).is_ok() {
        tally::ends(UnderWay::BlockedCalls);
    }
}

/// Tallies and sends one blocked connect.
#[inline(always)]
fn blocked(ctx: &impl EbpfContext, event: &ConnectBlockedEvent) {
    if filter::self_test(SIGNAL, event.key.task) {
        return;
    }
    tally::count(SIGNAL, Stage::Seen, 1);
    let by_errno = if event.errno == 0 { filter::no_errno() } else { filter::errno(event.errno) };
    if !by_errno || !filter::process(event.key.task) || !filter::endpoint(&event.key.target) {
        return tally::count(SIGNAL, Stage::Filtered, 1);
    }
    let tallied = tally::tally_wait(&BLOCKED_TALLY, SIGNAL, &event.key, event.wait_ns, || {
        tally::remember_task(SIGNAL, &event.header.actor);
    });
    emit::send(ctx, SIGNAL, tallied, event);
}

/// As [`returned`], with the `struct sockaddr` of `len` bytes that the client passed.
#[inline(always)]
pub(super) fn returned_from(ctx: &impl EbpfContext, result: i32, address: u64, len: i32) {
    // Mostly it never slept.
    if tally::any(UnderWay::BlockedCalls) && BLOCKED_CALLS.get_ptr(pid_tgid()).is_some() {
        note_address(address, len);
        returned(ctx, result.unsigned_abs(), None);
    }
}

/// Writes what the client passed over the listener's own name.
#[inline(never)]
fn note_address(address: u64, len: i32) {
    let mut passed = Endpoint::NONE;
    read_kernel_address(&mut passed, address, len);
    if let Some(call) = BLOCKED_CALLS.get_ptr_mut(pid_tgid())
        && passed.len != 0
    {
        // SAFETY: a live map value; only this task writes this entry.
        unsafe {
            passed.kind = (*call).event.key.target.kind;
            (*call).event.key.target = passed;
        }
    }
}

// --- fentry tier -------------------------------------------------------------------------------

/// `long unix_wait_for_peer(struct sock *other, long timeo)`: sleeps until there is room.
#[fentry]
fn connect_blocked_fentry(ctx: FEntryContext) -> i32 {
    end_earlier(&ctx);
    if let Some(listener) = Sock::from_raw(ctx.arg(0)) {
        sleeps(listener);
    }
    0
}

// --- kprobe tier -------------------------------------------------------------------------------

/// As [`connect_blocked_fentry`]. The result comes from `sys_exit_connect`, because a kretprobe on
/// a function that blocks loses calls; io_uring has none, so its calls are left out.
#[kprobe]
fn connect_blocked_kprobe(ctx: ProbeContext) -> u32 {
    if connect_failure::is_under_way()
        && let Some(listener) = ctx.arg(0).and_then(Sock::from_raw)
    {
        sleeps(listener);
    }
    0
}
