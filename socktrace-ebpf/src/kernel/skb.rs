//! `struct sk_buff`: where a packet came from.

use socktrace_common::Endpoint;

use super::{SOCK_STREAM, read};
use crate::globals::offset;

/// A received `struct sk_buff` with a TCP header.
#[derive(Clone, Copy)]
pub(crate) struct Skb(u64);

impl Skb {
    #[inline(always)]
    pub(crate) fn from_raw(skb: u64) -> Self {
        Self(skb)
    }

    /// How many packets `sk_drops_add` takes it for.
    #[inline(always)]
    pub(crate) fn segments(self) -> u64 {
        let head: u64 = read(self.0, offset!(skb_head));
        let shared = head + u64::from(read::<u32>(self.0, offset!(skb_end)));
        u64::from(read::<u16>(shared, offset!(shinfo_gso_segs))).max(1)
    }

    /// Fills in the sender's address.
    #[inline(always)]
    pub(crate) fn read_source(self, end: &mut Endpoint) {
        end.kind = SOCK_STREAM;
        let head: u64 = read(self.0, offset!(skb_head));
        let ip = head + u64::from(read::<u16>(self.0, offset!(skb_network_header)));
        let tcp = head + u64::from(read::<u16>(self.0, offset!(skb_transport_header)));
        end.port = u16::from_be(read(tcp, 0));
        match read::<u8>(ip, 0) >> 4 {
            4 => {
                end.family = 2;
                end.addr[..4].copy_from_slice(&read::<[u8; 4]>(ip, 12));
                end.len = 4;
            }
            6 => {
                end.family = 10;
                end.addr[..16].copy_from_slice(&read::<[u8; 16]>(ip, 8));
                end.len = 16;
            }
            _ => {}
        }
    }
}
