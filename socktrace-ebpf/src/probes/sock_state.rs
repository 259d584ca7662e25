//! `sock:inet_sock_set_state` and `tcp:tcp_destroy_sock`: TCP sockets change state and go away.
//!
//! Each hook is attached twice, as a perf tracepoint and as a raw tracepoint: a program that
//! runs in process context makes the kernel skip the same program in a softirq on that CPU, and
//! the two kinds have different guards. Everything they call may run twice for one transition.

use aya_ebpf::{
    EbpfContext,
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use socktrace_common::{Signal, Tier};

use super::{accept, backlog_drop, connect_failure};
use crate::{
    globals::{on, tier},
    kernel::Sock,
};

const SYN_SENT: u32 = 2;
const SYN_RECV: u32 = 3;
const CLOSE: u32 = 7;
const LISTEN: u32 = 10;
const BPF_NOEXIST: u64 = 1;

#[inline(always)]
fn changed(ctx: &impl EbpfContext, sock: u64, old: u32, new: u32) {
    let Some(sock) = Sock::from_raw(sock) else { return };
    match (old, new) {
        // The child of a handshake, in inet_csk_clone_lock(), before it is queued.
        (LISTEN, SYN_RECV) if tier(Signal::Accept, Tier::Tracepoint) => {
            accept::started(sock, None, BPF_NOEXIST);
        }
        (LISTEN, CLOSE) if tier(Signal::BacklogDrop, Tier::Tracepoint) => {
            backlog_drop::closed(sock);
        }
        (_, SYN_SENT) if on(Signal::ConnectFailure) && sock.in_scope() => {
            connect_failure::syn_sent(sock);
        }
        (SYN_SENT, CLOSE) if on(Signal::ConnectFailure) => {
            connect_failure::syn_sent_closed(ctx, sock);
        }
        (SYN_SENT, _) if on(Signal::ConnectFailure) => connect_failure::forgotten(sock.key()),
        _ => {}
    }
}

#[inline(always)]
fn destroyed(sock: u64) {
    if on(Signal::Accept) {
        accept::forgotten(sock);
    }
    if on(Signal::ConnectFailure) {
        connect_failure::forgotten(sock);
    }
}

/// Reads field `offset` of a tracepoint's record; the verifier knows the context's size.
#[inline(always)]
pub(super) fn field<T: Copy>(ctx: &TracePointContext, offset: usize) -> T {
    // SAFETY: fields of the record, at the offsets of its format file (the same since 5.10).
    unsafe { *ctx.as_ptr().add(offset).cast::<T>() }
}

/// `skaddr` at 8, `oldstate` at 16, `newstate` at 20.
#[tracepoint]
fn sock_state(ctx: TracePointContext) -> u32 {
    changed(&ctx, field(&ctx, 8), field(&ctx, 16), field(&ctx, 20));
    0
}

/// Twin of [`sock_state`].
#[raw_tracepoint]
fn sock_state_raw(ctx: RawTracePointContext) -> i32 {
    changed(&ctx, ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

/// `skaddr` at 8.
#[tracepoint]
fn sock_destroy(ctx: TracePointContext) -> u32 {
    destroyed(field(&ctx, 8));
    0
}

/// Twin of [`sock_destroy`].
#[raw_tracepoint]
fn sock_destroy_raw(ctx: RawTracePointContext) -> i32 {
    destroyed(ctx.arg(0));
    0
}
