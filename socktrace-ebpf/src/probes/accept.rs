//! `accept`: how long a connection waited in the accept queue.
//!
//! The wait starts when the connection enters the queue and ends when `accept()` takes it out.
//! `ACCEPT_STARTS[child]` holds the start; taking it out, or marking it, is the token that makes
//! the end count exactly once, however many hooks see it. The primary end hook also counts
//! connections whose start nobody saw (queued before the attach): their wait is unknown. Unix
//! connections in the tracepoint tier have no start of their own, see `accept_meeting.rs`.

use aya_ebpf::{
    EbpfContext,
    macros::{fentry, fexit, kprobe},
    programs::{FEntryContext, FExitContext, ProbeContext},
};
use socktrace_common::{
    AcceptEvent, AcceptKey, AcceptStart, Endpoint, Signal, Stage, Tier, WAIT_UNKNOWN,
};

use super::{accept_error, backlog_drop, connect_blocked, is_true};
use crate::{
    emit, filter,
    globals::{lean, on, param, tier},
    kernel::{AF_UNIX, Probed, Reach, Sock, Socket, Task, Typed, now_ns, pid_tgid},
    maps::{ACCEPT_STARTS, ACCEPT_TALLY, ACCEPTOR_SLOTS, ACCEPTORS, LISTENERS},
    tally::{self, Tallied},
};

pub(super) const BPF_ANY: u64 = 0;
pub(super) const BPF_NOEXIST: u64 = 1;
const BPF_EXIST: u64 = 2;
pub(super) const EEXIST: i32 = -17;
pub(super) const SIGNAL: Signal = Signal::Accept;

/// `child` entered the accept queue of `listener`.
#[inline(never)]
pub(super) fn started<R: Reach>(child: Sock<R>, listener: Option<Sock<R>>, flags: u64) {
    let ends = child.ends();
    let (peer, peer_port) = ends.remote();
    let start = AcceptStart {
        time_ns: now_ns(),
        listener: listener.map_or(0, Sock::inode),
        client: 0,
        pid: 0,
        netns: child.net().inum(),
        peer,
        peer_port,
        port: ends.local_port(),
        family: ends.family(),
        pad: [0; 5],
    };
    insert(child, &start, flags);
}

/// The current task's `client` has queued `child` at `listener` (Unix).
#[inline(never)]
fn unix_started<R: Reach>(client: Option<Sock<R>>, listener: Option<Sock<R>>, child: Sock<R>) {
    let start = AcceptStart {
        time_ns: now_ns(),
        listener: listener.map_or(0, Sock::inode),
        client: client.map_or(0, Sock::inode),
        pid: (pid_tgid() >> 32) as u32,
        netns: child.net().inum(),
        peer: [0; 16],
        peer_port: 0,
        port: 0,
        family: AF_UNIX,
        pad: [0; 5],
    };
    insert(child, &start, BPF_ANY);
}

#[inline(always)]
fn insert<R: Reach>(child: Sock<R>, start: &AcceptStart, flags: u64) {
    match ACCEPT_STARTS.insert(child.key(), start, flags) {
        Ok(()) | Err(EEXIST) => {}
        Err(_) => tally::count(SIGNAL, Stage::LostPending, 1),
    }
}

/// `child` has its peer's address now; where its start was seen, it had none.
#[inline(never)]
pub(super) fn established(child: Sock) {
    // SAFETY: copied at once.
    let Some(start) = (unsafe { ACCEPT_STARTS.get(child.key()) }) else { return };
    if start.peer_port != 0 {
        // The twin of this hook was here.
        return;
    }
    let mut start = *start;
    (start.peer, start.peer_port) = child.ends().remote();
    // BPF_EXIST: it may be accepted by now.
    let _ = ACCEPT_STARTS.insert(child.key(), &start, BPF_EXIST);
}

