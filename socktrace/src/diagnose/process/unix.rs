//! The step `unix`: its connected Unix sockets, who is at the other end, and who does not read.

use super::{
    Facts, UnixConnection,
    sockets::note_unlisted,
    table::note_findings,
    words::{count, few, holders, knows_all, len, note_unreadable, size, subject},
};
use crate::{
    diagnose::{
        Check,
        rule::{Cause, Step},
    },
    event::{Certainty, Phrase, Severity, name, phrase},
    host::sock_diag::{UnixQueue, UnixSocket, UnixSocketKind, UnixState},
};

pub(super) fn check(facts: &Facts) -> Check {
    let mut check = Check::new("unix", "its Unix sockets and their peers");
    let sockets = &facts.sockets;
    let all = &sockets.unix;
    check.facts.extend(summary(all, knows_all(facts) && sockets.unlisted.unix == 0));
    let mut lines: Vec<&UnixConnection> = all.iter().collect();
    lines.sort_by_key(|it| std::cmp::Reverse(weight(it)));
    check.facts.extend(few(lines.iter().map(|it| line(it))));
    note_findings(&mut check, facts, Step::Unix);
    note_unlisted(&mut check, facts, sockets.unlisted.unix);
    if sockets.unlisted.unix != 0 {
        let more = count(sockets.unlisted.unix, "Unix socket");
        check.unseen.push(
            format!("{more} that no list has: no process is in their network namespace").into(),
        );
    }
    if all.iter().any(|it| it.seen.last().kind == UnixSocketKind::Datagram) {
        check.unseen.push("how many datagrams wait: the kernel tells of the first only".into());
    }
    if !all.is_empty() {
        note_unreadable(&mut check, sockets.unreadable);
    }
    check
}

/// None only where it is `known` that there are none.
fn summary(all: &[UnixConnection], known: bool) -> Option<Phrase> {
    if all.is_empty() {
        return known.then(|| "it has no Unix socket but listeners".into());
    }
    let connected = all.iter().filter(|it| it.seen.last().peer.is_some()).count();
    let sockets = count(len(all), "Unix socket");
    Some(format!("it has {sockets}, {connected} of them connected").into())
}

/// What waits to be read here, and what was sent from here and not read.
fn data(of: &UnixSocket) -> (u32, u32) {
    match of.queue {
        Some(UnixQueue::Data { unread, sent }) => (unread, sent),
        Some(UnixQueue::Accept { .. }) | None => (0, 0),
    }
}

fn weight(of: &UnixConnection) -> u64 {
    let (unread, sent) = data(of.seen.last());
    u64::from(unread) + u64::from(sent)
}

fn kind(of: &UnixSocket) -> &'static str {
    match of.kind {
        UnixSocketKind::Stream => "stream",
        UnixSocketKind::Datagram => "datagram",
        UnixSocketKind::Seqpacket => "seqpacket",
    }
}

fn who(of: &UnixConnection) -> Phrase {
    match of.seen.last().peer {
        Some(0) => "a connection that was not accepted yet".into(),
        Some(_) => holders(of.holders.as_deref()),
        None if of.seen.last().state == UnixState::Established
            && of.seen.last().kind != UnixSocketKind::Datagram =>
        {
            "a peer that has closed".into()
        }
        None => "nobody".into(),
    }
}

fn line(of: &UnixConnection) -> Phrase {
    let socket = of.seen.last();
    let (unread, sent) = data(socket);
    let named = socket.name.as_ref().or(of.peer.as_ref().and_then(|peer| peer.name.as_ref()));
    let amount = |what: &str, bytes: u32, grown: Option<u64>| match (bytes, grown) {
        (0, _) => String::new(),
        (_, None) => format!(", {} {what}", size(bytes.into())),
        (_, Some(grown)) => {
            format!(", {} {what} and growing (by {})", size(bytes.into()), size(grown))
        }
    };
    phrase![
        format!("{} to ", kind(socket)),
        who(of),
        named.map(|named| phrase![" by ", name(named)]),
        amount("unread", unread, of.seen.growth(|it| data(it).0)),
        amount("sent and not read", sent, of.seen.growth(|it| data(it).1)),
        match socket.shutdown.unwrap_or(0) & 3 {
            0 => "",
            1 => ", shut for receiving",
            2 => ", shut for sending",
            _ => ", shut",
        },
    ]
}

/// A sender waits where what it sent takes the send buffer (`sock_alloc_send_pskb()`).
fn is_full(of: &UnixSocket) -> bool {
    of.send_buffer.is_some_and(|limit| limit != 0 && data(of).1 >= limit)
}

