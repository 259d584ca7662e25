//! Every map of the object, with what bounds it.
//!
//! Hash maps are preallocated: an insert fails only when the map is full, never for want of
//! memory in softirq context, and each failure is counted. Sizes are defaults that the loader
//! may change.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, PerfEventArray, RingBuf},
};
use socktrace_common::{
    AcceptErrorKey, AcceptKey, AcceptStart, Actor, BlockedCall, ConnectBlockedKey,
    ConnectFailureKey, DROP_ENTRY_WORDS, DropKey, Endpoint, ListenerInfo, Signal, Stage, TaskInfo,
    TaskKey, UnixMeeting, WaitTally,
};

/// Events, with `--transport ring`.
#[map]
pub(crate) static EVENTS_RING: RingBuf = RingBuf::with_byte_size(4096, 0);
/// Events, with `--transport perf`.
#[map]
pub(crate) static EVENTS_PERF: PerfEventArray<u8> = PerfEventArray::new(0);
/// [`Stage`] counters of every signal, indexed by [`Stage::index`].
#[map]
pub(crate) static STAGES: PerCpuArray<u64> =
    PerCpuArray::with_max_entries((Signal::COUNT * Stage::COUNT) as u32, 0);
/// Event budget of every signal.
#[map]
pub(crate) static BUDGETS: PerCpuArray<Budget> =
    PerCpuArray::with_max_entries(Signal::COUNT as u32, 0);

/// Accept totals and wait histograms.
#[map]
pub(crate) static ACCEPT_TALLY: HashMap<AcceptKey, WaitTally> = HashMap::with_max_entries(2048, 0);
/// One zeroed [`WaitTally`]: a new entry's initial value, too large for the BPF stack.
#[map]
pub(crate) static WAIT_ZERO: Array<WaitTally> = Array::with_max_entries(1, 0);
/// Accept errors by errno.
#[map]
pub(crate) static ACCEPT_ERROR_TALLY: HashMap<AcceptErrorKey, u64> =
    HashMap::with_max_entries(8192, 0);
/// Connect failures by errno and target.
#[map]
pub(crate) static CONNECT_TALLY: HashMap<ConnectFailureKey, u64> =
    HashMap::with_max_entries(16384, 0);
/// Connects that were taken back, by target: apart, so that a program that tries very many leaves failures their room.
#[map]
pub(crate) static ABANDONED_TALLY: HashMap<ConnectFailureKey, u64> =
    HashMap::with_max_entries(4096, 0);
/// Those for which that had no room.
#[map]
pub(crate) static ABANDONED_OTHER: Array<u64> = Array::with_max_entries(1, 0);
/// Blocked connects and their wait histograms.
#[map]
pub(crate) static BLOCKED_TALLY: HashMap<ConnectBlockedKey, WaitTally> =
    HashMap::with_max_entries(512, 0);
/// Drops by listener and reason.
#[map]
pub(crate) static DROP_TALLY: HashMap<DropKey, u64> = HashMap::with_max_entries(8192, 0);

/// Names behind task keys.
#[map]
pub(crate) static TASKS: HashMap<TaskKey, TaskInfo> = HashMap::with_max_entries(16384, 0);
/// Names behind listener inodes.
#[map]
pub(crate) static LISTENERS: HashMap<u64, ListenerInfo> = HashMap::with_max_entries(16384, 0);

/// Connections in an accept queue, by the child's `struct sock`. Left by accept or destruction.
#[map]
pub(crate) static ACCEPT_STARTS: HashMap<u64, AcceptStart> = HashMap::with_max_entries(65536, 0);
/// Slots of [`ACCEPTORS`].
pub(crate) const ACCEPTOR_SLOTS: u32 = 16384;
/// Threads that took a connection since the attach, each in the slot of its number; of two with one slot, the last.
#[map]
pub(crate) static ACCEPTORS: Array<u32> = Array::with_max_entries(ACCEPTOR_SLOTS, 0);
/// Listeners that are being closed with connections in their queue, by `pid_tgid`.
#[map]
pub(crate) static CLOSING: HashMap<u64, Closing> = HashMap::with_max_entries(1024, 0);
/// Unix connects that sleep on a full backlog, by `pid_tgid`.
#[map]
pub(crate) static BLOCKED_CALLS: HashMap<u64, BlockedCall> = HashMap::with_max_entries(8192, 0);
/// Unix connections whose two ends meet here in the tracepoint tier, by the client's `struct sock`.
#[map]
pub(crate) static UNIX_MEETINGS: HashMap<u64, UnixMeeting> = HashMap::with_max_entries(16384, 0);
/// TCP sockets in SYN_SENT, or closed with an error that the program has not fetched yet.
#[map]
pub(crate) static CONNECT_SOCKS: HashMap<u64, ConnectSock> = HashMap::with_max_entries(32768, 0);
/// The errno that was last reported of a TCP socket that a thread connected, by its `pid_tgid`: so that
/// its `connect()` is known for the same failure where nobody saw it begin.
#[map]
pub(crate) static CONNECT_REPORTED: HashMap<u64, u32> = HashMap::with_max_entries(16384, 0);
/// How many entries some of these maps have, by [`UnderWay`]: mostly none, and then nobody needs to look for one.
#[map]
pub(crate) static UNDER_WAY: Array<u64> = Array::with_max_entries(3, 0);
/// `accept()` calls under way, by `pid_tgid`.
#[map]
pub(crate) static ACCEPT_CALLS: HashMap<u64, AcceptCall> = HashMap::with_max_entries(16384, 0);
/// `connect()` calls under way, by `pid_tgid`.
#[map]
pub(crate) static CONNECT_CALLS: HashMap<u64, ConnectCall> = HashMap::with_max_entries(16384, 0);
/// Threads whose `connect()` failed, from when its hook saw that until its twin knows: moments. Where that never runs, the
/// oldest make room.
#[map]
pub(crate) static CONNECT_ENDS: LruHashMap<u64, u8> = LruHashMap::with_max_entries(16384, 0);
/// How many connects that failed were seen to fail, and nothing else of them.
#[map]
pub(crate) static CONNECT_UNSEEN: Array<u64> = Array::with_max_entries(1, 0);
/// `listen()` calls under way, by `pid_tgid`.
#[map]
pub(crate) static LISTEN_CALLS: HashMap<u64, ListenCall> = HashMap::with_max_entries(4096, 0);
/// Counters of this CPU when one of the three drop functions was entered, by [`DropStage`].
/// Softirq only: entry and exit run on one CPU and do not nest.
///
/// [`DropStage`]: socktrace_common::DropStage
#[map]
pub(crate) static DROP_ENTRIES: PerCpuArray<DropEntry> = PerCpuArray::with_max_entries(3, 0);

