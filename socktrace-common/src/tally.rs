//! Keys and values of the kernel's own totals, which do not depend on the event stream.

use crate::{Endpoint, TaskKey, histogram, wire};

wire! { 24,
/// Key of the accept totals: one process on one listener.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AcceptKey {
    /// The accepting process.
    pub task: TaskKey,
    /// Inode of the listening socket; 0 where unknown.
    pub listener: u64,
}}

wire! { 5024,
/// Totals of waits. Every field is only ever added to, except `max_ns` (see `tally.rs` of the
/// eBPF side: two racing writers can lose a maximum, never the bucket that bounds it).
pub struct WaitTally {
    /// Connections that were accepted, or connects that were blocked.
    pub count: u64,
    /// Of them, how many have a known wait; the buckets add up to this.
    pub waited: u64,
    /// Sum of the known waits, nanoseconds.
    pub sum_ns: u64,
    /// Largest known wait, nanoseconds.
    pub max_ns: u64,
    /// Waits by [`histogram::bucket`].
    pub buckets: [u64; histogram::BUCKETS],
}}

wire! { 32,
/// Key of the accept-error totals.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AcceptErrorKey {
    /// The process whose `accept()` failed.
    pub task: TaskKey,
    /// Inode of the listening socket; 0 where unknown.
    pub listener: u64,
    /// The errno, positive.
    pub errno: u32,
    /// Always 0.
    pub pad: u32,
}}

wire! { 144,
/// Key of the connect-failure totals: who, why, whereto.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectFailureKey {
    /// The connecting process.
    pub task: TaskKey,
    /// The errno, positive.
    pub errno: u32,
    /// Real uid at that moment: a process may change it.
    pub uid: u32,
    /// What the client passed to `connect()`.
    pub target: Endpoint,
}}

impl ConnectFailureKey {
    /// In the place of the errno: no failure, but a TCP connect that the program closed before there was an answer.
    pub const ABANDONED: u32 = 0;
    /// Of those, all for which no key of their own had room.
    pub const OTHERS_ABANDONED: Self =
        Self { task: TaskKey::NONE, errno: Self::ABANDONED, uid: 0, target: Endpoint::NONE };
}

wire! { 144,
/// Key of the totals of blocked connects: who, on whom.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectBlockedKey {
    /// The connecting process.
    pub task: TaskKey,
    /// Inode of the listening socket; 0 where unknown.
    pub listener: u64,
    /// What the client passed to `connect()`.
    pub target: Endpoint,
}}

wire! { 16,
/// Key of the drop totals.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DropKey {
    /// Inode of the listening socket; 0 where unknown.
    pub listener: u64,
    /// A [`DropReason`].
    pub reason: u32,
    /// A [`DropStage`], or [`DropStage::NONE`].
    pub stage: u32,
}}

/// Why a listener threw a connection away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "loader", derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema))]
#[cfg_attr(feature = "loader", serde(rename_all = "snake_case"))]
#[repr(u32)]
pub enum DropReason {
    /// The accept queue was full (`LINUX_MIB_LISTENOVERFLOWS`).
    AcceptQueueFull = 0,
    /// The queue of half-open connections was full (`LINUX_MIB_TCPREQQFULLDROP`).
    SynQueueFull = 1,
    /// Not a drop: a SYN was answered with a cookie (`LINUX_MIB_TCPREQQFULLDOCOOKIES`).
    SyncookieSent = 2,
    /// `LINUX_MIB_LISTENDROPS` that no other reason explains: memory, routing, an LSM.
    Other = 3,
    /// Not a drop of a connection, and never reported: a packet to the listener that `sk_drops`
    /// counts besides (`tcp_v4_rcv`: `discard_and_relse`). Tracepoint tier.
    Discarded = 4,
    /// The listener was closed, and this connection lay in its queue.
    ListenerClosed = 5,
}

impl DropReason {
    /// Every reason, in wire order.
    pub const ALL: [Self; 6] = [
        Self::AcceptQueueFull,
        Self::SynQueueFull,
        Self::SyncookieSent,
        Self::Other,
        Self::Discarded,
        Self::ListenerClosed,
    ];
}

/// At which packet of the handshake a connection was thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "loader", derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema))]
#[cfg_attr(feature = "loader", serde(rename_all = "snake_case"))]
#[repr(u32)]
pub enum DropStage {
    /// The SYN (`tcp_conn_request`): the client retries and may time out.
    Syn = 0,
    /// The final ACK (`tcp_check_req`): the client believes it is connected.
    Ack = 1,
    /// The final ACK of a syncookie (`tcp_get_cookie_sock`): likewise.
    Cookie = 2,
}

impl DropStage {
    /// Every stage, in wire order.
    pub const ALL: [Self; 3] = [Self::Syn, Self::Ack, Self::Cookie];
    /// On the wire: at no packet at all.
    pub const NONE: u32 = u32::MAX;
}

wire! { 40,
/// What a [`TaskKey`] stands for, kept so that a lost event or a dead process loses no name.
pub struct TaskInfo {
    /// Inode of the cgroup v2 directory; 0 without one.
    pub cgroup: u64,
    /// Real uid.
    pub uid: u32,
    /// Real gid.
    pub gid: u32,
    /// `comm` of the leader when a total of it was last begun, NUL-padded.
    pub comm: [u8; 16],
    /// Always 0.
    pub pad: u64,
}}

/// `requested` of a listener whose `listen()` was not seen. Negative ones are common: the kernel
/// takes them for the largest.
pub const BACKLOG_UNKNOWN: i32 = i32::MIN;

wire! { 200,
/// What a listener's inode stands for.
pub struct ListenerInfo {
    /// Local address.
    pub local: Endpoint,
    /// The process that called `listen()`; [`TaskKey::NONE`] where that was not seen.
    pub owner: TaskKey,
    /// The process that accepted last; [`TaskKey::NONE`] before the first.
    pub acceptor: TaskKey,
    /// `sk_drops` when the socket left LISTEN; [`u64::MAX`] while it listens.
    pub drops_at_close: u64,
    /// Connections accepted from it since it is known here.
    pub accepted: u64,
    /// When the last of them was, `CLOCK_MONOTONIC` nanoseconds; 0 before the first.
    pub accepted_ns: u64,
    /// Inode of its network namespace.
    pub netns: u32,
    /// Backlog that was passed to `listen()`; [`BACKLOG_UNKNOWN`] where that was not seen.
    pub requested: i32,
    /// Backlog that applies (`sk_max_ack_backlog`).
    pub effective: u32,
    /// Not 0 if it belongs to a process that the filters select.
    pub selected: u32,
    /// Not 0 if `local` is the address of an accepted connection, for want of the listener's own.
    pub from_child: u32,
    /// Always 0.
    pub pad: u32,
}}
