//! Bytes of the event buffer to [`Event`]s: checked, and the only place that reads wire types
//! out of bytes.

use socktrace_common::{
    AcceptErrorEvent, AcceptEvent, BacklogDropEvent, ConnectBlockedEvent, ConnectFailureEvent,
    ConnectReturnedEvent, DropReason, DropStage, EventHeader, ListenEvent, Signal, WAIT_UNKNOWN,
};
use thiserror::Error;

use crate::event::{Actor, Body, Endpoint, Event, Task};

/// These bytes are no event.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("an event of {bytes} bytes is not what its header says (signal {signal}, size {size})")]
pub struct Undecodable {
    /// How many bytes there were.
    pub bytes: usize,
    /// The signal that the header names; 0 if there was no header.
    pub signal: u32,
    /// The size that the header names; 0 if there was no header.
    pub size: u32,
}

/// A wire type that any bytes are a value of.
///
/// # Safety
/// Only for `#[repr(C)]` integers and arrays of integers.
unsafe trait Wire: Copy {}
// SAFETY: see `socktrace_common::event`: integers and arrays of integers throughout.
unsafe impl Wire for EventHeader {}
// SAFETY: as above.
unsafe impl Wire for AcceptEvent {}
// SAFETY: as above.
unsafe impl Wire for AcceptErrorEvent {}
// SAFETY: as above.
unsafe impl Wire for ConnectFailureEvent {}
// SAFETY: as above.
unsafe impl Wire for ConnectReturnedEvent {}
// SAFETY: as above.
unsafe impl Wire for BacklogDropEvent {}
// SAFETY: as above.
unsafe impl Wire for ConnectBlockedEvent {}
// SAFETY: as above.
unsafe impl Wire for ListenEvent {}

/// Reads a `T` from the front of `bytes`, if they suffice.
fn read<T: Wire>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: long enough; unaligned reads need no alignment; any bytes are a `T`.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Decodes one event; bytes behind it (perf pads its records) are ignored.
pub fn decode(bytes: &[u8]) -> Result<Event, Undecodable> {
    let header = read::<EventHeader>(bytes);
    let decoded = header.and_then(|header| {
        let signal = Signal::from_wire(header.signal)?;
        let body = match signal {
            Signal::Accept => accept(sized(bytes, &header)?),
            Signal::AcceptError => accept_error(sized(bytes, &header)?),
            Signal::ConnectFailure => connect_failure(bytes, &header)?,
            Signal::BacklogDrop => backlog_drop(sized(bytes, &header)?)?,
            Signal::Listen => listen(&sized(bytes, &header)?),
            Signal::ConnectBlocked => connect_blocked(sized(bytes, &header)?),
        };
        Some(Event { time_ns: header.time_ns, actor: actor(&header), body })
    });
    let (signal, size) = header.map_or((0, 0), |header| (header.signal, header.size));
    decoded.ok_or(Undecodable { bytes: bytes.len(), signal, size })
}

/// Reads a `T` whose header names its size.
fn sized<T: Wire>(bytes: &[u8], header: &EventHeader) -> Option<T> {
    (header.size as usize == size_of::<T>()).then(|| read(bytes)).flatten()
}

fn actor(header: &EventHeader) -> Option<Actor> {
    let wire = &header.actor;
    (wire.task.tgid != 0).then(|| Actor {
        key: wire.task,
        tid: wire.tid,
        task: Task::from_wire(wire.comm, wire.uid, wire.gid, wire.cgroup),
    })
}

fn known(inode: u64) -> Option<u64> {
    (inode != 0).then_some(inode)
}

fn accept(wire: AcceptEvent) -> Body {
    Body::Accept {
        listener: known(wire.listener),
        wait_ns: (wire.wait_ns != WAIT_UNKNOWN).then_some(wire.wait_ns),
        peer: (&wire.peer).into(),
    }
}

fn accept_error(wire: AcceptErrorEvent) -> Body {
    Body::AcceptError { listener: known(wire.key.listener), errno: wire.key.errno }
}

/// Two events, told apart by their size.
fn connect_failure(bytes: &[u8], header: &EventHeader) -> Option<Body> {
    let returned = sized::<ConnectReturnedEvent>(bytes, header);
    let credentials = returned.map(|wire| Box::new(wire.credentials));
    let wire = returned.map(|wire| wire.failure).or_else(|| sized(bytes, header))?;
    Some(Body::ConnectFailure {
        errno: wire.key.errno,
        target: (&wire.key.target).into(),
        credentials,
    })
}

