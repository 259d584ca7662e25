//! `connect_failure`: one failed attempt is one failure, however often its errno is fetched.
//!
//! Unix connects fail inside `connect()`. TCP connects mostly fail later, in softirq context: the
//! socket leaves SYN_SENT with `sk_err` set, and `CONNECT_SOCKS[sock]` remembers who connected
//! and whether the failure was reported, until the program fetches it.

use aya_ebpf::{
    EbpfContext,
    macros::{fexit, kprobe},
    programs::{FExitContext, ProbeContext},
};
use socktrace_common::{
    Actor, ConnectFailureEvent, ConnectFailureKey, ConnectReturnedEvent, Credentials, Endpoint,
    Signal, Stage, TaskKey, Tier,
};

use super::interrupted;
use crate::{
    emit, filter,
    globals::tier,
    kernel::{AF_UNIX, Sock, Socket, Task, pid_tgid, read_kernel_address, read_user_address},
    maps::{
        CONNECT_CALLS, CONNECT_REPORTED, CONNECT_SOCKS, CONNECT_TALLY, ConnectCall, ConnectSock,
    },
    tally::{self, Tallied},
};

const SIGNAL: Signal = Signal::ConnectFailure;
const BPF_ANY: u64 = 0;
const BPF_EXIST: u64 = 2;
const EAGAIN: u32 = 11;
const EBADF: i32 = -9;
const EFAULT: i32 = -14;
const EINVAL: i32 = -22;
/// Size of `struct sockaddr_storage`: no longer address is copied into the kernel.
const SOCKADDR_STORAGE: i32 = 128;
const ECONNABORTED: u32 = 103;
const EISCONN: u32 = 106;
const EALREADY: u32 = 114;
const EINPROGRESS: u32 = 115;

/// `connect()` on `sock` failed with `errno`: whether that is a failure of its own, and not an
/// answer to polling, a repetition, or a socket of no interest.
#[inline(always)]
fn is_failure(sock: Option<Sock>, errno: u32) -> bool {
    if sock.is_some_and(Sock::is_unix) {
        return true;
    }
    // EISCONN is how a program polls for the end of a non-blocking connect.
    if matches!(errno, EINPROGRESS | EALREADY | EISCONN) {
        return false;
    }
    match sock {
        Some(sock) => sock.in_scope() && !fetched(sock, errno),
        None => !fetched_unseen(errno),
    }
}

/// Whether `errno` was reported when the socket closed, and is fetched only now.
#[inline(always)]
fn fetched(sock: Sock, errno: u32) -> bool {
    // SAFETY: an integer; the entry goes away only here, at the next connect, or with the socket.
    let reported = unsafe { CONNECT_SOCKS.get(sock.key()) }.map_or(0, |entry| entry.reported);
    if reported == 0 || (reported != errno && errno != ECONNABORTED) {
        return false;
    }
    let _ = CONNECT_SOCKS.remove(sock.key());
    true
}

/// As [`fetched`], for a call of which nobody saw the beginning: whether the current thread's socket was
/// reported with this errno.
#[inline(always)]
fn fetched_unseen(errno: u32) -> bool {
    // SAFETY: copied at once.
    let reported = unsafe { CONNECT_REPORTED.get(pid_tgid()) }.copied();
    reported == Some(errno) && CONNECT_REPORTED.remove(pid_tgid()).is_ok()
}

/// Tallies one failure; returns what came of that if an event is to be sent.
#[inline(always)]
fn tallied(
    key: &mut ConnectFailureKey,
    wanted: bool,
    remember_task: impl FnOnce(),
) -> Option<Tallied> {
    if filter::self_test(SIGNAL, key.task) {
        return None;
    }
    tally::count(SIGNAL, Stage::Seen, 1);
    if !wanted || !filter::errno(key.errno) || !filter::endpoint(&key.target) {
        tally::count(SIGNAL, Stage::Filtered, 1);
        if key.errno == EAGAIN && key.target.family == AF_UNIX {
            // The listener's drop all the same, and the listener may be wanted.
            key.task = TaskKey::NONE;
            key.uid = 0;
            tally::tally(&CONNECT_TALLY, SIGNAL, key, 1);
        }
        return None;
    }
    let tallied = tally::tally(&CONNECT_TALLY, SIGNAL, key, 1);
    if tallied != Tallied::Again {
        remember_task();
    }
    emit::admits(SIGNAL, tallied).then_some(tallied)
}

