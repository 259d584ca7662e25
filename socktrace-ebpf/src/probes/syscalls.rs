//! `syscalls:sys_enter_*` and `sys_exit_*` of accept, connect and listen: the tracepoint tier of
//! every signal, and the results that the kprobe tier cannot take from a kretprobe.
//!
//! These tracepoints do not fire for io_uring, nor for 32-bit tasks. Where a kernel
//! runs them preemptibly (7.2), each program has a twin: the first of the two that sees a call return leaves a
//! mark, by which the second knows that there is nothing left to do.

use aya_ebpf::{
    EbpfContext,
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use socktrace_common::{Signal, Tier, preempted};

use super::{
    accept, accept_error, accept_meeting, backlog_drop, connect_blocked,
    connect_failure::{self, Came},
    connect_handshake, field, listen,
};
use crate::{
    globals::{on, param, tier},
    kernel::{AF_UNIX, SOCK_STREAM, Sock, Socket, Task, pid_tgid, read_user_address},
    maps::{
        ACCEPT_CALLS, AcceptCall, CONNECT_CALLS, CONNECT_ENDS, CONNECT_REPORTED, ConnectCall,
        LISTEN_CALLS,
    },
};

const SOCK_SEQPACKET: u16 = 5;
/// First argument of `sys_enter_*`, result of `sys_exit_*`.
const FIRST: usize = 16;

/// Whether another hook comes by at the same place.
#[inline(always)]
fn twins() -> bool {
    param!(preempted) == preempted::TRACEPOINTS
}

// --- accept ------------------------------------------------------------------------------------

#[inline(always)]
fn accept_returned(ctx: &impl EbpfContext, result: i64) {
    let (mut listener, mut inode) = (0, 0);
    if let Some(call) = ACCEPT_CALLS.get_ptr_mut(pid_tgid()) {
        // SAFETY: a live map value; only this task writes this entry.
        let call = unsafe { &mut *call };
        if call.returned != 0 {
            let _ = ACCEPT_CALLS.remove(pid_tgid());
            return;
        }
        call.returned = 1;
        (listener, inode) = (call.listener, call.inode);
        if !twins() {
            let _ = ACCEPT_CALLS.remove(pid_tgid());
        }
    } else if twins() {
        let mark = AcceptCall { listener: 0, inode: 0, returned: 1 };
        let _ = ACCEPT_CALLS.insert(pid_tgid(), mark, 0);
    }
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
            accept::ended(ctx, child.handshake(), listener, accept::End::Primary);
        }
    }
}

/// `sys_enter_accept` and `sys_enter_accept4`: the descriptor.
#[tracepoint]
fn sys_enter_accept(ctx: TracePointContext) -> u32 {
    accept_error::called(field::<u64>(&ctx, FIRST) as i32);
    0
}

/// Twin of [`sys_enter_accept`].
#[tracepoint]
fn sys_enter_accept_twin(ctx: TracePointContext) -> u32 {
    accept_error::called(field::<u64>(&ctx, FIRST) as i32);
    0
}

/// `sys_exit_accept` and `sys_exit_accept4`.
#[tracepoint]
fn sys_exit_accept(ctx: TracePointContext) -> u32 {
    accept_returned(&ctx, field(&ctx, FIRST));
    0
}

/// Twin of [`sys_exit_accept`].
#[tracepoint]
fn sys_exit_accept_twin(ctx: TracePointContext) -> u32 {
    accept_returned(&ctx, field(&ctx, FIRST));
    0
}

// --- connect -----------------------------------------------------------------------------------

#[inline(always)]
fn connect_returned(ctx: &impl EbpfContext, result: i64) {
    let mut call = None;
    if let Some(entry) = CONNECT_CALLS.get_ptr_mut(pid_tgid()) {
        // SAFETY: a live map value; only this task writes this entry.
        let entry = unsafe { &mut *entry };
        if entry.returned != 0 {
            let _ = CONNECT_CALLS.remove(pid_tgid());
            return;
        }
        entry.returned = 1;
        call = Some(&*entry);
    } else if twins() {
        connect_failure::mark_returned();
    }
    if on(Signal::ConnectBlocked) && !tier(Signal::ConnectBlocked, Tier::Fentry) {
        connect_unblocked(ctx, call, result.unsigned_abs() as u32);
    }
    let accepts = tier(Signal::Accept, Tier::Tracepoint);
    let failures = on(Signal::ConnectFailure) && !tier(Signal::ConnectFailure, Tier::Fentry);
    if failures || accepts {
        let sock = call.and_then(connecting);
        if failures {
            connect_failed(ctx, call, sock, result);
        }
        if accepts
            && result == 0
            && let Some(sock) = sock
            && sock.is_unix()
            && matches!(sock.kind(), SOCK_STREAM | SOCK_SEQPACKET)
        {
            accept_meeting::unix_connect_returned(sock);
        }
    }
    if !twins() {
        let _ = CONNECT_CALLS.remove(pid_tgid());
    }
}

