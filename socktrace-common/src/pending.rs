//! What is under way: entries that the kernel side makes when a wait begins and removes when it ends,
//! and that user space reads meanwhile.

use crate::{AcceptKey, ConnectBlockedEvent, wire};

wire! { 64,
/// A connection in an accept queue, under the address of its `struct sock`.
pub struct AcceptStart {
    /// When it was queued, `CLOCK_MONOTONIC` nanoseconds; 0 once it is accepted.
    pub time_ns: u64,
    /// Inode of the listener; 0 where the hook does not know it: then `port` and `netns` tell.
    pub listener: u64,
    /// Inode of the client's socket (Unix); 0 where unknown.
    pub client: u64,
    /// The client's process (Unix); 0 where unknown.
    pub pid: u32,
    /// Inode of the network namespace.
    pub netns: u32,
    /// The client's address (TCP): IPv4 in the first four bytes.
    pub peer: [u8; 16],
    /// The client's port (TCP), host order; 0 where unknown.
    pub peer_port: u16,
    /// The listener's port (TCP), host order.
    pub port: u16,
    /// `AF_UNIX`, `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// Always 0.
    pub pad: [u16; 5],
}}

wire! { 40,
/// The end of a Unix connection that came to the meeting first (tracepoint tier), under the address
/// of the client's `struct sock`.
pub struct UnixMeeting {
    /// When `connect()` returned (`acceptor` empty) or `accept()` returned.
    pub time_ns: u64,
    /// Inode of the client's socket: tells a later socket at the same address apart.
    pub client: u64,
    /// Whose totals the wait belongs to; a zero task where the connector came first.
    pub acceptor: AcceptKey,
}}

wire! { 240,
/// A Unix connect that sleeps, or (tracepoint tier) one that has not returned, by `pid_tgid`.
pub struct BlockedCall {
    /// Its event as far as it is known: since when, who, on whom.
    pub event: ConnectBlockedEvent,
    /// Times the thread had slept before (`nvcsw`), in the tracepoint tier.
    pub switches: u64,
}}

/// 64-bit words of what is remembered of a call that may drop a connection, per CPU. The first is 0 where none is under way:
/// else the kernel may have counted a drop that is in no total yet.
pub const DROP_ENTRY_WORDS: usize = 10;
