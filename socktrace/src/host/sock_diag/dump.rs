//! One `sock_diag` dump: request, datagrams, messages.
//!
//! Owns the netlink exchange and its loss. Does not look into a message beyond its header; `tcp`
//! and `unix` do.

use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_ALIGNTO, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

use super::{Dump, SockDiagError, Subject};

/// A dump that the kernel calls inconsistent is asked for this often in all.
const ATTEMPTS: u32 = 3;
/// `netlink_recvmsg()` makes datagrams of up to 32 KiB for a reader with room for them.
const BUFFER_BYTES: usize = 64 * 1024;

/// A netlink socket that takes one dump after the other.
pub(super) struct DumpSocket {
    subject: Subject,
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What the datagrams of one dump have brought so far.
struct Progress {
    sequence: u32,
    dump: Dump<SockDiagMessage>,
    done: bool,
}

impl DumpSocket {
    pub(super) fn open(subject: Subject) -> Result<Self, SockDiagError> {
        let failed = |action| move |source| SockDiagError::Netlink { subject, action, source };
        let socket = Socket::new(NETLINK_SOCK_DIAG).map_err(failed("open"))?;
        // Connected to the kernel, the socket takes datagrams from nobody else.
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed("connect"))?;
        Ok(Self { subject, socket, sequence: 0, buffer: Vec::with_capacity(BUFFER_BYTES) })
    }

    /// Asks until the kernel calls the answer consistent, a few times at most.
    pub(super) fn dump(
        &mut self,
        request: &SockDiagMessage,
    ) -> Result<Dump<SockDiagMessage>, SockDiagError> {
        let mut dump = self.dump_once(request.clone())?;
        for _ in 1..ATTEMPTS {
            if !dump.interrupted {
                break;
            }
            dump = self.dump_once(request.clone())?;
        }
        Ok(dump)
    }

    fn dump_once(
        &mut self,
        request: SockDiagMessage,
    ) -> Result<Dump<SockDiagMessage>, SockDiagError> {
        let subject = self.subject;
        let failed = |action| move |source| SockDiagError::Netlink { subject, action, source };
        self.sequence += 1;
        let request = serialize_request(request, self.sequence);
        self.socket.send(&request, 0).map_err(failed("write to"))?;
        let mut progress = Progress::new(self.sequence);
        while !progress.done {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(failed("read from"))?,
            };
            progress.take_datagram(&self.buffer).map_err(|errno| refusal(subject, errno))?;
        }
        Ok(progress.dump)
    }
}

impl Progress {
    fn new(sequence: u32) -> Self {
        let dump = Dump { listeners: Vec::new(), malformed: 0, interrupted: false };
        Self { sequence, dump, done: false }
    }

    /// Takes every message of a datagram. A message that cannot be decoded costs itself; a length
    /// that cannot be followed costs the rest of the datagram, counted once. `Err` is the errno
    /// that the kernel ended the dump with.
    fn take_datagram(&mut self, datagram: &[u8]) -> Result<(), i32> {
        let mut rest = datagram;
        while !rest.is_empty() {
            let Ok(length) =
                NetlinkBuffer::new_checked(rest).map(|message| message.length() as usize)
            else {
                self.dump.malformed += 1;
                break;
            };
            let (message, _) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            self.take_message(message)?;
            rest = rest.get(length.next_multiple_of(NLMSG_ALIGNTO as usize)..).unwrap_or(&[]);
        }
        Ok(())
    }

    fn take_message(&mut self, bytes: &[u8]) -> Result<(), i32> {
        let Ok(message) = NetlinkMessage::<SockDiagMessage>::deserialize(bytes) else {
            self.dump.malformed += 1;
            return Ok(());
        };
        if message.header.sequence_number != self.sequence {
            return Ok(());
        }
        self.dump.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
        match message.payload {
            NetlinkPayload::InnerMessage(inner) => self.dump.listeners.push(inner),
            NetlinkPayload::Done(done) if done.code < 0 => return Err(-done.code),
            NetlinkPayload::Done(_) => self.done = true,
            NetlinkPayload::Error(error) => return Err(-error.raw_code()),
            _ => {}
        }
        Ok(())
    }
}

/// ENOENT is `sock_diag`'s word for "no handler", on the way in (`__sock_diag_cmd()`) and at the
/// end of a dump (`inet_diag_dump()`).
fn refusal(subject: Subject, errno: i32) -> SockDiagError {
    if errno == libc::ENOENT {
        return SockDiagError::NoHandler { subject };
    }
    SockDiagError::Refused { subject, source: io::Error::from_raw_os_error(errno) }
}

