//! One `sock_diag` dump: request, datagrams, messages.
//!
//! Owns the netlink exchange and its loss. Does not look into a message beyond its header; `tcp`,
//! `udp` and `unix` and what stands beside them do. A message is handed on as it is decoded and not
//! kept here: what a dump costs in memory is what its reader keeps.

use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_ALIGNTO, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

use super::{SockDiagError, Subject};

/// A dump that the kernel calls inconsistent is asked for this often in all.
const ATTEMPTS: u32 = 3;
/// `netlink_recvmsg()` makes datagrams of up to 32 KiB for a reader with room for them.
const BUFFER_BYTES: usize = 64 * 1024;

/// A netlink socket that takes one dump after the other.
///
/// It belongs to the network namespace of the thread that opened it and answers for that one
/// wherever it is used (`sock_net(skb->sk)`), without any capability. It also keeps that namespace
/// alive (`sk_net_refcnt`).
#[derive(Debug)]
pub struct SockDiag {
    socket: Socket,
    sequence: u32,
    /// The last dump was not read to its end: the kernel would refuse the next one with EBUSY.
    unfinished: bool,
}

/// What a dump came to, and what it lost.
pub(super) struct Folded<S> {
    /// What its reader kept.
    pub(super) state: S,
    /// Messages that could not be decoded, or that are none of what was asked for.
    pub(super) malformed: u32,
    /// See [`super::Dump::interrupted`].
    pub(super) interrupted: bool,
}

/// What the datagrams of one dump have brought so far.
struct Progress<S> {
    sequence: u32,
    folded: Folded<S>,
    done: bool,
}

impl SockDiag {
    /// Opens it in the calling thread's network namespace.
    pub fn open() -> Result<Self, SockDiagError> {
        let failed = |action| move |source| SockDiagError::Open { action, source };
        let socket = Socket::new(NETLINK_SOCK_DIAG).map_err(failed("open"))?;
        // Connected to the kernel, the socket takes datagrams from nobody else.
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed("connect"))?;
        Ok(Self { socket, sequence: 0, unfinished: false })
    }

    /// Asks until the kernel calls the answer consistent, a few times at most; each time `take`
    /// begins with a new state. It says whether the message is one that was asked for.
    pub(super) fn fold<S: Default>(
        &mut self,
        subject: Subject,
        request: &SockDiagMessage,
        take: impl Fn(&mut S, SockDiagMessage) -> bool,
    ) -> Result<Folded<S>, SockDiagError> {
        let mut folded = self.fold_once(subject, request.clone(), &take)?;
        for _ in 1..ATTEMPTS {
            if !folded.interrupted {
                break;
            }
            folded = self.fold_once(subject, request.clone(), &take)?;
        }
        Ok(folded)
    }

    fn fold_once<S: Default>(
        &mut self,
        subject: Subject,
        request: SockDiagMessage,
        take: impl Fn(&mut S, SockDiagMessage) -> bool,
    ) -> Result<Folded<S>, SockDiagError> {
        let failed = |action| move |source| SockDiagError::Netlink { subject, action, source };
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        self.finish_last(&mut buffer);
        self.sequence = self.sequence.wrapping_add(1);
        let request = serialize_request(request, self.sequence);
        self.socket.send(&request, 0).map_err(failed("write to"))?;
        self.unfinished = true;
        let mut progress = Progress::new(self.sequence);
        while !progress.done {
            buffer.clear();
            match self.socket.recv(&mut buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(failed("read from"))?,
            };
            // An error of the kernel's ends the dump, too.
            progress.take_datagram(&buffer, &take).map_err(|errno| {
                self.unfinished = false;
                refusal(subject, errno)
            })?;
        }
        self.unfinished = false;
        Ok(progress.folded)
    }

    /// Reads away what a dump that broke off has left: each read makes the kernel go on with it.
    fn finish_last(&mut self, buffer: &mut Vec<u8>) {
        while std::mem::take(&mut self.unfinished) {
            buffer.clear();
            self.unfinished = self.socket.recv(buffer, libc::MSG_DONTWAIT).is_ok();
        }
    }
}

impl<S: Default> Progress<S> {
    fn new(sequence: u32) -> Self {
        let folded = Folded { state: S::default(), malformed: 0, interrupted: false };
        Self { sequence, folded, done: false }
    }

