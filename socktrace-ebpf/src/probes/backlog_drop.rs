//! `backlog_drop`: a TCP listener threw a connection away.
//!
//! Three functions do it, all in softirq context. Around each call the kernel's own per-CPU
//! counters are read: the difference is what this call did, on this listener, so the totals
//! equal `nstat` by construction. (Looking at the queue before the call would be a guess: it
//! can drain in between.) The tracepoint tier sees only the last-ACK drops and leaves the rest
//! to user space, which reads the same counters per namespace and `sk_drops` per listener.

use aya_ebpf::{
    EbpfContext,
    macros::{fentry, fexit, kprobe, kretprobe, raw_tracepoint},
    programs::{FEntryContext, FExitContext, ProbeContext, RawTracePointContext, RetProbeContext},
};
use socktrace_common::{
    AcceptStart, Actor, BacklogDropEvent, DropKey, DropReason, DropStage, Endpoint, Signal, Stage,
    TaskKey,
};

use super::is_true;
use crate::{
    emit, filter,
    globals::offset,
    kernel::{self, Probed, Reach, Skb, Sock, Task, Typed, cpu_offset, pid_tgid},
    maps::{CLOSING, Closing, DROP_ENTRIES, DROP_TALLY, DropEntry, LISTENERS, UnderWay},
    tally,
};

const SIGNAL: Signal = Signal::BacklogDrop;
const BPF_NOEXIST: u64 = 1;

/// One of the functions is about to handle `skb` for `listener`.
#[inline(always)]
fn entered<R: Reach>(stage: DropStage, listener: Option<Sock<R>>, skb: u64, stolen: u64) {
    let Some(entry) = DROP_ENTRIES.get_ptr_mut(stage as u32) else { return };
    let Some(listener) = listener else { return };
    // SAFETY: this CPU's entry of this function; softirq context, so nobody interleaves.
    let entry = unsafe { &mut *entry };
    entry.listener = listener.key();
    entry.skb = skb;
    entry.stolen = stolen;
    if R::typed() {
        entry.drops = u64::from(listener.drops());
    }
    if entry.cpu_offset == 0 {
        entry.cpu_offset = cpu_offset();
    }
    // By way of the map, where a pointer becomes a number: nothing may be added to the former.
    let mib = &raw mut entry.mib;
    // SAFETY: a field of the live map value.
    let statistics = unsafe {
        mib.write_volatile(listener.net().statistics());
        mib.read_volatile()
    };
    entry.mib = statistics.wrapping_add(entry.cpu_offset);
    entry.before.read_drops(entry.mib);
    if stage == DropStage::Syn {
        entry.before.read_syn_queue(entry.mib);
    }
}

/// The function returned. `listener` is its argument, where the hook still has it. Until the drop is in its total, the
/// entry has a listener: user space tells by that what the kernel may have counted already.
#[inline(always)]
fn left<R: Reach>(ctx: &impl EbpfContext, stage: DropStage, listener: Option<Sock<R>>) {
    let Some(entry) = DROP_ENTRIES.get_ptr_mut(stage as u32) else { return };
    // SAFETY: as in `entered`.
    let entry = unsafe { &mut *entry };
    if let Some(sock) = Sock::<Probed>::from_raw(entry.listener) {
        attribute(ctx, stage, entry, sock, listener);
        entry.listener = 0;
    }
}

/// Tallies what the call between [`entered`] and [`left`] threw away.
#[inline(always)]
fn attribute<R: Reach>(
    ctx: &impl EbpfContext,
    stage: DropStage,
    entry: &DropEntry,
    sock: Sock,
    listener: Option<Sock<R>>,
) {
    let mut none_dropped = false;
    if let Some(listener) = listener {
        if listener.key() != sock.key() {
            return;
        }
        // `tcp_listendrop` counts each drop in both places.
        none_dropped = R::typed() && u64::from(listener.drops()) == entry.drops;
    }
    let before = entry.before;
    let mut after = before;
    if !none_dropped {
        after.read_drops(entry.mib);
    }
    if stage == DropStage::Syn {
        after.read_syn_queue(entry.mib);
    }
    if after.drops == before.drops && after.cookies == before.cookies {
        return;
    }
    let overflows = after.overflows.wrapping_sub(before.overflows);
    let syn_queue = after.syn_queue.wrapping_sub(before.syn_queue);
    let drops = after.drops.wrapping_sub(before.drops);
    let cookies = after.cookies.wrapping_sub(before.cookies);
    let other = drops.saturating_sub(overflows + syn_queue);
    let (reason, n) = if overflows != 0 {
        (DropReason::AcceptQueueFull, overflows)
    } else if syn_queue != 0 {
        (DropReason::SynQueueFull, syn_queue)
    } else {
        (DropReason::Other, other)
    };
    if n != 0 {
        dropped(ctx, sock, key(sock, reason, stage), n, entry.skb);
    }
    if cookies != 0 {
        dropped(ctx, sock, key(sock, DropReason::SyncookieSent, stage), cookies, entry.skb);
    }
}