/// `connect()` returned `-errno` to the current task, which passed an address of `address_len` bytes (0 if
/// that is unknown).
#[inline(always)]
fn returned(
    ctx: &impl EbpfContext,
    sock: Option<Sock>,
    errno: u32,
    address_len: i32,
    address: impl FnOnce(&mut Endpoint),
) {
    if interrupted(errno) || !is_failure(sock, errno) {
        return;
    }
    let (task, uid) = (Task::current_key(), Task::current_uid());
    let key = ConnectFailureKey { task, errno, uid, target: Endpoint::NONE };
    let header = emit::header::<ConnectReturnedEvent>(SIGNAL, Actor::NONE);
    let mut event = ConnectReturnedEvent {
        failure: ConnectFailureEvent { header, key },
        credentials: Credentials::NONE,
    };
    let key = &mut event.failure.key;
    address(&mut key.target);
    key.target.kind = sock.map_or(0, Sock::kind);
    let wanted = filter::process(task);
    if let Some(tallied) = tallied(key, wanted, || tally::remember_current(SIGNAL)) {
        event.failure.header.actor = Task::actor();
        Task::current().credentials(&mut event.credentials);
        event.credentials.address_len = address_len as u32;
        emit::submit(ctx, SIGNAL, tallied, &event);
    }
}

// --- every tier: sock:inet_sock_set_state ------------------------------------------------------

/// A TCP socket entered SYN_SENT, in the context of the task that connects.
#[inline(never)]
pub(super) fn syn_sent(sock: Sock) {
    // SAFETY: copied at once.
    let entry = unsafe { CONNECT_SOCKS.get(sock.key()) };
    if entry.is_some_and(|entry| entry.reported == 0 && entry.actor.tid == pid_tgid() as u32) {
        // The twin of this hook was here: one thread begins one connect on a socket.
        return;
    }
    let mut entry =
        ConnectSock { actor: Task::actor(), target: Endpoint::NONE, reported: 0, wanted: 0 };
    entry.wanted = u32::from(filter::process(entry.actor.task));
    sock.ends().read_remote(&mut entry.target);
    if CONNECT_SOCKS.insert(sock.key(), &entry, BPF_ANY).is_err() {
        tally::count(SIGNAL, Stage::LostPending, 1);
    }
}

/// A TCP socket left SYN_SENT for CLOSE. Both twins of the hook run one after the other on the
/// same CPU, so the second finds `reported` set.
#[inline(never)]
pub(super) fn syn_sent_closed(ctx: &impl EbpfContext, sock: Sock) {
    let errno = sock.error();
    if errno == 0 {
        // Closed by the program, or a local error that connect() itself returns.
        return forgotten(sock.key());
    }
    let Some(entry) = CONNECT_SOCKS.get_ptr_mut(sock.key()) else { return };
    // SAFETY: a live map value; a socket changes state under its own lock.
    let entry = unsafe { &mut *entry };
    if entry.reported != 0 {
        return;
    }
    entry.reported = errno;
    if !tier(SIGNAL, Tier::Fentry) {
        let thread = u64::from(entry.actor.task.tgid) << 32 | u64::from(entry.actor.tid);
        // Where it is full, a call that was not seen to begin is reported twice.
        let _ = CONNECT_REPORTED.insert(thread, errno, BPF_ANY);
    }
    let Actor { task, uid, .. } = entry.actor;
    let key = ConnectFailureKey { task, errno, uid, target: entry.target };
    let header = emit::header::<ConnectFailureEvent>(SIGNAL, Actor::NONE);
    let mut event = ConnectFailureEvent { header, key };
    let remember_task = || tally::remember_task(SIGNAL, &entry.actor);
    if let Some(tallied) = tallied(&mut event.key, entry.wanted != 0, remember_task) {
        event.header.actor = entry.actor;
        emit::submit(ctx, SIGNAL, tallied, &event);
    }
}

/// A TCP socket is connected, or gone.
#[inline(always)]
pub(super) fn forgotten(sock: u64) {
    // Most sockets are not there, or not any more: looking takes no lock.
    if CONNECT_SOCKS.get_ptr(sock).is_some() {
        let _ = CONNECT_SOCKS.remove(sock);
    }
}