/// `child` was destroyed; the inode of its listener (0 where unknown) if it was in a queue until then:
/// nobody accepted it.
#[inline(always)]
pub(super) fn forgotten(child: u64) -> Option<u64> {
    let start = ACCEPT_STARTS.get_ptr(child)?;
    // SAFETY: a live map value.
    let (time_ns, listener) = unsafe { ((*start).time_ns, (*start).listener) };
    // Of the hooks on one destruction, one removes it.
    let removed = ACCEPT_STARTS.remove(child).is_ok();
    (removed && time_ns != COUNTED).then_some(listener)
}

/// Which of the hooks on the end of a wait this is. Both run in the accepting task, for TCP the
/// primary first (`inet_csk_accept` returns, then the connection is grafted), for Unix the twin
/// first (`unix_accept` grafts before it returns); twins of the same kind in either order.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum End {
    /// Sees every accept, and takes the start out.
    Primary,
    /// Stands in for a primary hook that the kernel's recursion guard skipped. It leaves the
    /// start in, marked as counted, for a primary that comes later, or else for the cleanup.
    Twin,
}

/// `time_ns` of a start whose end was counted.
const COUNTED: u64 = 0;

/// The current task took `child` out of the accept queue of `listener`.
#[inline(always)]
pub(super) fn ended<R: Reach>(
    ctx: &impl EbpfContext,
    child: Sock<R>,
    listener: Option<Sock<R>>,
    end: End,
) {
    let mut inode = 0;
    let mut wait_ns = WAIT_UNKNOWN;
    if let Some(start) = ACCEPT_STARTS.get_ptr_mut(child.key()) {
        // SAFETY: a live map value; the two ends of one connection are one task's, in turn.
        let started_ns = unsafe { (*start).time_ns };
        // SAFETY: as above.
        inode = unsafe { (*start).listener };
        if end == End::Twin {
            // SAFETY: as above.
            unsafe { (*start).time_ns = COUNTED };
        } else {
            let _ = ACCEPT_STARTS.remove(child.key());
        }
        if started_ns == COUNTED {
            return;
        }
        wait_ns = now_ns().saturating_sub(started_ns);
    } else if end == End::Twin {
        return;
    }
    let listener = listener.filter(|listener| {
        let own = listener.inode();
        let is_its = inode == 0 || inode == own || may_have_moved(child, *listener);
        if is_its {
            inode = own;
        }
        is_its
    });
    counted(ctx, child, inode, listener, wait_ns);
}

/// Whether `child` can have moved to the queue of `listener` since its start: within a group of one
/// port (`net.ipv4.tcp_migrate_req`). Any other listener is that of a call that is long over:
/// the kprobe tier does not see the end of those of 32-bit programs.
#[inline(always)]
fn may_have_moved<R: Reach>(child: Sock<R>, listener: Sock<R>) -> bool {
    let port = child.local_port();
    port != 0 && port == listener.local_port()
}

/// Tallies one accepted connection, and sends its event if it waited long.
#[inline(never)]
pub(super) fn counted<R: Reach>(
    ctx: &impl EbpfContext,
    child: Sock<R>,
    inode: u64,
    listener: Option<Sock<R>>,
    wait_ns: u64,
) {
    let task = Task::current_key();
    // Its waits are known, if the hooks on their starts fire, too.
    if wait_ns != WAIT_UNKNOWN && filter::self_test(SIGNAL, task) {
        return;
    }
    tally::count(SIGNAL, Stage::Seen, 1);
    // Whoever accepts: a listener that somebody else accepts from does not stall.
    tally::note_accept(inode, task);
    let wanted =
        filter::no_errno() && filter::process(task) && filter::socket(Some(child.probed()));
    if !wanted {
        return tally::count(SIGNAL, Stage::Filtered, 1);
    }
    let key = AcceptKey { task, listener: inode };
    let tallied = tally::tally_wait(&ACCEPT_TALLY, SIGNAL, &key, wait_ns, || {
        tally::remember_current(SIGNAL);
        let known = LISTENERS.get_ptr(inode).is_some();
        let listener = listener.map(Sock::probed);
        tally::remember_listener(SIGNAL, inode, listener, Some(child.probed()));
        tally::select_listener(inode);
        if !known {
            tally::note_accept(inode, task);
        }
    });
    if wait_ns == WAIT_UNKNOWN {
        tally::count(SIGNAL, Stage::Unpaired, 1);
    }
    let slow_ns = param!(slow_ns);
    if slow_ns != 0 && (wait_ns == WAIT_UNKNOWN || wait_ns < slow_ns) {
        return tally::count(SIGNAL, Stage::BelowThreshold, 1);
    }
    describe(ctx, child.probed(), inode, wait_ns, tallied);
}

