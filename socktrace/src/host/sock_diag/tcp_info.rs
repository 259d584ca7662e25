//! How a TCP connection gets on: retransmissions, round trips, what is not acknowledged.
//!
//! Owns the bytes of `struct tcp_info` (`include/uapi/linux/tcp.h`, `tcp_get_info()`). It has grown at
//! its end with every few kernels, so a field behind the end of what the kernel gave is unknown.

/// A part of `struct tcp_info`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TcpInfo {
    /// Timeouts in a row without an acknowledgement: `tcpi_retransmits`. Of a client that connects,
    /// the SYNs that were sent again.
    pub retransmits: u8,
    /// Probes of a closed window, or keep-alives, without an answer: `tcpi_probes`.
    pub probes: u8,
    /// How often the timeout was doubled: `tcpi_backoff`.
    pub backoff: u8,
    /// The timeout now, microseconds: `tcpi_rto`.
    pub rto_us: u32,
    /// Segments sent and not acknowledged: `tcpi_unacked`.
    pub unacked: u32,
    /// Of these, thought to be lost: `tcpi_lost`.
    pub lost: u32,
    /// Milliseconds since data was sent: `tcpi_last_data_sent`.
    pub last_data_sent_ms: u32,
    /// Milliseconds since data was received: `tcpi_last_data_recv`.
    pub last_data_recv_ms: u32,
    /// Milliseconds since an acknowledgement was received: `tcpi_last_ack_recv`.
    pub last_ack_recv_ms: u32,
    /// The round trip, smoothed, microseconds; 0 before the first measurement: `tcpi_rtt`.
    pub rtt_us: u32,
    /// Segments that were sent again since the connection was made: `tcpi_total_retrans`.
    pub total_retrans: u32,
    /// Bytes in the send queue that were not sent yet: `tcpi_notsent_bytes`.
    pub not_sent: Option<u32>,
    /// Microseconds that sending was held up by the peer's window: `tcpi_rwnd_limited`.
    pub window_limited_us: Option<u64>,
    /// The window that the peer offers, bytes; 0 is a peer that does not read: `tcpi_snd_wnd`.
    pub peer_window: Option<u32>,
}

impl TcpInfo {
    /// `None` where the fields that every kernel has are not all there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let byte = |at: usize| bytes.get(at).copied();
        let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let long = |at: usize| Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Self {
            retransmits: byte(2)?,
            probes: byte(3)?,
            backoff: byte(4)?,
            rto_us: word(8)?,
            unacked: word(24)?,
            lost: word(32)?,
            last_data_sent_ms: word(44)?,
            last_data_recv_ms: word(52)?,
            last_ack_recv_ms: word(56)?,
            rtt_us: word(68)?,
            total_retrans: word(100)?,
            not_sent: word(144),
            window_limited_us: long(176),
            peer_window: word(228),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_one_lacks_the_later_fields_and_a_cut_one_is_none() {
        let bytes: Vec<u8> = (0..=255).collect();
        let whole = TcpInfo::parse(&bytes).expect("all fields");
        assert_eq!((whole.retransmits, whole.probes, whole.backoff), (2, 3, 4));
        assert_eq!(whole.rtt_us, u32::from_ne_bytes([68, 69, 70, 71]));
        assert_eq!(whole.peer_window, Some(u32::from_ne_bytes([228, 229, 230, 231])));
        for length in 0..bytes.len() {
            let cut = TcpInfo::parse(&bytes[..length]);
            assert_eq!(cut.is_some(), length >= 104, "{length}");
            let known = cut.is_some_and(|cut| cut.not_sent.is_some());
            assert_eq!(known, length >= 148, "{length}");
            assert_eq!(cut.and_then(|cut| cut.peer_window).is_some(), length >= 232, "{length}");
        }
    }
}