/// `tcp_check_req` gave no connection for a last ACK: `tcp_v4_rcv` discards the packet and counts
/// it in the listener's `sk_drops`, unless another CPU took the request first ("stolen").
#[inline(always)]
fn discarded() {
    let Some(entry) = DROP_ENTRIES.get_ptr_mut(DropStage::Ack as u32) else { return };
    // SAFETY: as in `entered`.
    let entry = unsafe { &mut *entry };
    if let Some(sock) = Sock::<Probed>::from_raw(entry.listener)
        && !kernel::flag_at(entry.stolen)
    {
        let key = key(sock, DropReason::Discarded, DropStage::Ack);
        tally::tally(&DROP_TALLY, SIGNAL, &key, Skb::from_raw(entry.skb).segments());
    }
}

#[inline(always)]
fn key(listener: Sock, reason: DropReason, stage: DropStage) -> DropKey {
    DropKey { listener: listener.inode(), reason: reason as u32, stage: stage as u32 }
}

#[inline(always)]
fn dropped(ctx: &impl EbpfContext, listener: Sock, key: DropKey, n: u64, skb: u64) {
    tally::remember_listener(SIGNAL, key.listener, Some(listener), None);
    if is_self_test(key.listener, key.reason) {
        return;
    }
    counted(ctx, listener, &key, n, skb);
}

/// Whether this is one of the tracer's own listeners. A cookie proves no hook that a drop does, and is not counted.
#[inline(always)]
fn is_self_test(listener: u64, reason: u32) -> bool {
    // SAFETY: copied at once, and never changed.
    let owner = unsafe { LISTENERS.get(listener) }.map_or(TaskKey::NONE, |info| info.owner);
    if reason == DropReason::SyncookieSent as u32 {
        return filter::is_tracer(owner);
    }
    filter::self_test(SIGNAL, owner)
}

/// Tallies what one call threw away, and sends its event.
#[inline(never)]
fn counted(ctx: &impl EbpfContext, listener: Sock, key: &DropKey, n: u64, skb: u64) {
    tally::count(SIGNAL, Stage::Seen, 1);
    // Before the filters: user space compares these totals with the namespace's.
    let tallied = tally::tally(&DROP_TALLY, SIGNAL, key, n);
    let wanted =
        filter::no_errno() && filter::owner_of(key.listener) && filter::socket(Some(listener));
    if !wanted {
        return tally::count(SIGNAL, Stage::Filtered, 1);
    }
    if !emit::admits(SIGNAL, tallied) {
        return;
    }
    let mut event = BacklogDropEvent {
        header: emit::header::<BacklogDropEvent>(SIGNAL, Actor::NONE),
        key: *key,
        queue: listener.ack_backlog(),
        limit: listener.max_ack_backlog(),
        peer: Endpoint::NONE,
    };
    Skb::from_raw(skb).read_source(&mut event.peer);
    emit::submit(ctx, SIGNAL, tallied, &event);
}

// --- fentry tier -------------------------------------------------------------------------------

/// `int tcp_conn_request(rsk_ops, af_ops, sk, skb)`: a SYN.
#[fentry]
fn backlog_drop_syn_fentry(ctx: FEntryContext) -> i32 {
    entered(DropStage::Syn, Sock::<Typed>::from_raw(ctx.arg(2)), ctx.arg(3), 0);
    0
}

/// As [`backlog_drop_syn_fentry`].
#[fexit]
fn backlog_drop_syn_fexit(ctx: FExitContext) -> i32 {
    left(&ctx, DropStage::Syn, Sock::<Typed>::from_raw(ctx.arg(2)));
    0
}

/// `struct sock *tcp_check_req(sk, skb, req, bool fastopen, bool *req_stolen, ...)`: the last ACK.
/// With `fastopen` it is called for a child, perhaps in process context, and drops nothing.
#[fentry]
fn backlog_drop_ack_fentry(ctx: FEntryContext) -> i32 {
    if !is_true(ctx.arg(3)) {
        entered(DropStage::Ack, Sock::<Typed>::from_raw(ctx.arg(0)), ctx.arg(1), 0);
    }
    0
}

/// As [`backlog_drop_ack_fentry`].
#[fexit]
fn backlog_drop_ack_fexit(ctx: FExitContext) -> i32 {
    if !is_true(ctx.arg(3)) {
        left(&ctx, DropStage::Ack, Sock::<Typed>::from_raw(ctx.arg(0)));
    }
    0
}