/// What `connect()` returned, if that is a failure, or one has come since.
#[inline(always)]
fn connect_failed(
    ctx: &impl EbpfContext,
    call: Option<&ConnectCall>,
    sock: Option<Sock>,
    result: i64,
) {
    if let (Some(call), Some(sock)) = (call, sock)
        && let Some(errno) = connect_failure::call_went_on(call, sock, result)
    {
        connect_handshake::mark_reported(sock, errno);
        return connect_failure::call_failed(ctx, Some(call), Some(sock), errno, Came::Later);
    }
    if result < 0 {
        connect_failure::call_failed(ctx, call, sock, -result as u32, Came::Returned);
    }
}

/// The socket of a `connect()` call.
#[inline(always)]
fn connecting(call: &ConnectCall) -> Option<Sock> {
    match Sock::from_raw(call.sock) {
        None => Task::current().socket(call.fd).and_then(Socket::sock),
        known => known,
    }
}

#[inline(never)]
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

#[inline(always)]
fn connect_called(ctx: &TracePointContext) {
    if on(Signal::ConnectBlocked) {
        // What a call that was not seen to return left behind.
        connect_blocked::forgotten();
    }
    remember_connect(field(ctx, FIRST), field(ctx, FIRST + 8), field(ctx, FIRST + 16));
    if tier(Signal::ConnectBlocked, Tier::Tracepoint)
        && let Some(call) = CONNECT_CALLS.get_ptr(pid_tgid())
    {
        // SAFETY: a live map value; only this task writes this entry.
        let target = unsafe { &(*call).target };
        if target.family == AF_UNIX {
            connect_blocked::called(target);
        }
    }
}

#[inline(never)]
fn remember_connect(fd: u64, user_address: u64, address_len: u64) {
    let mut call = ConnectCall::given(fd as i32, user_address, address_len as i32);
    if tier(Signal::ConnectBlocked, Tier::Tracepoint) {
        // Unless its page is not resident; then the call is seen when it returns.
        read_user_address(&mut call.target, user_address, call.address_len);
    }
    connect_failure::called(&call);
}

/// `sys_enter_connect`: descriptor, address, length. The address is read when the call failed:
/// by then its page is resident.
#[tracepoint]
fn sys_enter_connect(ctx: TracePointContext) -> u32 {
    connect_called(&ctx);
    0
}

/// Twin of [`sys_enter_connect`].
#[tracepoint]
fn sys_enter_connect_twin(ctx: TracePointContext) -> u32 {
    connect_called(&ctx);
    0
}

/// `sys_exit_connect`.
#[tracepoint]
fn sys_exit_connect(ctx: TracePointContext) -> u32 {
    connect_returned(&ctx, field(&ctx, FIRST));
    0
}

/// Twin of [`sys_exit_connect`].
#[tracepoint]
fn sys_exit_connect_twin(ctx: TracePointContext) -> u32 {
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

/// Twin of [`sys_enter_listen`].
#[tracepoint]
fn sys_enter_listen_twin(ctx: TracePointContext) -> u32 {
    listen::called(field::<u64>(&ctx, FIRST) as i32, field::<u64>(&ctx, FIRST + 8) as i32);
    0
}

/// `sys_exit_listen`.
#[tracepoint]
fn sys_exit_listen(ctx: TracePointContext) -> u32 {
    listen::returned(&ctx, field(&ctx, FIRST));
    0
}

/// Twin of [`sys_exit_listen`].
#[tracepoint]
fn sys_exit_listen_twin(ctx: TracePointContext) -> u32 {
    listen::returned(&ctx, field(&ctx, FIRST));
    0
}

/// `sched:sched_process_exit`, in the exiting task: it may have been killed inside a call, which
/// then never returns.
#[raw_tracepoint]
fn calls_abandoned(_ctx: RawTracePointContext) -> i32 {
    let _ = ACCEPT_CALLS.remove(pid_tgid());
    let _ = CONNECT_CALLS.remove(pid_tgid());
    let _ = CONNECT_ENDS.remove(pid_tgid());
    let _ = LISTEN_CALLS.remove(pid_tgid());
    connect_blocked::forgotten();
    let _ = CONNECT_REPORTED.remove(pid_tgid());
    backlog_drop::closed_one();
    0
}
