//! What a socket's buffers hold and may hold.
//!
//! Owns the meaning of `INET_DIAG_SKMEMINFO` (`sk_get_meminfo()`).

use netlink_packet_sock_diag::inet::nlas::{MemInfo, Nla};

/// Buffers of an inet socket, in bytes of memory: a packet takes more than its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkMemInfo {
    /// Received and not read: `sk_rmem_alloc`.
    pub receive_allocated: u32,
    /// The limit of that: `SO_RCVBUF`. A datagram that would go over it is dropped.
    pub receive_buffer: u32,
    /// Handed to the device and not sent by it: `sk_wmem_alloc`.
    pub send_allocated: u32,
    /// Of TCP, what is queued: written and not acknowledged: `sk_wmem_queued`.
    pub send_queued: u32,
    /// The limit of what may be queued: `SO_SNDBUF`. A sender blocks above it.
    pub send_buffer: u32,
    /// Packets that came while a task had the socket: `sk_backlog.len`.
    pub backlog: u32,
    /// Packets that were dropped since the socket was made: `sk_drops`.
    pub drops: u32,
}

pub(super) fn memory(attributes: &[Nla]) -> Option<SkMemInfo> {
    attributes.iter().find_map(|attribute| match attribute {
        Nla::MemInfo(memory) => Some(SkMemInfo::from(memory)),
        _ => None,
    })
}

impl From<&MemInfo> for SkMemInfo {
    fn from(memory: &MemInfo) -> Self {
        Self {
            receive_allocated: memory.receive_queue,
            receive_buffer: memory.receive_queue_max,
            send_allocated: memory.bottom_send_queues,
            send_queued: memory.send_queue,
            send_buffer: memory.send_queue_max,
            backlog: memory.backlog_queue_length,
            drops: memory.drops,
        }
    }
}