/// `struct sock *tcp_get_cookie_sock(sk, skb, req, dst, ...)`: the last ACK of a syncookie.
#[fentry]
fn backlog_drop_cookie_fentry(ctx: FEntryContext) -> i32 {
    entered(DropStage::Cookie, Sock::<Typed>::from_raw(ctx.arg(0)), ctx.arg(1), 0);
    0
}

/// As [`backlog_drop_cookie_fentry`].
#[fexit]
fn backlog_drop_cookie_fexit(ctx: FExitContext) -> i32 {
    left(&ctx, DropStage::Cookie, Sock::<Typed>::from_raw(ctx.arg(0)));
    0
}

// --- kprobe tier: the functions do not block, so kretprobes lose nothing -------------------------

/// As [`backlog_drop_syn_fentry`].
#[kprobe]
fn backlog_drop_syn_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(sock), Some(skb)) = (ctx.arg(2), ctx.arg(3)) {
        entered::<Probed>(DropStage::Syn, Sock::from_raw(sock), skb, 0);
    }
    0
}

/// As [`backlog_drop_syn_fentry`].
#[kretprobe]
fn backlog_drop_syn_kretprobe(ctx: RetProbeContext) -> u32 {
    left::<Probed>(&ctx, DropStage::Syn, None);
    0
}

/// As [`backlog_drop_ack_fentry`].
#[kprobe]
fn backlog_drop_ack_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(sock), Some(skb), Some(fastopen), Some(stolen)) =
        (ctx.arg(0), ctx.arg(1), ctx.arg(3), ctx.arg(4))
        && !is_true(fastopen)
    {
        entered::<Probed>(DropStage::Ack, Sock::from_raw(sock), skb, stolen);
    }
    0
}

/// As [`backlog_drop_ack_fentry`].
#[kretprobe]
fn backlog_drop_ack_kretprobe(ctx: RetProbeContext) -> u32 {
    if ctx.ret::<u64>() == 0 {
        discarded();
    }
    left::<Probed>(&ctx, DropStage::Ack, None);
    0
}

/// As [`backlog_drop_cookie_fentry`].
#[kprobe]
fn backlog_drop_cookie_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(sock), Some(skb)) = (ctx.arg(0), ctx.arg(1)) {
        entered::<Probed>(DropStage::Cookie, Sock::from_raw(sock), skb, 0);
    }
    0
}

/// As [`backlog_drop_cookie_fentry`].
#[kretprobe]
fn backlog_drop_cookie_kretprobe(ctx: RetProbeContext) -> u32 {
    left::<Probed>(&ctx, DropStage::Cookie, None);
    0
}

// --- tracepoint tier ---------------------------------------------------------------------------

/// `skb:kfree_skb(skb, location, reason, rx_sk)`, where the kernel has all four (6.11) and the
/// reason `TCP_LISTEN_OVERFLOW` (6.15). A packet that is freed in `tcp_v4_rcv` itself with a
/// listener at hand comes from `discard_and_relse`, which counts it in that listener's
/// `sk_drops`; with that reason, a connection was thrown away at its last ACK, too.
#[raw_tracepoint]
fn backlog_drop_kfree_skb(ctx: RawTracePointContext) -> i32 {
    let location = ctx.arg::<u64>(1);
    let in_v4 = location >= offset!(tcp_v4_rcv[0]) && location < offset!(tcp_v4_rcv[1]);
    let in_v6 = location >= offset!(tcp_v6_rcv[0]) && location < offset!(tcp_v6_rcv[1]);
    if (in_v4 || in_v6)
        && let Some(listener) = Sock::<Probed>::from_raw(ctx.arg(3))
        && listener.listens()
    {
        let discarded = key(listener, DropReason::Discarded, DropStage::Ack);
        let segments = Skb::from_raw(ctx.arg(0)).segments();
        tally::tally(&DROP_TALLY, SIGNAL, &discarded, segments);
        if ctx.arg::<u32>(2) == offset!(reason_listen_overflow) {
            let key = key(listener, DropReason::AcceptQueueFull, DropStage::Ack);
            dropped(&ctx, listener, key, 1, ctx.arg(0));
        }
    }
    0
}

// --- every tier: sock:inet_sock_set_state and tcp:tcp_destroy_sock -----------------------------

/// The current task closes `listener`: what is in its queue now is destroyed next, by this task
/// (`inet_csk_listen_stop`).
#[inline(never)]
pub(super) fn closing(listener: Sock) {
    // Of a listener that was shut down before, and is not destroyed yet.
    closed_one();
    let queue = listener.ack_backlog();
    if queue == 0 {
        return;
    }
    let (inode, limit) = (listener.inode(), listener.max_ack_backlog());
    let closing = Closing { listener: listener.key(), inode, queue, limit };
    tally::remember_listener(SIGNAL, inode, Some(listener), None);
    tally::begins(UnderWay::Closing);
    if CLOSING.insert(pid_tgid(), closing, BPF_NOEXIST).is_err() {
        tally::ends(UnderWay::Closing);
        tally::count(SIGNAL, Stage::LostPending, 1);
    }
}

