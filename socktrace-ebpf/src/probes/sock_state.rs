//! `sock:inet_sock_set_state` and `tcp:tcp_destroy_sock`: TCP sockets change state and go away.
//!
//! Each hook is attached as two copies of one raw tracepoint program: while a program runs in process
//! context, the kernel skips the same program in a softirq on that CPU, but not its copy. Some
//! kernels (7.2) run raw tracepoints preemptibly, where one thread after the other can be stopped
//! inside both copies: there, a perf tracepoint is attached, too, which they do not. Everything that these
//! call may run three times for one transition.

use aya_ebpf::{
    EbpfContext,
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use socktrace_common::{Signal, Tier};

use super::{accept, backlog_drop, connect_handshake, field};
use crate::{
    globals::{lean, on, tier},
    kernel::Sock,
};

const ESTABLISHED: u32 = 1;
const SYN_SENT: u32 = 2;
const SYN_RECV: u32 = 3;
const CLOSE: u32 = 7;
const LISTEN: u32 = 10;
const BPF_NOEXIST: u64 = 1;

/// Whether `signal` is on, in a tier below fentry.
#[inline(always)]
fn outside_fentry(signal: Signal) -> bool {
    on(signal) && !tier(signal, Tier::Fentry)
}

/// Whether `signal` learns from these hooks what becomes of a socket, and not from hooks of its own.
#[inline(always)]
fn here(signal: Signal) -> bool {
    on(signal) && !lean(signal)
}

#[inline(always)]
fn changed(ctx: &impl EbpfContext, sock: u64, old: u32, new: u32) {
    let Some(sock) = Sock::from_raw(sock) else { return };
    match (old, new) {
        // The child of a handshake, in inet_csk_clone_lock(), before it is queued. In the kprobe
        // tier the hook on the queue writes over it, unless the kernel skips that one.
        (LISTEN, SYN_RECV) if outside_fentry(Signal::Accept) => {
            accept::started(sock, None, BPF_NOEXIST);
        }
        (SYN_RECV, ESTABLISHED) if tier(Signal::Accept, Tier::Tracepoint) => {
            accept::established(sock);
        }
        (LISTEN, CLOSE) if on(Signal::BacklogDrop) => {
            if !tier(Signal::BacklogDrop, Tier::Fentry) {
                backlog_drop::closed(sock);
            }
            if here(Signal::Accept) {
                backlog_drop::closing(sock);
            }
        }
        // Of MPTCP, each subflow comes by itself.
        (_, SYN_SENT) if here(Signal::ConnectFailure) && sock.is_tcp() => {
            connect_handshake::syn_sent(sock);
        }
        (SYN_SENT, CLOSE) if here(Signal::ConnectFailure) => {
            connect_handshake::syn_sent_closed(ctx, sock);
        }
        (SYN_SENT, _) if here(Signal::ConnectFailure) => connect_handshake::forgotten(sock.key()),
        _ => {}
    }
}

#[inline(always)]
fn destroyed(ctx: &impl EbpfContext, sock: u64) {
    if here(Signal::Accept) {
        let dropping = on(Signal::BacklogDrop);
        let queue = accept::forgotten(sock);
        if dropping {
            if let Some(listener) = queue {
                backlog_drop::left_in_queue(ctx, sock, listener);
            }
            backlog_drop::destroyed(sock, queue);
        }
    }
    if here(Signal::ConnectFailure) {
        connect_handshake::forgotten(sock);
    }
}

/// `sock:inet_sock_set_state(sk, oldstate, newstate)`.
#[raw_tracepoint]
fn sock_state(ctx: RawTracePointContext) -> i32 {
    changed(&ctx, ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

/// Twin of [`sock_state`].
#[raw_tracepoint]
fn sock_state_twin(ctx: RawTracePointContext) -> i32 {
    changed(&ctx, ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

/// `tcp:tcp_destroy_sock(sk)`.
#[raw_tracepoint]
fn sock_destroy(ctx: RawTracePointContext) -> i32 {
    destroyed(&ctx, ctx.arg(0));
    0
}

/// Twin of [`sock_destroy`].
#[raw_tracepoint]
fn sock_destroy_twin(ctx: RawTracePointContext) -> i32 {
    destroyed(&ctx, ctx.arg(0));
    0
}

/// Third of [`sock_state`]: `skaddr`, `oldstate`, `newstate` of the record.
#[tracepoint]
fn sock_state_perf(ctx: TracePointContext) -> u32 {
    changed(&ctx, field(&ctx, 8), field(&ctx, 16), field(&ctx, 20));
    0
}

/// Third of [`sock_destroy`]: `skaddr` of the record.
#[tracepoint]
fn sock_destroy_perf(ctx: TracePointContext) -> u32 {
    destroyed(&ctx, field(&ctx, 8));
    0
}