pub(super) fn unread_by_peers(facts: &Facts) -> Option<Cause> {
    let full: Vec<_> = facts.sockets.unix.iter().filter(|it| it.seen.both(is_full)).collect();
    let first = full.first()?;
    let fact = match full.len() {
        1 => phrase!["the send buffer of a Unix socket is full: ", who(first), " does not read"],
        many => phrase![
            format!(
                "the send buffers of {many} Unix sockets are full: the peers do not read, the first is "
            ),
            who(first)
        ],
    };
    Some(Cause {
        severity: Severity::Warning,
        certainty: Certainty::Measured,
        subject: subject(facts),
        fact,
        consequence: "its writes wait, or fail with EAGAIN".into(),
        fix: phrase!["look at who does not read: ", look_at(first)],
        evidence: few(full.iter().map(|it| line(it))),
    })
}

/// The next checkup.
fn look_at(of: &UnixConnection) -> Phrase {
    match of.holders.as_deref().and_then(<[_]>::first) {
        Some(peer) => format!("socktrace diagnose {}", peer.pid).into(),
        None => "ss -xp names the other end".into(),
    }
}

pub(super) fn unread_here(facts: &Facts) -> Option<Cause> {
    let of_full_peer = |it: &&UnixConnection| {
        it.seen.both(|socket| data(socket).0 != 0)
            && it.seen.growth(|socket| data(socket).0).is_none()
            && it.peer.as_ref().is_some_and(is_full)
    };
    let unread: Vec<_> = facts.sockets.unix.iter().filter(of_full_peer).collect();
    let first = unread.first()?;
    let more = match unread.len() - 1 {
        0 => String::new(),
        more => format!(", and of {more} more sockets"),
    };
    Some(Cause {
        severity: Severity::Warning,
        // It may read, and be too slow.
        certainty: Certainty::Inferred,
        subject: subject(facts),
        fact: phrase![
            "it does not read what ",
            who(first),
            " sends, whose send buffer is full",
            more
        ],
        consequence: "the writes of its peers wait, or fail with EAGAIN".into(),
        fix: "find out what it does instead of reading (step process)".into(),
        evidence: few(unread.iter().map(|it| line(it))),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Process, SocketFacts, Twice};
    use super::*;

    fn socket(unread: u32, sent: u32) -> UnixSocket {
        UnixSocket {
            inode: Some(1),
            kind: UnixSocketKind::Stream,
            state: UnixState::Established,
            name: None,
            file: None,
            peer: Some(2),
            queue: Some(UnixQueue::Data { unread, sent }),
            send_buffer: Some(100),
            shutdown: None,
            uid: None,
        }
    }

    fn seen(first: UnixSocket, second: Option<UnixSocket>) -> UnixConnection {
        let holders = Some(vec![Process { pid: 9, comm: b"peer".to_vec() }]);
        UnixConnection { seen: Twice { first, second }, peer: None, holders }
    }

    fn checked(unix: Vec<UnixConnection>) -> Check {
        let sockets = SocketFacts { unix, complete: true, ..SocketFacts::default() };
        check(&Facts { sockets, ..Facts::default() })
    }

    #[test]
    fn a_buffer_that_is_full_twice_names_the_peer_that_does_not_read() {
        let found = checked(vec![seen(socket(0, 100), Some(socket(0, 100)))]).findings;
        assert_eq!(found[0].rule, "unix-peer-does-not-read");
        assert_eq!(found[0].fix, phrase!["look at who does not read: ", "socktrace diagnose 9"]);
        assert!(found[0].fact.0.contains(&crate::event::Part::Name(b"peer".to_vec())));
    }

    #[test]
    fn a_buffer_that_is_full_once_is_no_finding() {
        assert!(!checked(vec![seen(socket(0, 100), Some(socket(0, 99)))]).is_bad());
        assert!(!checked(vec![seen(socket(0, 100), None)]).is_bad(), "gone since");
    }

    #[test]
    fn growth_is_said_only_where_it_was_measured() {
        let last = |first, second| {
            let said = checked(vec![seen(first, second)]);
            Phrase::from(said.facts[1].0.last().expect("a part").clone())
        };
        let grows = ", 30 B sent and not read and growing (by 20 B)";
        assert_eq!(last(socket(0, 10), Some(socket(0, 30))), grows.into());
        assert_eq!(last(socket(0, 10), None), ", 10 B sent and not read".into());
        assert_eq!(last(socket(0, 30), Some(socket(0, 10))), ", 10 B sent and not read".into());
    }

    #[test]
    fn a_full_peer_and_unread_data_mean_that_it_does_not_read() {
        let peer = Some(socket(0, 100));
        let it = seen(socket(50, 0), Some(socket(50, 0)));
        let found = checked(vec![UnixConnection { peer, ..it }]).findings;
        assert_eq!(found[0].rule, "unix-does-not-read");
    }

    #[test]
    fn many_sockets_are_one_finding_with_bounded_evidence() {
        let one = seen(socket(0, 100), Some(socket(0, 100)));
        let said = checked(vec![one; 5000]);
        assert_eq!((said.findings.len(), said.findings[0].evidence.len()), (1, 21));
        assert_eq!(said.facts.len(), 22);
    }
}
