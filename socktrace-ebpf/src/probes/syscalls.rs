//! `syscalls:sys_enter_*` and `sys_exit_*` of accept, connect and listen: the tracepoint tier of
//! every signal, and the results that the kprobe tier cannot take from a kretprobe.
//!
//! These tracepoints do not fire for io_uring, nor for 32-bit tasks.

use aya_ebpf::{
    EbpfContext,
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use socktrace_common::{Endpoint, Signal, Tier};

use super::{accept, accept_error, accept_meeting, connect_blocked, connect_failure, listen};
use crate::{
    globals::{on, tier},
    kernel::{AF_UNIX, SOCK_STREAM, Sock, Socket, Task, pid_tgid, read_user_address},
    maps::{ACCEPT_CALLS, BLOCKED_CALLS, CONNECT_CALLS, ConnectCall, LISTEN_CALLS},
};

const SOCK_SEQPACKET: u16 = 5;
/// First argument of `sys_enter_*`, result of `sys_exit_*`.
const FIRST: usize = 16;

/// Reads field `offset` of a tracepoint's record; the verifier knows the context's size.
#[inline(always)]
fn field<T: Copy>(ctx: &TracePointContext, offset: usize) -> T {
    // SAFETY: fields of the record, at the offsets of its format file (the same since 5.10).
    unsafe { *ctx.as_ptr().add(offset).cast::<T>() }
}

// --- accept ------------------------------------------------------------------------------------

#[inline(always)]
fn accept_returned(ctx: &impl EbpfContext, result: i64) {
    // SAFETY: copied at once; only this task writes this entry.
    let (listener, inode) = match unsafe { ACCEPT_CALLS.get(pid_tgid()) } {
        Some(call) => (call.listener, call.inode),
        None => (0, 0),
    };
    let _ = ACCEPT_CALLS.remove(pid_tgid());
    let listener = Sock::from_raw(listener);
    if result < 0 {
        if on(Signal::AcceptError) && !tier(Signal::AcceptError, Tier::Fentry) {
            accept_error::failed(ctx, -result as u32, listener, inode);
        }
    } else if tier(Signal::Accept, Tier::Tracepoint)
        && let Some(child) = Task::current().socket(result as i32).and_then(Socket::sock)
        && child.in_scope()
    {
        if child.is_unix() {
            accept_meeting::unix_accept_returned(ctx, child, listener);
        } else {
            accept::ended(ctx, child, listener, accept::End::Primary);
        }
    }
}

/// `sys_enter_accept` and `sys_enter_accept4`: the descriptor.
#[tracepoint]
fn sys_enter_accept(ctx: TracePointContext) -> u32 {
    accept_error::called(field::<u64>(&ctx, FIRST) as i32);
    0
}

/// `sys_exit_accept` and `sys_exit_accept4`.
#[tracepoint]
fn sys_exit_accept(ctx: TracePointContext) -> u32 {
    accept_returned(&ctx, field(&ctx, FIRST));
    0
}

// --- connect -----------------------------------------------------------------------------------

#[inline(always)]
fn connect_returned(ctx: &impl EbpfContext, result: i64) {
    // SAFETY: only this task writes this entry, and it is removed below.
    let call = unsafe { CONNECT_CALLS.get(pid_tgid()) };
    if on(Signal::ConnectBlocked) && !tier(Signal::ConnectBlocked, Tier::Fentry) {
        connect_unblocked(ctx, call, result.unsigned_abs() as u32);
    }
    let accepts = tier(Signal::Accept, Tier::Tracepoint);
    if result < 0 || accepts {
        let sock = call.and_then(connecting);
        let failures = on(Signal::ConnectFailure) && !tier(Signal::ConnectFailure, Tier::Fentry);
        if result < 0 && failures {
            connect_failure::call_failed(ctx, call, sock, -result as u32);
        } else if result == 0
            && let Some(sock) = sock
            && sock.is_unix()
            && matches!(sock.kind(), SOCK_STREAM | SOCK_SEQPACKET)
        {
            accept_meeting::unix_connect_returned(sock);
        }
    }
    let _ = CONNECT_CALLS.remove(pid_tgid());
}

/// The socket of a `connect()` call.
#[inline(always)]
fn connecting(call: &ConnectCall) -> Option<Sock> {
    match Sock::from_raw(call.sock) {
        None => Task::current().socket(call.fd).and_then(Socket::sock),
        known => known,
    }
}

#[inline(always)]
fn connect_unblocked(ctx: &impl EbpfContext, call: Option<&ConnectCall>, errno: u32) {
    let target = call.map(|call| &call.target);
    if !tier(Signal::ConnectBlocked, Tier::Tracepoint) {
        return connect_blocked::returned(ctx, errno, target);
    }
    let stream = |sock: Sock| matches!(sock.kind(), SOCK_STREAM | SOCK_SEQPACKET);
    if call.and_then(connecting).is_some_and(|sock| sock.is_unix() && stream(sock)) {
        connect_blocked::returned_unseen(ctx, errno, target);
    } else {
        connect_blocked::forgotten();
    }
}

/// `sys_enter_connect`: descriptor, address, length. The address is read when the call failed:
/// by then its page is resident.
#[tracepoint]
fn sys_enter_connect(ctx: TracePointContext) -> u32 {
    let mut call = ConnectCall {
        sock: 0,
        user_address: field(&ctx, FIRST + 8),
        fd: field::<u64>(&ctx, FIRST) as i32,
        address_len: field::<u64>(&ctx, FIRST + 16) as i32,
        target: Endpoint::NONE,
    };
    if tier(Signal::ConnectBlocked, Tier::Tracepoint) {
        // Unless its page is not resident; then the call is seen when it returns.
        read_user_address(&mut call.target, call.user_address, call.address_len);
        if call.target.family == AF_UNIX {
            connect_blocked::called(&call.target);
        }
    }
    connect_failure::called(&call);
    0
}

/// `sys_exit_connect`.
#[tracepoint]
fn sys_exit_connect(ctx: TracePointContext) -> u32 {
    connect_returned(&ctx, field(&ctx, FIRST));
    0
}

// --- listen ------------------------------------------------------------------------------------

/// `sys_enter_listen`: descriptor and backlog.
#[tracepoint]
fn sys_enter_listen(ctx: TracePointContext) -> u32 {
    listen::called(field::<u64>(&ctx, FIRST) as i32, field::<u64>(&ctx, FIRST + 8) as i32);
    0
}

/// `sys_exit_listen`.
#[tracepoint]
fn sys_exit_listen(ctx: TracePointContext) -> u32 {
    listen::returned(&ctx, field(&ctx, FIRST));
    0
}

/// `sched:sched_process_exit`, in the exiting task: it may have been killed inside a call, which
/// then never returns.
#[raw_tracepoint]
fn calls_abandoned(_ctx: RawTracePointContext) -> i32 {
    let _ = ACCEPT_CALLS.remove(pid_tgid());
    let _ = CONNECT_CALLS.remove(pid_tgid());
    let _ = LISTEN_CALLS.remove(pid_tgid());
    let _ = BLOCKED_CALLS.remove(pid_tgid());
    0
}
