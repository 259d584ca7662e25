//! `connect_failure`: one failed attempt is one failure, however often its errno is fetched.
//!
//! Unix connects fail inside `connect()`. TCP connects often fail later, in softirq context: the
//! socket leaves SYN_SENT with `sk_err` set; those that are being connected are in `connect_handshake.rs`.
//!
//! Where nobody is stopped inside a program, what `connect()` returns is what became of it, and only a socket whose
//! call returned while it was being connected is remembered. In the tiers below fentry, so is one that no system call
//! connects which they see. Where a hook on the call may be skipped, each is, from SYN_SENT on: what that hook misses, the hooks on
//! the socket's state see.

use aya_ebpf::{
    EbpfContext,
    macros::{fexit, kprobe, kretprobe},
    programs::{FExitContext, ProbeContext, RetProbeContext},
};
use socktrace_common::{
    Actor, ConnectFailureEvent, ConnectFailureKey, ConnectReturnedEvent, Credentials, Endpoint,
    Signal, Stage, TaskKey, Tier, preempted,
};

use super::{
    connect_blocked,
    connect_handshake::{abandoned, failed_meanwhile, fetched, fetched_unseen, mark_reported},
    interrupted,
};
use crate::{
    emit, filter,
    globals::{lean, offset, param, tier},
    kernel::{
        AF_UNIX, Reach, Sock, Socket, Task, Typed, pid_tgid, read_kernel_address, read_user_address,
    },
    maps::{CONNECT_CALLS, CONNECT_ENDS, CONNECT_TALLY, ConnectCall, UnderWay},
    tally::{self, Tallied},
};

pub(super) const SIGNAL: Signal = Signal::ConnectFailure;
const AF_UNSPEC: u16 = 0;
const BPF_ANY: u64 = 0;
const BPF_EXIST: u64 = 2;
const EAGAIN: u32 = 11;
const EBADF: i32 = -9;
const EFAULT: i32 = -14;
const EINVAL: i32 = -22;
/// Size of `struct sockaddr_storage`: no longer address is copied into the kernel.
const SOCKADDR_STORAGE: i32 = 128;
const O_NONBLOCK: u32 = 0o4000;
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

/// Whether hooks on system calls may be skipped, because a thread is stopped inside them.
#[inline(always)]
pub(super) fn skips_calls() -> bool {
    param!(preempted) != preempted::NOBODY
}

/// Tallies one failure; returns what came of that if an event is to be sent.
#[inline(always)]
pub(super) fn tallied(
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

/// When an error came.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Came {
    /// `connect()` returned it.
    Returned,
    /// After `connect()` had returned: nobody has reported it, and it is noted down for who fetches it.
    Later,
}