    /// Takes every message of a datagram. A message that cannot be decoded costs itself; a length
    /// that cannot be followed costs the rest of the datagram, counted once. `Err` is the errno
    /// that the kernel ended the dump with.
    fn take_datagram(
        &mut self,
        datagram: &[u8],
        take: impl Fn(&mut S, SockDiagMessage) -> bool,
    ) -> Result<(), i32> {
        let mut rest = datagram;
        while !rest.is_empty() {
            let Ok(length) =
                NetlinkBuffer::new_checked(rest).map(|message| message.length() as usize)
            else {
                self.folded.malformed += 1;
                break;
            };
            let (message, _) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            self.take_message(message, &take)?;
            rest = rest.get(length.next_multiple_of(NLMSG_ALIGNTO as usize)..).unwrap_or(&[]);
        }
        Ok(())
    }

    fn take_message(
        &mut self,
        bytes: &[u8],
        take: impl Fn(&mut S, SockDiagMessage) -> bool,
    ) -> Result<(), i32> {
        let Ok(message) = NetlinkMessage::<SockDiagMessage>::deserialize(bytes) else {
            self.folded.malformed += 1;
            return Ok(());
        };
        if message.header.sequence_number != self.sequence {
            return Ok(());
        }
        self.folded.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
        match message.payload {
            NetlinkPayload::InnerMessage(inner) => {
                self.folded.malformed += u32::from(!take(&mut self.folded.state, inner));
            }
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

    type Messages = Vec<SockDiagMessage>;

    fn take(datagram: &[u8]) -> (Progress<Messages>, Result<(), i32>) {
        let mut progress = Progress::new(SEQUENCE);
        let outcome = progress.take_datagram(datagram, |all: &mut Messages, message| {
            all.push(message);
            true
        });
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
        assert_eq!((progress.folded.state.len(), progress.folded.malformed), (1, 3));
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
            assert_eq!(progress.folded.malformed, u32::from(length != first.len()), "{length}");
        }
        let impossible = [3, 0, 0, 0].iter().chain(&first[4..]).copied().collect::<Vec<_>>();
        assert_eq!(take(&impossible).0.folded.malformed, 1);
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
        assert_eq!(take(&good).0.folded.state.len(), 1);
        for position in 0..good.len() {
            for value in 0..=u8::MAX {
                let mut bad = good.clone();
                bad[position] = value;
                let (progress, _) = take(&bad);
                assert!(progress.folded.state.len() <= 1);
            }
        }
    }

    #[test]
    fn an_interrupted_dump_says_so_and_a_strangers_answer_does_not_count() {
        let interrupted = NLM_F_DUMP_INTR;
        let own = message(ANSWER, interrupted, SEQUENCE, &LISTENER);
        assert!(take(&own).0.folded.interrupted);
        let other = message(ANSWER, interrupted, SEQUENCE - 1, &LISTENER);
        let (progress, _) = take(&[other, message(NLMSG_DONE, 0, SEQUENCE - 1, &[0; 4])].concat());
        assert!(!progress.folded.interrupted && !progress.done);
        assert!(progress.folded.state.is_empty());
    }

    #[test]
    fn an_error_ends_the_dump_whether_first_or_last() {
        let denied = (-libc::EPERM).to_ne_bytes();
        assert_eq!(take(&message(NLMSG_DONE, 0, SEQUENCE, &denied)).1, Err(libc::EPERM));
        let error = [denied.as_slice(), &[0; 16]].concat();
        assert_eq!(take(&message(NLMSG_ERROR, 0, SEQUENCE, &error)).1, Err(libc::EPERM));
        let text = refusal(Subject::Unix, libc::EPERM).to_string();
        assert!(text.starts_with("the kernel refused to list Unix sockets: "), "{text}");
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
        let mut socket = SockDiag::open().expect("a netlink socket");
        let error = socket.fold(Subject::Tcp, &request, |(), _| true).err().expect("no handler");
        assert!(matches!(error, SockDiagError::NoHandler { subject: Subject::Tcp }), "{error}");
        assert!(error.to_string().contains("run `modprobe tcp_diag`"));
    }
}