/// Sends the event of one accepted connection.
#[inline(never)]
fn describe(ctx: &impl EbpfContext, child: Sock, inode: u64, wait_ns: u64, tallied: Tallied) {
    let mut event = AcceptEvent {
        header: emit::header::<AcceptEvent>(SIGNAL, Task::actor()),
        listener: inode,
        wait_ns,
        peer: Endpoint::NONE,
    };
    child.read_remote(&mut event.peer);
    emit::send(ctx, SIGNAL, tallied, &event);
}

// --- fentry tier -------------------------------------------------------------------------------

/// `struct sock *inet_csk_complete_hashdance(sk, child, req, bool own_req)`: the last ACK of an
/// ordinary handshake. `inet_csk_reqsk_queue_add` is inlined here since 6.1.
#[fentry]
fn accept_hashdance_fentry(ctx: FEntryContext) -> i32 {
    if is_true(ctx.arg(3))
        && let Some(child) = Sock::<Typed>::from_raw(ctx.arg(1))
    {
        started(child, Sock::from_raw(ctx.arg(0)), BPF_ANY);
    }
    0
}

/// `struct sock *inet_csk_reqsk_queue_add(sk, req, child)`: TCP Fast Open and syncookies; on
/// 5.10 also every ordinary handshake, for the second time.
#[fentry]
fn accept_queue_add_fentry(ctx: FEntryContext) -> i32 {
    if let Some(child) = Sock::<Typed>::from_raw(ctx.arg(2)) {
        started(child, Sock::from_raw(ctx.arg(0)), BPF_NOEXIST);
    }
    0
}

/// `void inet_child_forget(sk, req, child)`: the only way out of an accept queue but `accept()`. It runs with
/// softirqs off and the child locked, so that nothing interrupts it on this CPU.
#[fentry]
fn accept_child_forget_fentry(ctx: FEntryContext) -> i32 {
    if forgotten(ctx.arg(2)).is_some()
        && on(Signal::BacklogDrop)
        && let (Some(child), Some(listener)) =
            (Sock::from_raw(ctx.arg(2)), Sock::from_raw(ctx.arg(0)))
    {
        backlog_drop::thrown_out(&ctx, child, listener);
    }
    0
}

/// `struct sock *inet_csk_accept(sk, struct proto_accept_arg *arg)`, 6.10 and later.
#[fexit]
fn accept_tcp_fexit_2(ctx: FExitContext) -> i32 {
    tcp_accepted(&ctx, ctx.arg(0), ctx.arg(2), End::Primary)
}

/// `struct sock *inet_csk_accept(sk, int flags, int *err, bool kern)`, before 6.10.
#[fexit]
fn accept_tcp_fexit_4(ctx: FExitContext) -> i32 {
    tcp_accepted(&ctx, ctx.arg(0), ctx.arg(4), End::Primary)
}

/// Twin of [`accept_tcp_fexit_2`] where the kernel has no kprobes.
#[fexit]
fn accept_tcp_fexit_2_twin(ctx: FExitContext) -> i32 {
    tcp_accepted(&ctx, ctx.arg(0), ctx.arg(2), End::Twin)
}

