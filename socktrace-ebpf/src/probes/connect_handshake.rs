//! TCP sockets that are being connected: what becomes of a connect after `connect()` has returned.
//!
//! The socket leaves SYN_SENT in softirq context, with `sk_err` set where it failed. `CONNECT_SOCKS[sock]` remembers who
//! connected and whether the failure was reported, until the program fetches it.

use aya_ebpf::{EbpfContext, macros::fentry, programs::FEntryContext};
use socktrace_common::{Actor, ConnectFailureEvent, ConnectFailureKey, Endpoint, Stage, Tier};

use super::connect_failure::{SIGNAL, is_under_way, skips_calls, tallied};
use crate::{
    emit, filter,
    globals::{lean, tier},
    kernel::{Sock, Task, Typed, pid_tgid},
    maps::{CONNECT_REPORTED, CONNECT_SOCKS, ConnectSock, UnderWay},
    tally::{self, Tallied},
};

const BPF_ANY: u64 = 0;
const BPF_NOEXIST: u64 = 1;
const EEXIST: i32 = -17;
/// In the place of an errno that was reported: there was none, and the connect was taken back.
const TAKEN_BACK: u32 = u32::MAX;
const EPIPE: u32 = 32;
const ECONNABORTED: u32 = 103;
const ECONNRESET: u32 = 104;

/// Whether `errno` was reported when the socket closed, and is fetched only now.
#[inline(always)]
pub(super) fn fetched(sock: Sock, errno: u32) -> bool {
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
pub(super) fn fetched_unseen(errno: u32) -> bool {
    // SAFETY: copied at once.
    let reported = unsafe { CONNECT_REPORTED.get(pid_tgid()) }.copied();
    reported == Some(errno) && CONNECT_REPORTED.remove(pid_tgid()).is_ok()
}

/// `connect()` returned, and the handshake of `sock` goes on, unless it ended by now: in an error that nobody has
/// reported, which this returns.
#[inline(never)]
pub(super) fn failed_meanwhile(sock: Sock, address: impl FnOnce(&mut Endpoint)) -> Option<u32> {
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
        // It ended, or is about to, while it was noted down. The hook on the end may have the entry at hand: what is
        // taken out and not reported then, it did not find.
        let noted = CONNECT_SOCKS.get_ptr(sock.key());
        forgotten(sock.key());
        // SAFETY: map values stay alive while a program runs; an aligned integer, volatile because others change it.
        let reported = noted.map_or(0, |it| unsafe { (&raw const (*it).reported).read_volatile() });
        if reported != 0 {
            entry.reported = reported;
            remember(sock, &entry);
            return None;
        }
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
        // Its return tells what becomes of it, and nothing else that this socket was in before.
        forgotten(sock.key());
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
    if !tally::any(UnderWay::ConnectSocks) {
        return;
    }
    // Read first: from finding the entry to marking it should be as short as can be, as `failed_meanwhile` takes it out.
    let inode = sock.inode();
    let Some(entry) = CONNECT_SOCKS.get_ptr_mut(sock.key()) else { return };
    // SAFETY: a live map value; a socket changes state under its own lock.
    let entry = unsafe { &mut *entry };
    if entry.reported != 0 || (entry.inode != 0 && entry.inode != inode) {
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
pub(super) fn abandoned(sock: Sock) {
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
