//! `accept` of Unix connections in the tracepoint tier: how long they waited, without a hook on
//! their start.
//!
//! Each end knows a time: `connect()` returned, `accept()` returned. They meet in
//! `UNIX_MEETINGS`, keyed by the client's socket.

use aya_ebpf::EbpfContext;
use socktrace_common::{AcceptKey, Stage, TaskKey, UnixMeeting, WAIT_UNKNOWN};

use super::accept::{BPF_ANY, BPF_NOEXIST, EEXIST, SIGNAL, counted};
use crate::{
    kernel::{Sock, Task, now_ns},
    maps::{ACCEPT_TALLY, UNIX_MEETINGS},
    tally,
};

/// `accept()` returned a Unix connection. Nothing marks its start in this tier, so both ends
/// bring the time that they know to a meeting keyed by the client's socket; whoever comes second
/// finds the other and knows the wait. A stale entry is told by the client's inode.
#[inline(always)]
pub(super) fn unix_accept_returned(ctx: &impl EbpfContext, child: Sock, listener: Option<Sock>) {
    let inode = listener.map_or(0, Sock::inode);
    let Some(client) = child.unix_peer() else {
        return counted(ctx, child, inode, listener, WAIT_UNKNOWN);
    };
    let now = now_ns();
    // A closed client has no inode any more, and its `struct sock` is still ours: no later one.
    let client_inode = client.inode();
    let connected_ns = connected_at(client, client_inode);
    if connected_ns == 0 {
        // Counted first: a connector that finds this meeting adds to a total that exists.
        counted(ctx, child, inode, listener, WAIT_UNKNOWN);
        return wait_for_connector(client, client_inode, inode, now);
    }
    let _ = UNIX_MEETINGS.remove(client.key());
    counted(ctx, child, inode, listener, now.saturating_sub(connected_ns));
}

/// The acceptor comes to the meeting, where nobody was a moment ago.
#[inline(never)]
fn wait_for_connector(client: Sock, client_inode: u64, listener: u64, now: u64) {
    let acceptor = AcceptKey { task: Task::current_key(), listener };
    let meeting = UnixMeeting { time_ns: now, client: client_inode, acceptor };
    if meet(client, &meeting) {
        return;
    }
    // The connector came in between.
    let connected_ns = connected_at(client, client_inode);
    if connected_ns != 0
        && UNIX_MEETINGS.remove(client.key()).is_ok()
        && let Some(total) = ACCEPT_TALLY.get_ptr_mut(acceptor)
    {
        return tally::add_wait(total, now.saturating_sub(connected_ns));
    }
    // A meeting that another pair left behind.
    replace(client, &meeting);
}

/// When the connector of this client came to the meeting; 0 if it has not.
#[inline(always)]
fn connected_at(client: Sock, inode: u64) -> u64 {
    // SAFETY: copied at once.
    match unsafe { UNIX_MEETINGS.get(client.key()) } {
        Some(met) if met.acceptor.task.tgid == 0 && (inode == 0 || met.client == inode) => {
            met.time_ns
        }
        _ => 0,
    }
}

/// `connect()` returned a Unix connection.
#[inline(never)]
pub(super) fn unix_connect_returned(client: Sock) {
    let (time_ns, inode) = (now_ns(), client.inode());
    let none = AcceptKey { task: TaskKey::NONE, listener: 0 };
    let meeting = UnixMeeting { time_ns, client: inode, acceptor: none };
    if meet(client, &meeting) {
        return;
    }
    // SAFETY: read before the entry is removed, and never changed in between.
    if let Some(met) = unsafe { UNIX_MEETINGS.get(client.key()) }
        && met.acceptor.task.tgid != 0
        && met.client == inode
    {
        let acceptor = met.acceptor;
        let _ = UNIX_MEETINGS.remove(client.key());
        // Accepted before connect() returned: a wait shorter than that tail.
        if let Some(total) = ACCEPT_TALLY.get_ptr_mut(acceptor) {
            tally::add_wait(total, 0);
        }
        return;
    }
    replace(client, &meeting);
}

/// Puts an end into an empty meeting; false if there is one already.
#[inline(always)]
fn meet(client: Sock, meeting: &UnixMeeting) -> bool {
    match UNIX_MEETINGS.insert(client.key(), meeting, BPF_NOEXIST) {
        Ok(()) => true,
        Err(EEXIST) => false,
        Err(_) => {
            tally::count(SIGNAL, Stage::LostPending, 1);
            true
        }
    }
}

/// Puts an end into a meeting in place of a stale one.
#[inline(always)]
fn replace(client: Sock, meeting: &UnixMeeting) {
    if UNIX_MEETINGS.insert(client.key(), meeting, BPF_ANY).is_err() {
        tally::count(SIGNAL, Stage::LostPending, 1);
    }
}