/// Twin of [`accept_tcp_fexit_4`] where the kernel has no kprobes.
#[fexit]
fn accept_tcp_fexit_4_twin(ctx: FExitContext) -> i32 {
    tcp_accepted(&ctx, ctx.arg(0), ctx.arg(4), End::Twin)
}

#[inline(always)]
fn tcp_accepted(ctx: &FExitContext, listener: u64, child: u64, end: End) -> i32 {
    if let Some(child) = Sock::<Typed>::from_raw(child) {
        ended(ctx, child, Sock::from_raw(listener), end);
    }
    0
}

/// `void security_sock_graft(sk, struct socket *parent)`, where nobody is preempted: no fexit sees the end of a call that
/// was under way at the attach. It can be the first one that its thread takes a connection with, and no other.
#[fentry]
fn accept_graft_fentry(ctx: FEntryContext) -> i32 {
    if takes_its_first()
        && let Some(child) = Sock::<Probed>::from_raw(ctx.arg(0)).map(Sock::handshake)
        && ACCEPT_STARTS.get_ptr(child.key()).is_some()
    {
        // The end of a Unix accept may still come, and that of a TCP accept has been here.
        let end = if child.is_unix() { End::Twin } else { End::Primary };
        ended(&ctx, child, None, end);
    }
    0
}

/// Whether the current thread has taken no connection before, as far as is remembered; from now on it has.
#[inline(always)]
fn takes_its_first() -> bool {
    let thread = pid_tgid() as u32;
    let Some(last) = ACCEPTORS.get_ptr_mut(thread % ACCEPTOR_SLOTS) else { return true };
    // SAFETY: a live map value and an aligned integer; who is overwritten by another takes its first once more, and
    // what was counted is not counted again.
    unsafe {
        let first = *last != thread;
        if first {
            *last = thread;
        }
        first
    }
}

/// `int security_unix_stream_connect(sk, other, newsk)`: runs under the listener's lock just
/// before the connection is queued, after any wait for room.
#[fexit]
fn accept_unix_start_fexit(ctx: FExitContext) -> i32 {
    if ctx.arg::<i32>(3) == 0
        && let Some(child) = Sock::<Typed>::from_raw(ctx.arg(2))
    {
        unix_started(Sock::from_raw(ctx.arg(0)), Sock::from_raw(ctx.arg(1)), child);
        if tier(Signal::ConnectBlocked, Tier::Fentry) {
            connect_blocked::came_through();
        }
    }
    0
}

/// `int unix_accept(sock, newsock, struct proto_accept_arg *arg)`, 6.10 and later.
#[fexit]
fn accept_unix_fexit_3(ctx: FExitContext) -> i32 {
    unix_accepted(&ctx, ctx.arg(3), End::Primary)
}

/// `int unix_accept(sock, newsock, int flags, bool kern)`, before 6.10.
#[fexit]
fn accept_unix_fexit_4(ctx: FExitContext) -> i32 {
    unix_accepted(&ctx, ctx.arg(4), End::Primary)
}

/// Twin of [`accept_unix_fexit_3`] where the kernel has no kprobes.
#[fexit]
fn accept_unix_fexit_3_twin(ctx: FExitContext) -> i32 {
    unix_accepted(&ctx, ctx.arg(3), End::Twin)
}

/// Twin of [`accept_unix_fexit_4`] where the kernel has no kprobes.
#[fexit]
fn accept_unix_fexit_4_twin(ctx: FExitContext) -> i32 {
    unix_accepted(&ctx, ctx.arg(4), End::Twin)
}

#[inline(always)]
fn unix_accepted(ctx: &FExitContext, result: i32, end: End) -> i32 {
    if result == 0
        && let Some(child) = Socket::<Typed>::from_raw(ctx.arg(1)).sock()
    {
        ended(ctx, child, Socket::from_raw(ctx.arg(0)).sock(), end);
    }
    0
}

