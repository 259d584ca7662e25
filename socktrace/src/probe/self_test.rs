//! Do the hooks fire? Makes one small incident of each kind and asks the kernel side whether it saw it, and the kernel
//! whether each program has run: a function that is inlined takes a hook and never calls it.
//!
//! The kernel side knows the tracer by its pid: what it does is counted as [`Stage::SelfTest`] and
//! nowhere else. TCP is tried in a network namespace that nobody else is in, Unix under abstract
//! names in there, too.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
    sys::{
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrLike, UnixAddr,
            accept4, bind, connect, getsockname, listen, setsockopt, socket, sockopt,
        },
        time::TimeVal,
    },
};
use socktrace_common::{Signal, Tier};

use super::{
    Choice, Verdict,
    plan::{Program, Trial},
};
use crate::host::{Syncookies, in_scratch_namespace, set_syncookies};

/// How long a client waits for room: long enough to sleep at all.
const PATIENCE_US: i64 = 2_000;
/// How long the last ACK of a handshake on loopback may take, milliseconds.
const ACK_WITHIN: u16 = 2_000;

/// How often each signal occurred.
pub(super) type Counts = [u64; Signal::COUNT];

/// What was made.
#[derive(Debug)]
pub(super) struct Made {
    /// How often each signal occurred.
    pub(super) counts: Counts,
    /// Whether there was a connection by syncookie.
    with_cookies: bool,
}

impl Made {
    /// Whether this program must have run.
    pub(super) fn tries(&self, program: &Program) -> bool {
        match program.trial {
            Trial::Made => true,
            Trial::WithCookies => self.with_cookies,
            Trial::NotMade => false,
        }
    }
}

