//! The kernel's own totals: stage counters, histograms, and the names behind their keys.
//!
//! Totals are changed with atomic adds only, because process-context programs can be preempted
//! between two instructions. The one exception is a maximum, which has no atomic form on the
//! oldest supported kernel: two racing writers may leave the smaller one. That is harmless, since
//! the histogram bucket of the larger is counted, and the reader takes the larger of the two.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::maps::HashMap;
use socktrace_common::{
    Actor, BACKLOG_UNKNOWN, ConnectFailureKey, Endpoint, ListenerInfo, Signal, Stage, TaskInfo,
    TaskKey, WaitTally, histogram,
};

use crate::{
    globals::param,
    kernel::{Sock, Task, now_ns},
    maps::{
        ABANDONED_OTHER, ABANDONED_TALLY, BUDGETS, CONNECT_UNSEEN, LISTENERS, STAGES, TASKS,
        UNDER_WAY, UnderWay, WAIT_ZERO,
    },
};

#[inline(always)]
fn add(counter: *mut u64, n: u64) {
    // LLVM writes an addition of a known zero as an atomic OR, which kernels before 5.12 refuse.
    if n == 0 {
        return;
    }
    // `AtomicU64::fetch_add` is missing on this target, which cannot compare and swap.
    // SAFETY: `counter` points into a map value, aligned and alive for this program run.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, n) };
}

/// Adds `n` to a stage counter of `signal`.
#[inline(always)]
pub(crate) fn count(signal: Signal, stage: Stage, n: u64) {
    if let Some(counter) = STAGES.get_ptr_mut(stage.index(signal)) {
        add(counter, n);
    }
}

/// One entry more in a map whose entries are counted: to be said before it is made, so that who finds none
/// under way has missed none.
#[inline(always)]
pub(crate) fn begins(what: UnderWay) {
    if let Some(counter) = UNDER_WAY.get_ptr_mut(what as u32) {
        add(counter, 1);
    }
}

/// One entry less.
#[inline(always)]
pub(crate) fn ends(what: UnderWay) {
    if let Some(counter) = UNDER_WAY.get_ptr_mut(what as u32) {
        add(counter, u64::MAX);
    }
}

/// Whether the map has any entry.
#[inline(always)]
pub(crate) fn any(what: UnderWay) -> bool {
    // SAFETY: an aligned integer of a live map value, volatile because others change it.
    UNDER_WAY.get_ptr(what as u32).is_some_and(|counter| unsafe { counter.read_volatile() } != 0)
}

/// What became of adding to a total.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Tallied {
    /// The first of its key.
    New,
    /// One more of a known key.
    Again,
    /// The map is full: counted as [`Stage::LostTally`].
    Lost,
}

/// Adds `n` to the total of `key`.
#[inline(always)]
pub(crate) fn tally<K>(map: &HashMap<K, u64>, signal: Signal, key: &K, n: u64) -> Tallied {
    let tallied = tally_if_room(map, key, n);
    if tallied == Tallied::Lost {
        count(signal, Stage::LostTally, n);
    }
    tallied
}

/// The same, where the caller counts what is lost.
#[inline(always)]
fn tally_if_room<K>(map: &HashMap<K, u64>, key: &K, n: u64) -> Tallied {
    if let Some(total) = map.get_ptr_mut(key) {
        add(total, n);
        return Tallied::Again;
    }
    // BPF_NOEXIST: of two that race to be first, the second adds to the first's entry.
    if map.insert(key, 0, 1).is_ok() {
        if let Some(total) = map.get_ptr_mut(key) {
            add(total, n);
        }
        return Tallied::New;
    }
    let Some(total) = map.get_ptr_mut(key) else { return Tallied::Lost };
    add(total, n);
    Tallied::Again
}

/// Adds one to the total of a connect that was taken back; where its map is full, to that of all others.
#[inline(always)]
pub(crate) fn tally_abandoned(key: &ConnectFailureKey) -> Tallied {
    let tallied = tally_if_room(&ABANDONED_TALLY, key, 1);
    if tallied == Tallied::Lost
        && let Some(others) = ABANDONED_OTHER.get_ptr_mut(0)
    {
        add(others, 1);
    }
    tallied
}

/// Adds one to the failed connects of which nothing is known.
#[inline(always)]
pub(crate) fn count_unseen() {
    if let Some(total) = CONNECT_UNSEEN.get_ptr_mut(0) {
        add(total, 1);
    }
}

