//! A listener that is passed to another process (`SCM_RIGHTS`): the one that called `listen()` keeps it, too.

use std::io::{Read, Write};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockType};

use crate::scenario::actor::{Actor, Role, prepare};
use crate::scenario::gate::Gate;
use crate::scenario::listener::{accepts, loopback};
use crate::scenario::record::Accepts;
use crate::scenario::socket::{Address, Listener, accept, listen, listening};
use crate::scenario::stage::Stage;
use crate::scenario::tcp_timeout::fill;

const NAME: &str = "edge_passed";
const COMM: &str = "st-receiver";
/// Enough for one descriptor, aligned as a header wants it.
type Control = [u64; 3];

/// A process that receives a listener, accepts its share of connections, and holds it until it is told to end.
struct Receiver {
    actor: Actor<()>,
    talk: UnixStream,
    share: u32,
}

/// The receiver of one listener accepts last, that of another accepts nothing: only its descriptor tells of it.
///
/// # Errors
/// When a listener does not arrive, or not every connection is accepted.
pub(super) fn to_another_process(stage: &mut Stage, gate: &Gate) -> Result<()> {
    // Both before any listener: who is forked later holds it without being passed it.
    let (mut last, mut idle) = (Receiver::prepare(3)?, Receiver::prepare(0)?);
    gate.arrive()?;
    let unix = Address::path(&stage.path("passed.sock"))?;
    let _held = (pass(stage, &loopback(), 2, &mut last)?, pass(stage, &unix, 4, &mut idle)?);
    gate.leave_and_stay()?;
    last.end()?;
    idle.end()
}

impl Receiver {
    fn prepare(share: u32) -> Result<Self> {
        let (talk, theirs) = UnixStream::pair().context("a pair of sockets")?;
        let actor = prepare(Role::named(COMM), move || receive(theirs, share))?;
        Ok(Self { actor, talk, share })
    }

    fn end(mut self) -> Result<()> {
        self.talk.write_all(b"!").context("the word to end")?;
        self.actor.finish()
    }
}

/// A listener that accepts `own` connections itself, and then is passed on. Accepts are noted in their order.
fn pass(stage: &mut Stage, at: &Address, own: u32, to: &mut Receiver) -> Result<Listener> {
    let listener = listen(at, SockType::Stream, 16)?;
    stage.listens(NAME, &listener);
    let clients = fill(&listener, own + to.share)?;
    accept_all(&listener, own)?;
    to.actor.start()?;
    send_descriptor(&to.talk, &listener.fd)?;
    let mut inode = [0; size_of::<u64>()];
    to.talk.read_exact(&mut inode).context("the receiver died")?;
    let inode = u64::from_ne_bytes(inode);
    ensure!(inode == listener.inode, "passed was {}, received {inode}", listener.inode);
    drop(clients);
    let mut by_giver = accepts(NAME, &listener, own.into())?;
    by_giver.holders = vec![by_giver.pid, to.actor.pid()];
    let (pid, comm, count) = (to.actor.pid(), COMM.to_owned(), to.share.into());
    let by_receiver = Accepts { pid, comm, count, ..by_giver.clone() };
    let noted = [by_giver, by_receiver].into_iter().filter(|it| it.count > 0);
    noted.for_each(|it| stage.accepted(it));
    Ok(listener)
}

/// Accepts its share, says which socket it was, and keeps that until the word to end.
fn receive(mut talk: UnixStream, share: u32) -> Result<()> {
    // Where it listens, its giver knows.
    let listener = listening(receive_descriptor(&talk)?, loopback(), 0)?;
    accept_all(&listener, share)?;
    talk.write_all(&listener.inode.to_ne_bytes()).context("the giver died")?;
    talk.read_exact(&mut [0]).context("the word to end")
}

fn accept_all(listener: &Listener, count: u32) -> Result<()> {
    (0..count).try_for_each(|_| accept(listener, SockFlag::empty()).map(drop).context("accept"))
}

fn send_descriptor(over: &UnixStream, passed: &OwnedFd) -> Result<()> {
    let (mut byte, mut control) = ([0u8; 1], Control::default());
    let message = with_message(&mut byte, &mut control, |message| {
        // SAFETY: the control buffer has room for a header and one descriptor, and is aligned for the header.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
            libc::CMSG_DATA(header).cast::<i32>().write_unaligned(passed.as_raw_fd());
            libc::sendmsg(over.as_raw_fd(), message, 0)
        }
    });
    Errno::result(message).map(drop).context("sendmsg(SCM_RIGHTS)")
}

fn receive_descriptor(over: &UnixStream) -> Result<OwnedFd> {
    let (mut byte, mut control) = ([0u8; 1], Control::default());
    let received = with_message(&mut byte, &mut control, |message| {
        // SAFETY: the kernel writes no more than the lengths of the two buffers.
        let received = unsafe { libc::recvmsg(over.as_raw_fd(), message, libc::MSG_CMSG_CLOEXEC) };
        Errno::result(received).context("recvmsg")?;
        // SAFETY: the kernel has set the length of what it wrote: there is a header, or null.
        let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() };
        let header = header.context("a message without a descriptor")?;
        ensure!(header.cmsg_type == libc::SCM_RIGHTS, "a message of {}", header.cmsg_type);
        // SAFETY: a message with rights has one descriptor at least.
        Ok(unsafe { libc::CMSG_DATA(header).cast::<i32>().read_unaligned() })
    });
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    received.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A message of one byte with a control buffer, while `act` uses it.
fn with_message<T>(
    byte: &mut [u8; 1],
    control: &mut Control,
    act: impl FnOnce(&mut libc::msghdr) -> T,
) -> T {
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    // SAFETY: msghdr is plain data, for which zeros are valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>();
    act(&mut message)
}
