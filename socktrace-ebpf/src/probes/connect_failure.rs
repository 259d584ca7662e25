//! `connect_failure`: one failed attempt is one failure, however often its errno is fetched.
//!
//! Unix connects fail inside `connect()`. TCP connects often fail later, in softirq context: the
//! socket leaves SYN_SENT with `sk_err` set, and `CONNECT_SOCKS[sock]` remembers who connected
//! and whether the failure was reported, until the program fetches it.
//!
//! Where nobody is stopped inside a program, what `connect()` returns is what became of it, and only a socket whose
//! call returned while it was being connected is remembered. In the tiers below fentry, so is one that no system call
//! connects which they see. Where a hook on the call may be skipped, each is, from SYN_SENT on: what that hook misses, the hooks on
//! the socket's state see.

use aya_ebpf::{
    EbpfContext,
    macros::{fentry, fexit, kprobe},
    programs::{FEntryContext, FExitContext, ProbeContext},
};
use socktrace_common::{
    Actor, ConnectFailureEvent, ConnectFailureKey, ConnectReturnedEvent, Credentials, Endpoint,
    Signal, Stage, TaskKey, Tier, preempted,
};

use super::{connect_blocked, interrupted};
use crate::{
    emit, filter,
    globals::{lean, offset, param, tier},
    kernel::{
        AF_UNIX, Reach, Sock, Socket, Task, Typed, pid_tgid, read_kernel_address, read_user_address,
    },
    maps::{
        CONNECT_CALLS, CONNECT_REPORTED, CONNECT_SOCKS, CONNECT_TALLY, ConnectCall, ConnectSock,
        UnderWay,
    },
    tally::{self, Tallied},
};

const SIGNAL: Signal = Signal::ConnectFailure;
const AF_UNSPEC: u16 = 0;
const BPF_ANY: u64 = 0;
const BPF_NOEXIST: u64 = 1;
const EEXIST: i32 = -17;
const BPF_EXIST: u64 = 2;
const EAGAIN: u32 = 11;
const EBADF: i32 = -9;
const EFAULT: i32 = -14;
const EINVAL: i32 = -22;
/// In the place of an errno that was reported: there was none, and the connect was taken back.
const TAKEN_BACK: u32 = u32::MAX;
/// Size of `struct sockaddr_storage`: no longer address is copied into the kernel.
const SOCKADDR_STORAGE: i32 = 128;
const EPIPE: u32 = 32;
const ECONNABORTED: u32 = 103;
const ECONNRESET: u32 = 104;
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

/// Whether `errno` was reported when the socket closed, and is fetched only now.
#[inline(always)]
fn fetched(sock: Sock, errno: u32) -> bool {
    let sock = sock.handshake();
    // SAFETY: copied at once; the entry goes away only here, when the socket is connected, at the next connect, or with it.
    let Some((reported, inode)) =
        (unsafe { CONNECT_SOCKS.get(sock.key()) }).map(|entry| (entry.reported, entry.inode))
    else {
        return false;
    };
    let tells_it = match reported {
        0 => false,
        // Another thread took the connect back while this one slept in it.
        TAKEN_BACK => matches!(errno, ECONNRESET | ECONNABORTED | EPIPE),
        _ => reported == errno || errno == ECONNABORTED,
    };
    if !tells_it {
        return false;
    }
    forgotten(sock.key());
    inode == 0 || inode == sock.inode()
}

/// As [`fetched`], for a call of which nobody saw the beginning: whether the current thread's socket was
/// reported with this errno.
#[inline(always)]
fn fetched_unseen(errno: u32) -> bool {
    // SAFETY: copied at once.
    let reported = unsafe { CONNECT_REPORTED.get(pid_tgid()) }.copied();
    reported == Some(errno) && CONNECT_REPORTED.remove(pid_tgid()).is_ok()
}

