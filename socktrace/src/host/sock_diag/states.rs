//! The states of sockets, as the kernel numbers them (`include/net/tcp_states.h`).
//!
//! Owns the numbers and the set of them that a request carries. What a state means for a kind of
//! socket is said where its sockets are listed.

/// States that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct States(u32);

impl States {
    /// Every one, those of later kernels, too.
    pub const ALL: Self = Self(u32::MAX);

    /// Only these.
    pub fn of<S: Copy + Into<u8>>(states: &[S]) -> Self {
        let bit = |state: &S| 1_u32.checked_shl(u32::from((*state).into())).unwrap_or(0);
        Self(states.iter().map(bit).fold(0, |all, bit| all | bit))
    }

    /// All but these.
    #[must_use]
    pub fn except(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    pub(super) fn bits(self) -> u32 {
        self.0
    }
}

/// The state of a TCP or UDP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TcpState {
    /// Connected. Of UDP: connect(2) named a peer.
    Established,
    /// A client whose SYN is not answered yet.
    SynSent,
    /// A request to a listener that is not complete: it has no inode.
    SynReceived,
    /// Closed here, the FIN not acknowledged.
    FinWait1,
    /// Closed here, waiting for the peer's FIN.
    FinWait2,
    /// Closed by both, its port kept for a while; it has no inode.
    TimeWait,
    /// Not connected: of UDP every socket without a peer, of TCP one that is bound only.
    Close,
    /// Closed by the peer, not here.
    CloseWait,
    /// Closed by both, the last FIN not acknowledged.
    LastAck,
    /// Listening.
    Listen,
    /// Closed by both at once, the FIN not acknowledged.
    Closing,
    /// A later kernel's.
    Other(u8),
}

impl TcpState {
    /// What a TCP socket that is bound, and neither connected nor listening, is asked for by, since
    /// Linux 6.8; it is listed as `Close`.
    pub const BOUND_INACTIVE: Self = Self::Other(13);
}

impl From<u8> for TcpState {
    fn from(state: u8) -> Self {
        match state {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            other => Self::Other(other),
        }
    }
}

impl From<TcpState> for u8 {
    fn from(state: TcpState) -> Self {
        match state {
            TcpState::Established => 1,
            TcpState::SynSent => 2,
            TcpState::SynReceived => 3,
            TcpState::FinWait1 => 4,
            TcpState::FinWait2 => 5,
            TcpState::TimeWait => 6,
            TcpState::Close => 7,
            TcpState::CloseWait => 8,
            TcpState::LastAck => 9,
            TcpState::Listen => 10,
            TcpState::Closing => 11,
            TcpState::Other(other) => other,
        }
    }
}

/// The state of a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnixState {
    /// Listening.
    Listening,
    /// Connected. Of a datagram socket it says as little as that it, or another to it, was
    /// connected (`unix_dgram_connect()` sets both): see its peer.
    Established,
    /// Neither: made or bound only, or a client that still waits in connect(2).
    Unconnected,
    /// What no known kernel gives a Unix socket.
    Other(u8),
}

impl From<u8> for UnixState {
    fn from(state: u8) -> Self {
        match state {
            1 => Self::Established,
            7 => Self::Unconnected,
            10 => Self::Listening,
            other => Self::Other(other),
        }
    }
}

impl From<UnixState> for u8 {
    fn from(state: UnixState) -> Self {
        match state {
            UnixState::Established => 1,
            UnixState::Unconnected => 7,
            UnixState::Listening => 10,
            UnixState::Other(other) => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_one_state_and_back() {
        for number in 0..=u8::MAX {
            assert_eq!(u8::from(TcpState::from(number)), number);
            assert_eq!(u8::from(UnixState::from(number)), number);
        }
    }

    #[test]
    fn a_set_has_a_bit_for_each_state_and_none_for_what_has_no_bit() {
        let some = States::of(&[TcpState::Established, TcpState::Listen, TcpState::Other(200)]);
        assert_eq!(some.bits(), 1 << 1 | 1 << 10);
        assert_eq!(States::ALL.except(some).bits(), !some.bits());
    }
}