fn backlog_drop(wire: BacklogDropEvent) -> Option<Body> {
    let reason = *DropReason::ALL.get(wire.key.reason as usize)?;
    let is_closed = reason == DropReason::ListenerClosed;
    // Of a TCP listener that is closed, what it throws away is in its queue; of a Unix one, the hook has no queue.
    let has_queue = !is_closed || wire.queue != 0;
    Some(Body::BacklogDrop {
        listener: known(wire.key.listener),
        reason,
        stage: match wire.key.stage {
            DropStage::NONE => None,
            stage => Some(*DropStage::ALL.get(stage as usize)?),
        },
        queue: has_queue.then_some(wire.queue),
        limit: has_queue.then_some(wire.limit),
        peer: if is_closed { Endpoint::default() } else { (&wire.peer).into() },
    })
}

fn connect_blocked(wire: ConnectBlockedEvent) -> Body {
    Body::ConnectBlocked {
        listener: known(wire.key.listener),
        target: (&wire.key.target).into(),
        wait_ns: wire.wait_ns,
        errno: (wire.errno != 0).then_some(wire.errno),
    }
}

fn listen(wire: &ListenEvent) -> Body {
    Body::Listen { inode: wire.listener, listener: (&wire.info).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_listener_has_no_peer_and_a_queue_only_where_the_hook_has_one() {
        let told = |reason: DropReason, queue| {
            let zeros = vec![0; size_of::<BacklogDropEvent>()];
            let mut wire = read::<BacklogDropEvent>(&zeros).expect("an event");
            (wire.key.reason, wire.key.stage, wire.queue) = (reason as u32, DropStage::NONE, queue);
            wire.peer.family = 1;
            match backlog_drop(wire) {
                Some(Body::BacklogDrop { queue, limit, peer, .. }) => {
                    (queue, limit, peer.address.is_some())
                }
                other => unreachable!("{other:?}"),
            }
        };
        assert_eq!(told(DropReason::ListenerClosed, 0), (None, None, false));
        assert_eq!(told(DropReason::ListenerClosed, 3), (Some(3), Some(0), false));
        assert_eq!(told(DropReason::Other, 0), (Some(0), Some(0), true));
    }

    /// An accept error of pid 7 on listener 9, as bytes.
    fn bytes() -> Vec<u8> {
        let mut bytes = vec![0; size_of::<AcceptErrorEvent>()];
        bytes[0] = Signal::AcceptError as u8;
        bytes[4] = u8::try_from(size_of::<AcceptErrorEvent>()).expect("it is small");
        bytes[24] = 7;
        bytes[72 + 16] = 9;
        bytes[72 + 24] = 24;
        bytes
    }

    #[test]
    fn an_event_is_read_with_the_padding_that_perf_adds() {
        let mut bytes = bytes();
        bytes.extend([0; 4]);
        let event = decode(&bytes).expect("it is an event");
        assert_eq!(event.actor.map(|actor| actor.key.tgid), Some(7));
        assert_eq!(event.body, Body::AcceptError { listener: Some(9), errno: 24 });
    }

    #[test]
    fn a_failed_connect_comes_with_credentials_or_without_by_its_size() {
        let event = |size: usize| {
            let mut bytes = vec![0; size];
            bytes[0] = Signal::ConnectFailure as u8;
            bytes[4..6].copy_from_slice(&u16::try_from(size).expect("it is small").to_le_bytes());
            if let Some(capability) = bytes.get_mut(size_of::<ConnectFailureEvent>()) {
                *capability = 1;
            }
            decode(&bytes)
        };
        let capability = |size| match event(size).map(|event| event.body) {
            Ok(Body::ConnectFailure { credentials, .. }) => {
                Some(credentials.map(|held| held.cap_effective))
            }
            _ => None,
        };
        assert_eq!(capability(size_of::<ConnectFailureEvent>()), Some(None));
        assert_eq!(capability(size_of::<ConnectReturnedEvent>()), Some(Some(1)));
        assert_eq!(capability(size_of::<ConnectReturnedEvent>() - 8), None);
    }

    #[test]
    fn every_prefix_is_refused() {
        let bytes = bytes();
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len} bytes are too few");
        }
    }

    #[test]
    fn no_changed_byte_panics_and_a_wrong_header_is_refused() {
        for position in 0..bytes().len() {
            for value in [0, 1, 5, 0x7f, 0xff] {
                let mut bytes = bytes();
                bytes[position] = value;
                let decoded = decode(&bytes);
                if position < 8 && bytes[..8] != self::bytes()[..8] {
                    assert!(decoded.is_err(), "byte {position} = {value}");
                }
            }
        }
    }
}