/// The current task closes no listener (any more).
#[inline(always)]
pub(super) fn closed_one() {
    if tally::any(UnderWay::Closing) && CLOSING.remove(pid_tgid()).is_ok() {
        tally::ends(UnderWay::Closing);
    }
}

/// A connection that nobody accepted was destroyed: thrown away with its listener, if the current
/// task is closing one.
#[inline(always)]
pub(super) fn left_in_queue(ctx: &impl EbpfContext, child: u64, listener: u64) {
    // SAFETY: copied at once; only this task writes this entry.
    let Some(closing) = (unsafe { CLOSING.get(pid_tgid()) }) else { return };
    let Closing { inode, queue, limit, .. } = *closing;
    if listener != 0 && listener != inode {
        return;
    }
    let Some(child) = Sock::<Probed>::from_raw(child) else { return };
    left_in_tcp_queue(ctx, child, inode, [queue, limit]);
}

/// The current task closes `listener`, and throws out a connection that nobody accepted: it was the first in the
/// queue.
#[inline(always)]
pub(super) fn thrown_out(ctx: &impl EbpfContext, child: Sock, listener: Sock) {
    let inode = listener.inode();
    tally::remember_listener(SIGNAL, inode, Some(listener), None);
    left_in_tcp_queue(ctx, child, inode, [listener.ack_backlog() + 1, listener.max_ack_backlog()]);
}

#[inline(never)]
fn left_in_tcp_queue(ctx: &impl EbpfContext, child: Sock, inode: u64, queue: [u32; 2]) {
    let mut local = Endpoint::NONE;
    (local.family, local.port) = (child.family(), child.local_port());
    left_behind(ctx, inode, &local, queue);
}

/// A Unix connection that nobody accepted was thrown away with its listener.
#[inline(never)]
pub(super) fn left_in_unix_queue(ctx: &impl EbpfContext, start: &AcceptStart) {
    let mut local = Endpoint::NONE;
    local.family = start.family;
    left_behind(ctx, start.listener, &local, [0; 2]);
}

/// The current task destroyed `sock`: the listener that it closes, or what lay in the `queue` of that one (an inode, or 0).
/// The kernel takes each out before it destroys it, so the last leaves an empty queue; a listener that is shut down is
/// destroyed only later.
#[inline(always)]
pub(super) fn destroyed(sock: u64, queue: Option<u64>) {
    if !tally::any(UnderWay::Closing) {
        return;
    }
    // SAFETY: copied at once; only this task writes this entry.
    let Some(closing) = (unsafe { CLOSING.get(pid_tgid()) }) else { return };
    let Closing { listener, inode, .. } = *closing;
    // A softirq in between destroys others.
    let was_in_it = queue.is_some_and(|queue| queue == 0 || queue == inode);
    let is_empty = || Sock::<Probed>::from_raw(listener).is_some_and(|it| it.ack_backlog() == 0);
    if listener == sock || (was_in_it && is_empty()) {
        closed_one();
    }
}

/// Tallies one connection that a closed listener left behind, and sends its event.
#[inline(always)]
fn left_behind(ctx: &impl EbpfContext, inode: u64, local: &Endpoint, [queue, limit]: [u32; 2]) {
    let reason = DropReason::ListenerClosed as u32;
    let key = DropKey { listener: inode, reason, stage: DropStage::NONE };
    if is_self_test(inode, reason) {
        return;
    }
    tally::count(SIGNAL, Stage::Seen, 1);
    let tallied = tally::tally(&DROP_TALLY, SIGNAL, &key, 1);
    if !filter::no_errno() || !filter::owner_of(inode) || !filter::endpoint(local) {
        return tally::count(SIGNAL, Stage::Filtered, 1);
    }
    let mut event = BacklogDropEvent {
        header: emit::header::<BacklogDropEvent>(SIGNAL, Task::actor()),
        key,
        queue,
        limit,
        peer: Endpoint::NONE,
    };
    event.peer.family = local.family;
    emit::send(ctx, SIGNAL, tallied, &event);
}

/// `listener` leaves LISTEN: the last chance to read its own counter.
#[inline(never)]
pub(super) fn closed(listener: Sock) {
    let inode = listener.inode();
    tally::remember_listener(SIGNAL, inode, Some(listener), None);
    if let Some(info) = LISTENERS.get_ptr_mut(inode) {
        // Of MPTCP, both sockets leave LISTEN, and only the inner one drops.
        let drops = u64::from(listener.handshake().drops());
        // SAFETY: a live map value, and an aligned integer that only this writes.
        unsafe { (*info).drops_at_close = drops };
    }
}