/// Whether hooks on system calls may be skipped, because a thread is stopped inside them.
#[inline(always)]
fn skips_calls() -> bool {
    param!(preempted) != preempted::NOBODY
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

/// `connect()` returned, and the handshake of `sock` goes on, unless it ended by now: in an error that nobody has
/// reported, which this returns.
#[inline(never)]
fn failed_meanwhile(sock: Sock, address: impl FnOnce(&mut Endpoint)) -> Option<u32> {
    if sock.is_unix() || !sock.in_scope() {
        return None;
    }
    let outer = sock;
    let sock = sock.handshake();
    if sock.is_syn_sent() {
        let mut entry = begun(sock);
        entry.inode = sock.inode();
        address(&mut entry.target);
        entry.target.kind = outer.kind();
        remember(sock, &entry);
        // The kernel sets the error, then comes by the hook on the end, then changes the state.
        if sock.is_syn_sent() && sock.error() == 0 {
            return None;
        }
        // It ended, or is about to, while it was noted down: if the hook on the end saw the entry, that says so.
        let seen = CONNECT_SOCKS.get_ptr(sock.key());
        // SAFETY: a live map value, and an aligned integer.
        if seen.is_some_and(|entry| unsafe { (*entry).reported } != 0) {
            return None;
        }
        forgotten(sock.key());
    }
    // Else it is connected, or another thread has closed it. MPTCP takes the error from its subflow.
    let errno = match sock.error() {
        0 => outer.error(),
        errno => errno,
    };
    (errno != 0 && (sock.is_closed() || sock.is_syn_sent())).then_some(errno)
}

/// The program fetches this error of `sock` later: then it is known.
#[inline(never)]
pub(super) fn mark_reported(sock: Sock, errno: u32) {
    let sock = sock.handshake();
    let mut entry = begun(sock);
    (entry.inode, entry.reported) = (sock.inode(), errno);
    remember(sock, &entry);
}

// --- every tier: sock:inet_sock_set_state ------------------------------------------------------

/// A TCP socket entered SYN_SENT, in the context of the task that connects.
#[inline(never)]
pub(super) fn syn_sent(sock: Sock) {
    if !skips_calls() && is_under_way() {
        // Its return tells what becomes of it.
        return;
    }
    // SAFETY: copied at once.
    let entry = unsafe { CONNECT_SOCKS.get(sock.key()) };
    if entry.is_some_and(|entry| entry.reported == 0 && entry.actor.tid == pid_tgid() as u32) {
        // The twin of this hook was here: one thread begins one connect on a socket.
        return;
    }
    let mut entry = begun(sock);
    sock.ends().read_remote(&mut entry.target);
    remember(sock, &entry);
}

/// What is remembered of a socket that the current task connects, but for whereto.
#[inline(always)]
fn begun(sock: Sock) -> ConnectSock {
    let actor = Task::actor();
    let wanted = u32::from(filter::process(actor.task));
    let port = sock.remote_port().into();
    ConnectSock { actor, target: Endpoint::NONE, inode: 0, reported: 0, wanted, port, pad: 0 }
}

/// Remembers it, in place of what was known of an earlier connect.
#[inline(always)]
fn remember(sock: Sock, entry: &ConnectSock) {
    forgotten(sock.key());
    tally::begins(UnderWay::ConnectSocks);
    match CONNECT_SOCKS.insert(sock.key(), entry, BPF_NOEXIST) {
        Ok(()) => return,
        Err(EEXIST) => {}
        Err(_) => tally::count(SIGNAL, Stage::LostPending, 1),
    }
    tally::ends(UnderWay::ConnectSocks);
}

/// A TCP socket left SYN_SENT for CLOSE. Both twins of the hook run one after the other on the
/// same CPU, so the second finds `reported` set.
#[inline(always)]
pub(super) fn syn_sent_closed(ctx: &impl EbpfContext, sock: Sock) {
    match sock.error() {
        0 if sock.has_sent() => abandoned(sock),
        // connect() itself returns a local error.
        0 => forgotten(sock.key()),
        errno => failed_later(ctx, sock, errno),
    }
}

/// A TCP socket that was being connected ended with this error.
#[inline(never)]
fn failed_later(ctx: &impl EbpfContext, sock: Sock, errno: u32) {
    let Some(entry) = CONNECT_SOCKS.get_ptr_mut(sock.key()) else { return };
    // SAFETY: a live map value; a socket changes state under its own lock.
    let entry = unsafe { &mut *entry };
    if entry.reported != 0 || (entry.inode != 0 && entry.inode != sock.inode()) {
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
    if tally::any(UnderWay::ConnectSocks) && CONNECT_SOCKS.get_ptr(sock).is_some() {
        taken_out(sock);
    }
}

#[inline(always)]
fn taken_out(sock: u64) {
    if CONNECT_SOCKS.remove(sock).is_ok() {
        tally::ends(UnderWay::ConnectSocks);
    }
}

/// The program closed a TCP socket (or shut it down, or disconnected it, or ended): if that was before there was an answer
/// to its SYN, it is no failure, but tallied.
#[inline(never)]
fn abandoned(sock: Sock) {
    let Some(entry) = CONNECT_SOCKS.get_ptr_mut(sock.key()) else { return };
    // SAFETY: a live map value; a socket changes state under its own lock.
    let entry = unsafe { &mut *entry };
    // A peer that connected at the same time has answered by its SYN.
    if entry.reported == 0 && !sock.is_answered() {
        let Actor { task, uid, .. } = entry.actor;
        let errno = ConnectFailureKey::ABANDONED;
        let key = ConnectFailureKey { task, errno, uid, target: entry.target };
        tally_abandoned(&key, entry);
    }
    if lean(SIGNAL) {
        taken_out(sock.key());
    } else {
        // For a thread that sleeps in `connect()`, until the socket goes.
        entry.reported = TAKEN_BACK;
    }
}

#[inline(always)]
fn tally_abandoned(key: &ConnectFailureKey, entry: &ConnectSock) {
    if filter::self_test(SIGNAL, key.task) {
        return;
    }
    tally::count(SIGNAL, Stage::Seen, 1);
    let wanted = entry.wanted != 0 && filter::no_errno() && filter::endpoint(&key.target);
    if !wanted {
        return tally::count(SIGNAL, Stage::Filtered, 1);
    }
    if tally::tally_abandoned(key) == Tallied::New {
        tally::remember_task(SIGNAL, &entry.actor);
    }
    tally::count(SIGNAL, Stage::BelowThreshold, 1);
}

// --- fentry tier -------------------------------------------------------------------------------

/// `int __sys_connect_file(file, struct sockaddr_storage *address, int addrlen, int file_flags)`:
/// the system call and io_uring, with the kernel's own copy of the address.
#[fexit]
fn connect_failure_fexit(ctx: FExitContext) -> i32 {
    let (result, address) = (ctx.arg::<i32>(4), Address { at: ctx.arg(1), len: ctx.arg(2) });
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

/// `void tcp_done(sk)`: a connection is over. If it was none yet, that is a failure.
#[fentry]
fn connect_failure_done_fentry(ctx: FEntryContext) -> i32 {
    done(&ctx);
    0
}

/// Twin of [`connect_failure_done_fentry`]: a softirq may interrupt that one where it runs for a thread that works
/// off what came in while it had the socket.
#[fentry]
fn connect_failure_done_fentry_twin(ctx: FEntryContext) -> i32 {
    done(&ctx);
    0
}

#[inline(always)]
fn done(ctx: &FEntryContext) {
    if tally::any(UnderWay::ConnectSocks)
        && let Some(sock) = Sock::<Typed>::from_raw(ctx.arg(0))
        && sock.is_syn_sent()
    {
        let sock = sock.probed();
        if is_to_another_port(sock) {
            // `shutdown()` has ended the connect that is remembered, and its program has begun another one.
            abandoned(sock);
        } else {
            syn_sent_closed(ctx, sock);
        }
    }
}

#[inline(always)]
fn is_to_another_port(sock: Sock) -> bool {
    // SAFETY: read at once.
    let entry = unsafe { CONNECT_SOCKS.get(sock.key()) };
    entry.is_some_and(|entry| entry.port != sock.remote_port().into())
}

/// `void tcp_finish_connect(sk, skb)`: connected.
#[fentry]
fn connect_failure_finish_fentry(ctx: FEntryContext) -> i32 {
    forgotten(ctx.arg(0));
    0
}

/// `void tcp_v4_destroy_sock(sk)`: the end of every TCP socket, of IPv6, too. Where a softirq interrupts this, its
/// socket's entry stays; its inode tells that it is not of the next socket at that address.
#[fentry]
fn connect_failure_destroy_fentry(ctx: FEntryContext) -> i32 {
    if tally::any(UnderWay::ConnectSocks)
        && let Some(sock) = Sock::from_raw(ctx.arg(0))
    {
        abandoned(sock);
    }
    0
}

/// `bool tcp_fastopen_cookie_check(sk, u16 *mss, cookie)`: a connection is made by `sendto()`, which no hook on
/// `connect()` sees; or it will be, and then this comes by again.
#[fentry]
fn connect_failure_fastopen_fentry(ctx: FEntryContext) -> i32 {
    if let Some(sock) = Sock::<Typed>::from_raw(ctx.arg(0))
        && sock.is_syn_sent()
        && sock.probed().has_sent()
    {
        fast_open(sock.probed());
    }
    0
}

#[inline(never)]
fn fast_open(sock: Sock) {
    let mut entry = begun(sock);
    entry.inode = sock.inode();
    sock.ends().read_remote(&mut entry.target);
    remember(sock, &entry);
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
        // The kernel has not copied it. Mostly it is resident, as the program has just written it.
        returned(&ctx, sock, (-result as u32, Came::Returned), len, |target| {
            read_user_address(target, ctx.arg(1), len);
        });
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