/// Makes every incident. `Err` says why not.
pub(super) fn make_incidents() -> Result<Made, String> {
    let made = in_scratch_namespace(|| {
        let mut made = Made { counts: [0; Signal::COUNT], with_cookies: false };
        unix(&mut made.counts)?;
        // Not every kernel has them.
        made.with_cookies = set_syncookies(Syncookies::Always).is_ok();
        if made.with_cookies {
            accepted(&mut made.counts)?;
            set_syncookies(Syncookies::WhereFull)?;
        }
        accepted(&mut made.counts)?;
        tcp(&mut made.counts).map(|()| made)
    });
    match made {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(error)) => Err(format!("a socket call of its own failed: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The signals whose hooks saw less than happened, and a sentence for each.
pub(super) fn judge(made: &Counts, seen: &Counts, verdicts: &[Verdict]) -> Vec<(Signal, String)> {
    let mut silent = Vec::new();
    for verdict in verdicts {
        let Some(choice) = &verdict.choice else { continue };
        let signal = verdict.signal as usize;
        let (expected, seen) = (expected(made[signal], verdict.signal, choice), seen[signal]);
        if seen < expected {
            let name = verdict.signal.name();
            silent.push((
                verdict.signal,
                format!(
                    "its hooks attached, but do not fire: the self-test made {expected} of {name}, \
                     and they saw {seen}"
                ),
            ));
        }
    }
    silent
}

/// The tracepoint tier has no hook on a SYN that is dropped: it sees closed listeners only.
fn expected(made: u64, signal: Signal, choice: &Choice) -> u64 {
    match (signal, choice.tier) {
        (Signal::BacklogDrop, Tier::Tracepoint) => made.min(1),
        _ => made,
    }
}

fn count(counts: &mut Counts, signal: Signal) {
    counts[signal as usize] += 1;
}

fn must_fail<T>(outcome: &nix::Result<T>, wanted: Errno) -> io::Result<()> {
    match outcome {
        Err(errno) if *errno == wanted => Ok(()),
        Err(errno) => Err((*errno).into()),
        Ok(_) => Err(io::Error::other(format!("{wanted} was expected, and it succeeded"))),
    }
}

fn stream(family: AddressFamily, flags: SockFlag) -> io::Result<OwnedFd> {
    Ok(socket(family, SockType::Stream, flags | SockFlag::SOCK_CLOEXEC, None)?)
}

/// A listener with room for one more than `backlog`.
fn listener(
    family: AddressFamily,
    at: &dyn SockaddrLike,
    backlog: i32,
    counts: &mut Counts,
) -> io::Result<OwnedFd> {
    let socket = stream(family, SockFlag::SOCK_NONBLOCK)?;
    bind(socket.as_raw_fd(), at)?;
    listen(&socket, Backlog::new(backlog)?)?;
    count(counts, Signal::Listen);
    Ok(socket)
}

/// Nothing to accept, one that waits, one for whom there is no room, nobody there.
fn unix(counts: &mut Counts) -> io::Result<()> {
    let name = |what| UnixAddr::new_abstract(format!("socktrace/self-test/{what}").as_bytes());
    let (at, nobody) = (name("listener")?, name("nobody")?);
    let client = || stream(AddressFamily::Unix, SockFlag::empty());
    let server = listener(AddressFamily::Unix, &at, 0, counts)?;
    let accepts = || accept4(server.as_raw_fd(), SockFlag::SOCK_CLOEXEC);
    must_fail(&accepts(), Errno::EAGAIN)?;
    count(counts, Signal::AcceptError);
    let queued = client()?;
    connect(queued.as_raw_fd(), &at)?;
    let impatient = client()?;
    setsockopt(&impatient, sockopt::SendTimeout, &TimeVal::new(0, PATIENCE_US))?;
    must_fail(&connect(impatient.as_raw_fd(), &at), Errno::EAGAIN)?;
    count(counts, Signal::ConnectBlocked);
    count(counts, Signal::ConnectFailure);
    close(accepts()?)?;
    count(counts, Signal::Accept);
    must_fail(&connect(client()?.as_raw_fd(), &nobody), Errno::ECONNREFUSED)?;
    count(counts, Signal::ConnectFailure);
    Ok(())
}

/// One that is accepted. The listener has room for two: before 5.10.234, 6.1.125 and 6.12.10 the kernel takes the queue of
/// requests of one that has room for one as full, and answers with cookies.
fn accepted(counts: &mut Counts) -> io::Result<()> {
    let (server, at) = tcp_listener(1, counts)?;
    let _client = TcpStream::connect(SocketAddrV4::from(at))?;
    wait_queued(&server)?;
    close(accept4(server.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?)?;
    count(counts, Signal::Accept);
    Ok(())
}

fn tcp_listener(backlog: i32, counts: &mut Counts) -> io::Result<(OwnedFd, SockaddrIn)> {
    let loopback = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
    let server = listener(AddressFamily::Inet, &loopback, backlog, counts)?;
    let at = getsockname(server.as_raw_fd())?;
    Ok((server, at))
}

/// Two that wait when the listener closes, one for whom there is no room, and then nobody there.
fn tcp(counts: &mut Counts) -> io::Result<()> {
    let (server, at) = tcp_listener(1, counts)?;
    let address = SocketAddrV4::from(at);
    let left = [TcpStream::connect(address)?, TcpStream::connect(address)?];
    wait_queued(&server)?;
    let dropped = stream(AddressFamily::Inet, SockFlag::SOCK_NONBLOCK)?;
    must_fail(&connect(dropped.as_raw_fd(), &at), Errno::EINPROGRESS)?;
    count(counts, Signal::BacklogDrop);
    drop((dropped, server));
    for _ in &left {
        count(counts, Signal::BacklogDrop);
    }
    drop(left);
    let refused = stream(AddressFamily::Inet, SockFlag::empty())?;
    must_fail(&connect(refused.as_raw_fd(), &at), Errno::ECONNREFUSED)?;
    count(counts, Signal::ConnectFailure);
    Ok(())
}

/// A client is connected before its last ACK has come, which takes its time on a busy machine.
fn wait_queued(server: &OwnedFd) -> io::Result<()> {
    let mut fds = [PollFd::new(server.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, ACK_WITHIN)? {
        0 => Err(io::Error::other("a connection of its own did not come to its listener")),
        _ => Ok(()),
    }
}

fn close(fd: i32) -> io::Result<()> {
    Ok(nix::unistd::close(fd)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn verdict(signal: Signal, tier: Tier) -> Verdict {
        let choice =
            Choice { tier, programs: Vec::new(), loses: Vec::new(), alone: BTreeMap::new() };
        Verdict { signal, choice: Some(choice), refusals: Vec::new() }
    }

    #[test]
    fn every_signal_occurs() {
        let made = make_incidents().expect("sockets, as root");
        assert!(made.counts.iter().all(|count| *count > 0) && made.with_cookies, "{made:?}");
    }

    #[test]
    fn a_hook_that_saw_less_than_happened_is_silent() {
        let mut seen = [2; Signal::COUNT];
        seen[Signal::Accept as usize] = 1;
        let verdicts = Signal::ALL.map(|signal| verdict(signal, Tier::Fentry));
        let silent = judge(&[2; Signal::COUNT], &seen, &verdicts);
        assert_eq!(silent.len(), 1);
        assert_eq!(silent[0].0, Signal::Accept);
        assert!(silent[0].1.contains("made 2 of accept, and they saw 1"), "{}", silent[0].1);
    }

    #[test]
    fn a_tier_without_a_hook_on_syns_is_not_asked_for_them() {
        let mut seen = [0; Signal::COUNT];
        seen[Signal::BacklogDrop as usize] = 1;
        let made = |tier| judge(&[2; Signal::COUNT], &seen, &[verdict(Signal::BacklogDrop, tier)]);
        assert!(made(Tier::Tracepoint).is_empty());
        assert_eq!(made(Tier::Kprobe).len(), 1);
    }
}