fn serialize_request(request: SockDiagMessage, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, request.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::{NLMSG_DONE, NLMSG_ERROR};
    use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};

    const SEQUENCE: u32 = 7;
    const ANSWER: u16 = netlink_packet_sock_diag::SOCK_DIAG_BY_FAMILY;
    /// `struct unix_diag_msg` of a stream listener with inode 9 and no attributes.
    const LISTENER: [u8; 16] = [1, 1, 10, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];

    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + payload.len()).expect("a short message");
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn take(datagram: &[u8]) -> (Progress, Result<(), i32>) {
        let mut progress = Progress::new(SEQUENCE);
        let outcome = progress.take_datagram(datagram);
        (progress, outcome)
    }

    #[test]
    fn a_bad_message_is_counted_and_costs_only_itself() {
        let mut bad_attribute = LISTENER.to_vec();
        bad_attribute.extend([255, 255, 0, 0]);
        let datagram = [
            message(ANSWER, 0, SEQUENCE, &LISTENER[..5]),
            message(ANSWER, 0, SEQUENCE, &bad_attribute),
            message(ANSWER, 0, SEQUENCE, &[99; 16]),
            message(ANSWER, 0, SEQUENCE, &LISTENER),
            message(NLMSG_DONE, 0, SEQUENCE, &[0; 4]),
        ]
        .concat();
        let (progress, outcome) = take(&datagram);
        assert_eq!(outcome, Ok(()));
        assert_eq!((progress.dump.listeners.len(), progress.dump.malformed), (1, 3));
        assert!(progress.done);
    }

    #[test]
    fn no_cut_of_a_datagram_is_taken_for_a_whole_one() {
        let first = message(ANSWER, 0, SEQUENCE, &LISTENER);
        let whole = [first.clone(), message(NLMSG_DONE, 0, SEQUENCE, &[0; 4])].concat();
        for length in 1..whole.len() {
            let (progress, outcome) = take(&whole[..length]);
            assert_eq!(outcome, Ok(()));
            assert!(!progress.done, "{length}");
            assert_eq!(progress.dump.malformed, u32::from(length != first.len()), "{length}");
        }
        let impossible = [3, 0, 0, 0].iter().chain(&first[4..]).copied().collect::<Vec<_>>();
        assert_eq!(take(&impossible).0.dump.malformed, 1);
    }

    #[test]
    fn no_changed_byte_breaks_the_decoder() {
        let attribute = |kind: u16, value: &[u8]| {
            let length = u16::try_from(4 + value.len()).expect("a short attribute");
            [&length.to_ne_bytes(), kind.to_ne_bytes().as_slice(), value].concat()
        };
        // UNIX_DIAG_NAME, _VFS, _ICONS, _RQLEN
        let parts = [(0, b"/run/x\0".as_slice()), (1, &[1; 8]), (3, &[2; 8]), (4, &[3; 8])];
        let mut payload = LISTENER.to_vec();
        for (kind, value) in parts {
            payload.extend(attribute(kind, value));
            payload.resize(payload.len().next_multiple_of(4), 0);
        }
        let good = message(ANSWER, 0, SEQUENCE, &payload);
        assert_eq!(take(&good).0.dump.listeners.len(), 1);
        for position in 0..good.len() {
            for value in 0..=u8::MAX {
                let mut bad = good.clone();
                bad[position] = value;
                let (progress, _) = take(&bad);
                assert!(progress.dump.listeners.len() <= 1);
            }
        }
    }

    #[test]
    fn an_interrupted_dump_says_so_and_a_strangers_answer_does_not_count() {
        let interrupted = NLM_F_DUMP_INTR;
        let own = message(ANSWER, interrupted, SEQUENCE, &LISTENER);
        assert!(take(&own).0.dump.interrupted);
        let other = message(ANSWER, interrupted, SEQUENCE - 1, &LISTENER);
        let (progress, _) = take(&[other, message(NLMSG_DONE, 0, SEQUENCE - 1, &[0; 4])].concat());
        assert!(!progress.dump.interrupted && !progress.done);
        assert!(progress.dump.listeners.is_empty());
    }

    #[test]
    fn an_error_ends_the_dump_whether_first_or_last() {
        let denied = (-libc::EPERM).to_ne_bytes();
        assert_eq!(take(&message(NLMSG_DONE, 0, SEQUENCE, &denied)).1, Err(libc::EPERM));
        let error = [denied.as_slice(), &[0; 16]].concat();
        assert_eq!(take(&message(NLMSG_ERROR, 0, SEQUENCE, &error)).1, Err(libc::EPERM));
        let text = refusal(Subject::Unix, libc::EPERM).to_string();
        assert!(text.starts_with("the kernel refused to list Unix listeners: "), "{text}");
    }

    #[test]
    fn a_protocol_without_a_handler_is_named_with_the_module_to_load() {
        // 253 is for experiments (RFC 3692): no kernel has a handler for it.
        let request = SockDiagMessage::InetRequest(InetRequest {
            family: netlink_packet_sock_diag::AF_INET,
            protocol: 253,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::LISTEN,
            socket_id: SocketId::new_v4(),
        });
        let mut socket = DumpSocket::open(Subject::Tcp).expect("a netlink socket");
        let error = socket.dump(&request).expect_err("no handler");
        assert!(matches!(error, SockDiagError::NoHandler { subject: Subject::Tcp }), "{error}");
        assert!(error.to_string().contains("run `modprobe tcp_diag`"));
    }
}