/// `void unix_release_sock(sk, int embrion)`: a queued connection whose listener closed, or the
/// child of a connect that failed after it was made.
#[fentry]
fn accept_unix_release_fentry(ctx: FEntryContext) -> i32 {
    let embrion = ctx.arg::<u64>(1);
    // A connect that has come so far as to be a start does not fail any more. A mark that is left of a call that was
    // under way at the attach (one for each thread) may stay: whoever lies there next writes over it.
    if !lean(SIGNAL) || embrion as u32 != 0 {
        released(&ctx, ctx.arg(0), embrion);
    }
    0
}

/// `embrion`: the socket lay in the queue of a listener that is being closed. Else it is closed by
/// its program, or it belongs to a connect that failed after it was made.
#[inline(always)]
fn released(ctx: &impl EbpfContext, sock: u64, embrion: u64) {
    // SAFETY: copied at once.
    let Some(start) = (unsafe { ACCEPT_STARTS.get(sock) }).copied() else { return };
    if forgotten(sock).is_some() && on(Signal::BacklogDrop) && embrion as u32 != 0 {
        backlog_drop::left_in_unix_queue(ctx, &start);
    }
}

// --- kprobe tier -------------------------------------------------------------------------------

/// As [`accept_hashdance_fentry`].
#[kprobe]
fn accept_hashdance_kprobe(ctx: ProbeContext) -> u32 {
    if ctx.arg(3).is_some_and(is_true)
        && let Some(child) = ctx.arg(1).and_then(Sock::<Probed>::from_raw)
    {
        started(child, ctx.arg(0).and_then(Sock::<Probed>::from_raw), BPF_ANY);
    }
    0
}

/// As [`accept_queue_add_fentry`], over the start from `sock_state`, which has no listener.
#[kprobe]
fn accept_queue_add_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(child) = ctx.arg(2).and_then(Sock::<Probed>::from_raw) {
        started(child, ctx.arg(0).and_then(Sock::<Probed>::from_raw), BPF_ANY);
    }
    0
}

/// As [`accept_unix_start_fexit`], at entry: a security module may still refuse the connection,
/// whose child is then released.
#[kprobe]
fn accept_unix_start_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(child) = ctx.arg(2).and_then(Sock::<Probed>::from_raw) {
        let client = ctx.arg(0).and_then(Sock::<Probed>::from_raw);
        unix_started(client, ctx.arg(1).and_then(Sock::<Probed>::from_raw), child);
    }
    0
}

/// `void security_sock_graft(sk, struct socket *parent)`: `accept()` gives the connection its
/// descriptor's socket, TCP and Unix alike; of MPTCP, another one than that which was queued. An entry probe,
/// because a kretprobe on a function that blocks loses calls.
#[kprobe]
fn accept_graft_kprobe(ctx: ProbeContext) -> u32 {
    grafted(&ctx, End::Primary)
}

/// Twin of the fentry tier's ends: another kind of program, so that what makes the kernel skip
/// one does not make it skip both.
#[kprobe]
fn accept_graft_kprobe_twin(ctx: ProbeContext) -> u32 {
    let child = ctx.arg(0).and_then(Sock::<Probed>::from_raw).map(Sock::handshake);
    // Nothing is left to do for a connection that the primary hook has counted.
    if child.is_some_and(|child| ACCEPT_STARTS.get_ptr(child.key()).is_some()) {
        grafted(&ctx, End::Twin);
    }
    0
}

#[inline(always)]
fn grafted(ctx: &ProbeContext, end: End) -> u32 {
    if let Some(child) = ctx.arg(0).and_then(Sock::<Probed>::from_raw)
        && child.in_scope()
    {
        ended(ctx, child.handshake(), accept_error::listener_of_call(), end);
    }
    0
}

/// As [`accept_unix_release_fentry`].
#[kprobe]
fn accept_unix_release_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(sock), Some(embrion)) = (ctx.arg(0), ctx.arg(1)) {
        released(&ctx, sock, embrion);
    }
    0
}