// --- fentry tier -------------------------------------------------------------------------------

/// `int __sys_connect_file(file, struct sockaddr_storage *address, int addrlen, int file_flags)`:
/// the system call and io_uring, with the kernel's own copy of the address.
#[fexit]
fn connect_failure_fexit(ctx: FExitContext) -> i32 {
    let result = ctx.arg::<i32>(4);
    // No Unix socket says that it is under way: it need not be looked at.
    if result < 0 && result != -EINPROGRESS.cast_signed() {
        let sock = Socket::of_file(ctx.arg(0)).and_then(Socket::sock);
        returned(&ctx, sock, -result as u32, ctx.arg(2), |target| {
            read_kernel_address(target, ctx.arg(1), ctx.arg(2));
        });
    }
    0
}

/// `int __sys_connect(int fd, struct sockaddr *uservaddr, int addrlen)`: what fails before
/// `__sys_connect_file` is reached, told by the errno.
#[fexit]
fn connect_failure_early_fexit(ctx: FExitContext) -> i32 {
    let (len, result) = (ctx.arg::<i32>(2), ctx.arg::<i32>(3));
    let early = match result {
        EBADF | EFAULT => true,
        EINVAL => !(0..=SOCKADDR_STORAGE).contains(&len),
        _ => false,
    };
    if early {
        let sock = Task::current().socket(ctx.arg(0)).and_then(Socket::sock);
        returned(&ctx, sock, -result as u32, len, |_| {});
    }
    0
}

// --- kprobe tier -------------------------------------------------------------------------------

/// `__sys_connect_file` at entry: which socket, and the kernel's own copy of the address in place
/// of the one in user memory. The result comes from
/// `sys_exit_connect`, because a kretprobe on a function that blocks loses calls.
#[kprobe]
fn connect_failure_kprobe(ctx: ProbeContext) -> u32 {
    let mut call = ConnectCall {
        sock: 0,
        user_address: 0,
        fd: -1,
        address_len: 0,
        target: Endpoint::NONE,
        returned: 0,
    };
    if let Some(sock) = ctx.arg(0).and_then(Socket::of_file).and_then(Socket::sock) {
        call.sock = sock.key();
    }
    if let (Some(address), Some(len)) = (ctx.arg(1), ctx.arg(2)) {
        call.address_len = len;
        read_kernel_address(&mut call.target, address, len);
    }
    // io_uring and 32-bit calls come by, too, and have no sys_exit_connect: only a call that
    // sys_enter_connect remembered is completed.
    if is_under_way() {
        let _ = CONNECT_CALLS.insert(pid_tgid(), &call, BPF_EXIST);
    }
    0
}

// --- kprobe and tracepoint tier: syscalls:sys_exit_connect -------------------------------------

/// Remembers a `connect()` call until it returns.
#[inline(always)]
pub(super) fn called(call: &ConnectCall) {
    if CONNECT_CALLS.insert(pid_tgid(), call, BPF_ANY).is_err() {
        tally::count(SIGNAL, Stage::LostPending, 1);
    }
}

/// Whether the current task is in a `connect()` system call.
#[inline(always)]
pub(super) fn is_under_way() -> bool {
    // SAFETY: copied at once; only this task writes this entry.
    let call = unsafe { CONNECT_CALLS.get(pid_tgid()) };
    call.is_some_and(|call| call.returned == 0)
}

/// Notes that a call which nobody remembered has returned, for the twin of the hook that saw it.
#[inline(never)]
pub(super) fn mark_returned() {
    let mark = ConnectCall {
        sock: 0,
        user_address: 0,
        fd: -1,
        address_len: 0,
        target: Endpoint::NONE,
        returned: 1,
    };
    let _ = CONNECT_CALLS.insert(pid_tgid(), &mark, BPF_ANY);
}

/// `connect()` failed; `call` is what was remembered of it.
#[inline(never)]
pub(super) fn call_failed(
    ctx: &impl EbpfContext,
    call: Option<&ConnectCall>,
    sock: Option<Sock>,
    errno: u32,
) {
    let address_len = call.map_or(0, |call| call.address_len);
    returned(ctx, sock, errno, address_len, |target| {
        let Some(call) = call else { return };
        if call.user_address == 0 {
            *target = call.target;
        } else {
            read_user_address(target, call.user_address, call.address_len);
        }
    });
}