/// Adds one occurrence to the waits of `key`, and how long it waited, unless that is `u64::MAX`. Before the
/// first one of a key, `introduce` is called: once, or once more by each of those that race to be
/// first.
#[inline(always)]
pub(crate) fn tally_wait<K>(
    map: &HashMap<K, WaitTally>,
    signal: Signal,
    key: &K,
    wait_ns: u64,
    introduce: impl FnOnce(),
) -> Tallied {
    let mut tallied = Tallied::Again;
    let mut total = map.get_ptr_mut(key);
    if total.is_none() {
        // Here, and not behind: the verifier then follows it once, and not for each outcome.
        introduce();
        let Some(zero) = WAIT_ZERO.get(0) else { return Tallied::Lost };
        // BPF_NOEXIST, as above.
        if map.insert(key, zero, 1).is_ok() {
            tallied = Tallied::New;
        }
        total = map.get_ptr_mut(key);
    }
    let Some(total) = total else {
        count(signal, Stage::LostTally, 1);
        return Tallied::Lost;
    };
    // SAFETY: points to a map value; only the address of a field is taken.
    add(unsafe { &raw mut (*total).count }, 1);
    if wait_ns != u64::MAX {
        add_wait(total, wait_ns);
    }
    tallied
}

/// Adds a known wait to a total that has its occurrence already.
#[inline(always)]
pub(crate) fn add_wait(total: *mut WaitTally, wait_ns: u64) {
    let bucket = histogram::bucket(wait_ns);
    if bucket >= histogram::BUCKETS {
        return;
    }
    // SAFETY: points to a map value; the bucket is in range; see the module's words on `max_ns`.
    unsafe {
        add(&raw mut (*total).waited, 1);
        add(&raw mut (*total).sum_ns, wait_ns);
        add((&raw mut (*total).buckets).cast::<u64>().add(bucket), 1);
        if (*total).max_ns < wait_ns {
            (*total).max_ns = wait_ns;
        }
    }
}

/// Whether `signal` may send one more event: the first of a key always, else within the budget.
/// A race can let one more or one less through; the stage counters say which it was.
#[inline(always)]
pub(crate) fn within_budget(signal: Signal, tallied: Tallied) -> bool {
    let limit = u64::from(param!(budget[signal as usize]));
    let Some(budget) = BUDGETS.get_ptr_mut(signal as u32) else { return true };
    let window = now_ns() >> 30;
    // SAFETY: points to this CPU's map value.
    unsafe {
        if (*budget).window != window {
            (*budget).window = window;
            (*budget).used = 0;
        }
        if tallied != Tallied::New && (*budget).used >= limit {
            return false;
        }
        (*budget).used += 1;
    }
    true
}

/// Remembers the name behind a task key, as it is now: called when a total of it begins.
#[inline(always)]
pub(crate) fn remember_task(signal: Signal, actor: &Actor) {
    let Actor { uid, gid, cgroup, comm, .. } = *actor;
    if TASKS.insert(actor.task, TaskInfo { cgroup, uid, gid, comm, pad: 0 }, 0).is_err() {
        count(signal, Stage::LostName, 1);
    }
}

/// Remembers the name behind the current task's key.
#[inline(never)]
pub(crate) fn remember_current(signal: Signal) {
    remember_task(signal, &Task::actor());
}

/// Remembers the name behind a listener's inode, if nobody did so before.
///
/// Outlined, as every body that needs much of the 512 bytes of stack beside its caller's.
#[inline(never)]
pub(crate) fn remember_listener(
    signal: Signal,
    inode: u64,
    listener: Option<Sock>,
    child: Option<Sock>,
) {
    if inode == 0 || LISTENERS.get_ptr(inode).is_some() {
        return;
    }
    let Some(known) = listener.or(child) else { return };
    let mut info = ListenerInfo {
        local: Endpoint::NONE,
        owner: TaskKey::NONE,
        acceptor: TaskKey::NONE,
        drops_at_close: u64::MAX,
        accepted: 0,
        accepted_ns: 0,
        netns: known.net().inum(),
        requested: BACKLOG_UNKNOWN,
        effective: if listener.is_some() { known.handshake().max_ack_backlog() } else { 0 },
        selected: 0,
        from_child: u32::from(listener.is_none()),
        pad: 0,
    };
    known.read_local(&mut info.local);
    // BPF_NOEXIST: never over what `listen()` or the loader wrote.
    if LISTENERS.insert(inode, &info, 1).is_err() && LISTENERS.get_ptr(inode).is_none() {
        count(signal, Stage::LostName, 1);
    }
}

/// Notes that `task` accepted a connection of this listener.
#[inline(always)]
pub(crate) fn note_accept(inode: u64, task: TaskKey) {
    if let Some(info) = LISTENERS.get_ptr_mut(inode) {
        // SAFETY: a live map value; of two racing times or tasks either is as good, and halves of
        // two tasks name none.
        unsafe {
            add(&raw mut (*info).accepted, 1);
            (*info).accepted_ns = now_ns();
            (*info).acceptor = task;
        }
    }
}

/// Marks a listener as one that a process accepts on which the filters want.
#[inline(always)]
pub(crate) fn select_listener(inode: u64) {
    if let Some(info) = LISTENERS.get_ptr_mut(inode) {
        // SAFETY: a live map value, and an aligned integer that is only ever set.
        unsafe { (*info).selected = 1 };
    }
}