/// `-p`.
#[map]
pub(crate) static FILTER_PIDS: HashMap<u32, u8> = HashMap::with_max_entries(1024, 0);
/// `-P`.
#[map]
pub(crate) static FILTER_PORTS: HashMap<u16, u8> = HashMap::with_max_entries(1024, 0);
/// `-- CMD` and its descendants.
#[map]
pub(crate) static FOLLOWED: HashMap<TaskKey, u8> = HashMap::with_max_entries(32768, 0);

/// A map whose entries are counted.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum UnderWay {
    /// [`CONNECT_SOCKS`]
    ConnectSocks = 0,
    /// [`BLOCKED_CALLS`]
    BlockedCalls = 1,
    /// [`CLOSING`]
    Closing = 2,
}

/// Event budget of one signal on one CPU.
#[repr(C)]
pub(crate) struct Budget {
    /// `time_ns >> 30` when `used` began to count: about a second.
    pub(crate) window: u64,
    /// Events sent in this window.
    pub(crate) used: u64,
}

/// A listener that is being closed.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Closing {
    /// Its `struct sock`.
    pub(crate) listener: u64,
    /// Its inode.
    pub(crate) inode: u64,
    /// Connections in its queue when that began.
    pub(crate) queue: u32,
    /// Its backlog.
    pub(crate) limit: u32,
}

/// A TCP connect under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ConnectSock {
    /// Who called `connect()`.
    pub(crate) actor: Actor,
    /// Whereto.
    pub(crate) target: Endpoint,
    /// The socket's inode: tells a later socket at the same address apart. 0 where no hook on the end of a socket
    /// is skipped.
    pub(crate) inode: u64,
    /// The errno that was reported, or `u32::MAX` if the connect was taken back; 0 while the connection is being made.
    pub(crate) reported: u32,
    /// Not 0 if the process filters want it.
    pub(crate) wanted: u32,
    /// The peer's port, which may be another one than it was asked for.
    pub(crate) port: u32,
    pub(crate) pad: u32,
}

/// An `accept()` call.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct AcceptCall {
    /// The listener's `struct sock`; 0 if the descriptor is none.
    pub(crate) listener: u64,
    /// Its inode; 0 where unknown.
    pub(crate) inode: u64,
    /// Not 0 once a hook has seen it return: its twin has nothing left to do.
    pub(crate) returned: u64,
}

/// A `connect()` call.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ConnectCall {
    /// `struct sock`, if the hook knows it (kprobe tier); else 0 and `fd` counts.
    pub(crate) sock: u64,
    /// Address in user memory, if it is yet to be read; else 0 and `target` counts.
    pub(crate) user_address: u64,
    /// Descriptor.
    pub(crate) fd: i32,
    /// Length of the address.
    pub(crate) address_len: i32,
    /// Whereto.
    pub(crate) target: Endpoint,
    /// Not 0 once a hook has seen it return: its twin has nothing left to do.
    pub(crate) returned: u64,
}

impl ConnectCall {
    /// One of which nothing is known.
    pub(crate) const UNKNOWN: Self = Self::given(-1, 0, 0);

    /// One with its address yet to be read.
    #[inline(always)]
    pub(crate) const fn given(fd: i32, user_address: u64, address_len: i32) -> Self {
        let target = Endpoint::NONE;
        Self { sock: 0, user_address, fd, address_len, target, returned: 0 }
    }
}

/// A `listen()` call.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ListenCall {
    /// Descriptor.
    pub(crate) fd: i32,
    /// Requested backlog.
    pub(crate) backlog: i32,
}

/// Counters at the entry of a drop function.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct DropEntry {
    /// The listener's `struct sock`; 0 for a call that is not measured.
    pub(crate) listener: u64,
    /// The packet.
    pub(crate) skb: u64,
    /// The listener's `sk_drops`, where it is read for less than the counters.
    pub(crate) drops: u64,
    /// What this CPU adds to a per-CPU address; 0 until that was asked for.
    pub(crate) cpu_offset: u64,
    /// Where `tcp_check_req` says that another CPU took the request; 0 where nobody asks.
    pub(crate) stolen: u64,
    /// Address of this CPU's `struct linux_mib`.
    pub(crate) mib: u64,
    /// The four counters.
    pub(crate) before: crate::kernel::ListenMib,
}

const _: () = assert!(size_of::<DropEntry>() == DROP_ENTRY_WORDS * size_of::<u64>());
