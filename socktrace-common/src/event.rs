//! Wire layout of detail events. The first eight bytes name the signal and the size.

use crate::{
    AcceptErrorKey, Actor, ConnectBlockedKey, ConnectFailureKey, Credentials, DropKey, Endpoint,
    ListenerInfo, wire,
};

/// `wait_ns` of an accept whose start was not seen.
pub const WAIT_UNKNOWN: u64 = u64::MAX;

wire! { 72,
/// Opens every event.
pub struct EventHeader {
    /// A [`crate::Signal`] by wire number.
    pub signal: u32,
    /// Size of the whole event in bytes.
    pub size: u32,
    /// When it happened, `CLOCK_MONOTONIC` nanoseconds.
    pub time_ns: u64,
    /// Who did it; [`Actor::NONE`] in softirq context.
    pub actor: Actor,
}}

wire! { 208,
/// A connection was accepted.
pub struct AcceptEvent {
    /// Who accepted.
    pub header: EventHeader,
    /// Inode of the listening socket; 0 where unknown.
    pub listener: u64,
    /// Time in the accept queue, nanoseconds, or [`WAIT_UNKNOWN`].
    pub wait_ns: u64,
    /// The client's address.
    pub peer: Endpoint,
}}

wire! { 104,
/// `accept()` failed.
pub struct AcceptErrorEvent {
    /// Who called it.
    pub header: EventHeader,
    /// What failed.
    pub key: AcceptErrorKey,
}}

wire! { 216,
/// A connect attempt failed, after `connect()` had returned or while it slept: in softirq context.
pub struct ConnectFailureEvent {
    /// Who connected.
    pub header: EventHeader,
    /// What failed.
    pub key: ConnectFailureKey,
}}

wire! { 272,
/// `connect()` itself failed; told from a [`ConnectFailureEvent`] by its size.
pub struct ConnectReturnedEvent {
    /// Who connected, and what failed.
    pub failure: ConnectFailureEvent,
    /// With which rights.
    pub credentials: Credentials,
}}

wire! { 216,
/// A listener threw a connection away, or answered it with a syncookie.
pub struct BacklogDropEvent {
    /// No actor where it happens in softirq context; who closed the listener, if that is why.
    pub header: EventHeader,
    /// Which listener and why.
    pub key: DropKey,
    /// Connections in the accept queue (`sk_ack_backlog`).
    pub queue: u32,
    /// Limit of the accept queue (`sk_max_ack_backlog`).
    pub limit: u32,
    /// The client's address.
    pub peer: Endpoint,
}}

wire! { 280,
/// A socket began to listen.
pub struct ListenEvent {
    /// Who called `listen()`.
    pub header: EventHeader,
    /// Inode of the listening socket.
    pub listener: u64,
    /// Its address and backlog.
    pub info: ListenerInfo,
}}

wire! { 232,
/// A Unix connect slept on a full backlog, and returned.
pub struct ConnectBlockedEvent {
    /// Who connected.
    pub header: EventHeader,
    /// On whom.
    pub key: ConnectBlockedKey,
    /// From the first sleep until `connect()` returned, or (fentry) had queued the connection, nanoseconds.
    pub wait_ns: u64,
    /// The errno, positive; 0 if it connected.
    pub errno: u32,
    /// Always 0.
    pub pad: u32,
}}