/// `connect()` returned `-errno` to the current task, which passed an address of `address_len` bytes (0 if
/// that is unknown).
#[inline(always)]
fn returned(
    ctx: &impl EbpfContext,
    sock: Option<Sock>,
    (errno, came): (u32, Came),
    address_len: i32,
    address: impl FnOnce(&mut Endpoint),
) {
    if came == Came::Returned && (interrupted(errno) || !is_failure(sock, errno)) {
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

// --- fentry tier -------------------------------------------------------------------------------

/// `int __sys_connect_file(file, struct sockaddr_storage *address, int addrlen, int file_flags)`:
/// the system call and io_uring, with the kernel's own copy of the address.
#[fexit]
fn connect_failure_fexit(ctx: FExitContext) -> i32 {
    let (result, address) = (ctx.arg::<i32>(4), Address { at: ctx.arg(1), len: ctx.arg(2) });
    if skips_calls() && is_marked(result) {
        let _ = CONNECT_ENDS.insert(pid_tgid(), 0, BPF_ANY);
    }
    if result == -EAGAIN.cast_signed() && only_tries(&ctx) {
        return 0;
    }
    if tier(Signal::ConnectBlocked, Tier::Fentry) {
        connect_blocked::returned_from(&ctx, result, address.at, address.len);
    }
    if tier(SIGNAL, Tier::Fentry) && (result < 0 || disconnects(address.at)) {
        // Not every file is a socket, but one that is connected is.
        call_ended(&ctx, Socket::of_file(ctx.arg(0)), result, address);
    }
    0
}

/// Whether the hook on the end of `connect()` marks for its twin that it saw this result: whatever may be a failure there.
#[inline(always)]
fn is_marked(result: i32) -> bool {
    result < 0 && result != -EINPROGRESS.cast_signed()
}

/// Twin of [`connect_failure_fexit`], of a kind inside which nobody is stopped: it runs behind that one, and sees the
/// calls that the kernel skips that one for.
#[kretprobe]
fn connect_failure_kretprobe_twin(ctx: RetProbeContext) -> u32 {
    let result = ctx.ret::<i32>();
    if tier(Signal::ConnectBlocked, Tier::Fentry) && tally::any(UnderWay::BlockedCalls) {
        connect_blocked::returned(&ctx, result.unsigned_abs(), None);
    }
    if tier(SIGNAL, Tier::Fentry) && is_marked(result) && CONNECT_ENDS.remove(pid_tgid()).is_err() {
        // The kernel skipped the hook that has the arguments.
        match Task::connect_call() {
            Some((fd, address, len)) => given_failed(&ctx, -result as u32, fd, address, len),
            None => tally::count_unseen(),
        }
    }
    0
}

/// The current task's `connect(fd, address, len)` failed, of which user space has the arguments. Mostly the address is
/// resident, as the program has just written it.
#[inline(never)]
fn given_failed(ctx: &impl EbpfContext, errno: u32, fd: i32, address: u64, len: i32) {
    let sock = Task::current().socket(fd).and_then(Socket::sock);
    returned(ctx, sock, (errno, Came::Returned), len, |target| {
        read_user_address(target, address, len);
    });
}

/// Whether io_uring tries a blocking socket without blocking: an EAGAIN is its own then, and it calls again.
#[inline(always)]
fn only_tries(ctx: &FExitContext) -> bool {
    let file_flags = Typed::read::<u32>(ctx.arg(0), offset!(file_flags));
    ctx.arg::<u32>(3) & O_NONBLOCK != 0 && file_flags & O_NONBLOCK == 0
}

/// `int kernel_connect(sock, struct sockaddr *address, int addrlen, int flags)`: what a part of the kernel connects
/// (NFS, iSCSI).
#[fexit]
fn connect_failure_kernel_fexit(ctx: FExitContext) -> i32 {
    let (result, address) = (ctx.arg::<i32>(4), Address { at: ctx.arg(1), len: ctx.arg(2) });
    if tier(Signal::ConnectBlocked, Tier::Fentry) {
        connect_blocked::returned_from(&ctx, result, address.at, address.len);
    }
    if result < 0 {
        call_ended(&ctx, Some(Socket::from_raw(ctx.arg(0))), result, address);
    }
    0
}

/// A `struct sockaddr` in kernel memory.
#[derive(Clone, Copy)]
struct Address {
    at: u64,
    len: i32,
}

/// Whether `connect()` with this address makes the socket forget its connection (`AF_UNSPEC`), and there is one to
/// forget.
#[inline(always)]
fn disconnects(address: u64) -> bool {
    lean(SIGNAL)
        && tally::any(UnderWay::ConnectSocks)
        && Typed::read::<u16>(address, 0) == AF_UNSPEC
}

/// A `connect()` returned `result`, which is a failure, or tells that it goes on, or that it is disconnected.
#[inline(always)]
fn call_ended(ctx: &impl EbpfContext, socket: Option<Socket>, result: i32, address: Address) {
    // No Unix socket says that it is under way: it need not be looked at.
    let under_way = result == -EINPROGRESS.cast_signed();
    if under_way && !lean(SIGNAL) {
        return;
    }
    let sock = socket.and_then(Socket::sock);
    let errno = -result as u32;
    if !lean(SIGNAL) || (result != 0 && !under_way && !interrupted(errno)) {
        return failed_with(ctx, sock, errno, Came::Returned, &address);
    }
    let Some(sock) = sock else { return };
    if result == 0 {
        return abandoned(sock.handshake());
    }
    if let Some(errno) = failed_meanwhile(sock, |target| {
        read_kernel_address(target, address.at, address.len);
    }) {
        mark_reported(sock, errno);
        failed_with(ctx, Some(sock), errno, Came::Later, &address);
    }
}

/// Outlined, as what it needs of the stack leaves no room for what else its callers call.
#[inline(never)]
fn failed_with(
    ctx: &impl EbpfContext,
    sock: Option<Sock>,
    errno: u32,
    came: Came,
    address: &Address,
) {
    returned(ctx, sock, (errno, came), address.len, |target| {
        read_kernel_address(target, address.at, address.len);
    });
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
        given_failed(&ctx, -result as u32, ctx.arg(0), ctx.arg(1), len);
    }
    0
}

// --- kprobe tier -------------------------------------------------------------------------------

/// `__sys_connect_file` at entry: which socket, and the kernel's own copy of the address in place
/// of the one in user memory. The result comes from
/// `sys_exit_connect`, because a kretprobe on a function that blocks loses calls.
#[kprobe]
fn connect_failure_kprobe(ctx: ProbeContext) -> u32 {
    let mut call = ConnectCall::UNKNOWN;
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
    let mark = ConnectCall { returned: 1, ..ConnectCall::UNKNOWN };
    let _ = CONNECT_CALLS.insert(pid_tgid(), &mark, BPF_ANY);
}

/// `connect()` failed; `call` is what was remembered of it.
#[inline(never)]
pub(super) fn call_failed(
    ctx: &impl EbpfContext,
    call: Option<&ConnectCall>,
    sock: Option<Sock>,
    errno: u32,
    came: Came,
) {
    let address_len = call.map_or(0, |call| call.address_len);
    returned(ctx, sock, (errno, came), address_len, |target| {
        if let Some(call) = call {
            read_target(call, target);
        }
    });
}

/// What the call was given.
#[inline(always)]
fn read_target(call: &ConnectCall, target: &mut Endpoint) {
    if call.user_address == 0 {
        *target = call.target;
    } else {
        read_user_address(target, call.user_address, call.address_len);
    }
}

/// `connect()` returned `result`, which says that the connection is made later, or nothing of it: an error that it has
/// ended in by now, and that nobody has reported.
#[inline(always)]
pub(super) fn call_went_on(call: &ConnectCall, sock: Sock, result: i64) -> Option<u32> {
    let errno = -result as u32;
    if skips_calls() || (result != 0 && errno != EINPROGRESS && !interrupted(errno)) {
        return None;
    }
    if result == 0 && !sock.is_syn_sent() {
        // Connected; else a Fast Open that was put off until something is sent.
        return None;
    }
    failed_meanwhile(sock, |target| read_target(call, target))
}
