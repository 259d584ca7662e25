//! What is wrong with connections: who does not read, does not answer, does not close.

use super::{TcpConnection, ends, info, line, waiting};
use crate::{
    diagnose::{
        process::{
            Facts,
            words::{count, few, len, size, subject, time},
        },
        rule::Cause,
    },
    event::{Certainty, Phrase, Severity, phrase},
    host::sock_diag::{TcpSocket, TcpState},
};

/// Sockets in CLOSE-WAIT from which on the process is taken not to close them.
const MANY_CLOSE_WAIT: usize = 10;
/// Data that lies unread for so long, in milliseconds, is not being read.
const LONG_UNREAD_MS: u64 = 1000;

fn chosen<'a>(
    facts: &'a Facts,
    keep: impl Fn(&TcpConnection) -> bool + 'a,
) -> Option<Vec<&'a TcpConnection>> {
    let found: Vec<_> = facts.sockets.tcp.iter().filter(|it| keep(it)).collect();
    (!found.is_empty()).then_some(found)
}

fn evidence(found: &[&TcpConnection]) -> Vec<Phrase> {
    few(found.iter().map(|it| line(it)))
}

/// `1 connection, A → B`, or how many.
fn which(found: &[&TcpConnection]) -> Phrase {
    match found {
        [one] => phrase!["the connection ", ends(one)],
        many => count(len(many), "connection").into(),
    }
}

pub(in crate::diagnose::process) fn connecting(facts: &Facts) -> Option<Cause> {
    let again = |it: &TcpConnection| {
        it.seen.last().state == TcpState::SynSent && info(it.seen.last()).retransmits != 0
    };
    let found = chosen(facts, again)?;
    let longest = found.iter().map(|it| info(it.seen.last()).retransmits).max()?;
    let target = found.first()?.seen.last().remote;
    Some(Cause {
        severity: Severity::Error,
        certainty: Certainty::Measured,
        subject: subject(facts),
        fact: phrase![
            which(&found),
            // The first timeouts take a second each, later ones longer (`tcp_syn_linear_timeouts`).
            format!(" got no answer to the SYN, sent again up to {longest} times"),
            format!(": it waits for at least {}", time(u64::from(longest) * 1000)),
        ],
        consequence: "connect() waits, and fails with ETIMEDOUT in the end".into(),
        fix: format!("ask what stands in the way: socktrace diagnose {target}").into(),
        evidence: evidence(&found),
    })
}

/// For how long data has been there and nothing of it was read, where that is certain: it is as much as
/// before, and nothing came since.
fn unread_ms(of: &TcpConnection, between_ms: Option<u64>) -> Option<u64> {
    let (before, after) = (&of.seen.first, of.seen.second.as_ref()?);
    let since = u64::from(after.info?.last_data_recv_ms);
    let same = waiting(after) != 0 && waiting(before) == waiting(after);
    (same && since >= between_ms?).then_some(since)
}

/// Whether its receive buffer is nearly full: the peer's window closes.
fn is_full(of: &TcpSocket) -> bool {
    of.memory.is_some_and(|memory| {
        let (held, limit) = (u64::from(memory.receive_allocated), u64::from(memory.receive_buffer));
        limit != 0 && held * 4 >= limit * 3
    }) && waiting(of) != 0
}

pub(in crate::diagnose::process) fn unread(facts: &Facts) -> Option<Cause> {
    let between = facts.sockets.between_ms;
    let long = |it: &TcpConnection| unread_ms(it, between).is_some_and(|ms| ms >= LONG_UNREAD_MS);
    let found = chosen(facts, |it| long(it) || it.seen.both(is_full))?;
    let longest = found.iter().filter_map(|it| unread_ms(it, between)).max();
    let since = longest.map_or(String::new(), |ms| format!(", the longest for {}", time(ms)));
    let bytes = found.iter().map(|it| u64::from(waiting(it.seen.last()))).sum();
    Some(Cause {
        severity: Severity::Warning,
        certainty: if longest.is_some() { Certainty::Measured } else { Certainty::Inferred },
        subject: subject(facts),
        fact: phrase![format!("it leaves {} unread of ", size(bytes)), which(&found), since],
        consequence: "its peers wait for answers, and cannot send once the buffer is full".into(),
        fix: "find out what it does instead of reading (step process)".into(),
        evidence: evidence(&found),
    })
}

/// Whether the peer's window was closed all the time.
fn window_closed(of: &TcpConnection, between_ms: Option<u64>) -> bool {
    // Before the peer has answered it offers no window.
    let answered = |it: &TcpSocket| it.state != TcpState::SynSent;
    let closed =
        |it: &TcpSocket| answered(it) && it.send_queue != 0 && info(it).peer_window == Some(0);
    let limited = |it: &TcpSocket| info(it).window_limited_us.unwrap_or(0);
    let held_up = of.seen.growth(limited).zip(between_ms);
    of.seen.both(closed) || held_up.is_some_and(|(us, ms)| us / 1000 * 10 >= ms * 9)
}

pub(in crate::diagnose::process) fn unread_by_peers(facts: &Facts) -> Option<Cause> {
    let between = facts.sockets.between_ms;
    let found = chosen(facts, |it| window_closed(it, between))?;
    let next = found.iter().find_map(|it| it.holders.first());
    Some(Cause {
        severity: Severity::Warning,
        certainty: Certainty::Measured,
        subject: subject(facts),
        fact: phrase!["the peer of ", which(&found), " does not read: its window is closed"],
        consequence: "its writes wait once the send buffer is full, or fail with EAGAIN".into(),
        fix: match next {
            Some(peer) => format!("look at who does not read: socktrace diagnose {}", peer.pid),
            None => "look at the process at the other end".to_owned(),
        }
        .into(),
        evidence: evidence(&found),
    })
}

pub(in crate::diagnose::process) fn unanswered(facts: &Facts) -> Option<Cause> {
    let between = facts.sockets.between_ms;
    let is_open = |it: &TcpConnection| it.seen.last().state != TcpState::SynSent;
    let lost = |it: &TcpConnection| {
        info(it.seen.last()).retransmits != 0
            || it.seen.growth(|socket| info(socket).total_retrans).is_some()
    };
    let found = chosen(facts, |it| is_open(it) && lost(it) && !window_closed(it, between))?;
    let remote = found.first()?.seen.last().remote;
    Some(Cause {
        severity: Severity::Warning,
        certainty: Certainty::Measured,
        subject: subject(facts),
        fact: phrase!["segments of ", which(&found), " are sent again: they are not acknowledged"],
        consequence:
            "packets are lost, or the peer is gone; it fails with ETIMEDOUT if it stays so".into(),
        fix: format!(
            "watch the wire: tcpdump -ni any host {} and tcp port {}",
            remote.ip(),
            remote.port()
        )
        .into(),
        evidence: evidence(&found),
    })
}

pub(in crate::diagnose::process) fn not_closed(facts: &Facts) -> Option<Cause> {
    let found = chosen(facts, |it| it.seen.both(|socket| socket.state == TcpState::CloseWait))?;
    let many = found.len() >= MANY_CLOSE_WAIT;
    Some(Cause {
        severity: if many { Severity::Warning } else { Severity::Info },
        certainty: Certainty::Measured,
        subject: subject(facts),
        fact: phrase![which(&found), " in CLOSE-WAIT: the peer has closed, the process has not"],
        consequence: "each keeps a descriptor and memory until the process closes it".into(),
        fix: "find where the process does not close() after a read of 0, or is too busy to read"
            .into(),
        evidence: evidence(&found),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::{
        Check,
        process::{Process, SocketFacts, Twice, tcp::check},
    };
    use crate::host::sock_diag::{SkMemInfo, TcpInfo};

    fn socket(state: TcpState) -> TcpSocket {
        TcpSocket {
            local: "10.0.0.1:4000".parse().expect("an address"),
            remote: "10.0.0.2:80".parse().expect("an address"),
            interface: None,
            state,
            inode: Some(1),
            uid: None,
            receive_queue: 0,
            send_queue: 0,
            info: Some(TcpInfo::default()),
            memory: None,
        }
    }

    fn twice(first: TcpSocket, second: TcpSocket) -> TcpConnection {
        TcpConnection { seen: Twice { first, second: Some(second) }, holders: Vec::new() }
    }

    fn checked(tcp: Vec<TcpConnection>) -> Check {
        let sockets = SocketFacts { tcp, between_ms: Some(200), ..SocketFacts::default() };
        check(&Facts { sockets, ..Facts::default() })
    }

    fn rules(tcp: Vec<TcpConnection>) -> Vec<String> {
        checked(tcp).findings.iter().map(|it| it.rule.clone().into_owned()).collect()
    }

    fn with(change: impl Fn(&mut TcpInfo), send_queue: u32) -> TcpSocket {
        let mut info = TcpInfo::default();
        change(&mut info);
        TcpSocket { info: Some(info), send_queue, ..socket(TcpState::Established) }
    }

    #[test]
    fn ten_in_close_wait_are_a_warning_and_fewer_are_worth_a_word() {
        let one = twice(socket(TcpState::CloseWait), socket(TcpState::CloseWait));
        let severity = |number| checked(vec![one.clone(); number]).findings[0].severity;
        assert_eq!([severity(9), severity(10)], [Severity::Info, Severity::Warning]);
        let closed = twice(socket(TcpState::Established), socket(TcpState::CloseWait));
        assert_eq!(rules(vec![closed]), [""; 0], "it may be about to close");
    }

    #[test]
    fn the_fin_is_no_data_that_waits() {
        let closed = TcpSocket { receive_queue: 1, ..socket(TcpState::CloseWait) };
        assert_eq!(waiting(&closed), 0);
        assert_eq!(waiting(&TcpSocket { receive_queue: 1, ..socket(TcpState::Established) }), 1);
    }

    #[test]
    fn data_is_unread_if_it_stays_and_nothing_came_since() {
        let unread = |bytes, ms| {
            let socket = with(|info| info.last_data_recv_ms = ms, 0);
            TcpSocket { receive_queue: bytes, ..socket }
        };
        let (rule, nothing) = (vec!["tcp-does-not-read".to_owned()], Vec::<String>::new());
        assert_eq!(rules(vec![twice(unread(5, 900), unread(5, 1100))]), rule);
        assert_eq!(rules(vec![twice(unread(5, 900), unread(4, 1100))]), nothing, "it reads");
        assert_eq!(rules(vec![twice(unread(5, 900), unread(5, 10))]), nothing, "it is replaced");
        assert_eq!(rules(vec![twice(unread(5, 300), unread(5, 500))]), nothing, "not long yet");
    }

    #[test]
    fn a_full_receive_buffer_is_not_read() {
        let memory = SkMemInfo {
            receive_allocated: 80,
            receive_buffer: 100,
            send_allocated: 0,
            send_queued: 0,
            send_buffer: 0,
            backlog: 0,
            drops: 0,
        };
        let full = |bytes| TcpSocket {
            receive_queue: bytes,
            memory: Some(memory),
            ..socket(TcpState::Established)
        };
        assert_eq!(rules(vec![twice(full(70), full(72))]), ["tcp-does-not-read"]);
    }

    #[test]
    fn a_closed_window_names_who_does_not_read() {
        let closed = with(|info| info.peer_window = Some(0), 9);
        let mut connection = twice(closed.clone(), closed);
        connection.holders = vec![Process { pid: 9, comm: b"peer".to_vec() }];
        let found = checked(vec![connection]).findings;
        assert_eq!(found[0].rule, "tcp-peer-does-not-read");
        assert_eq!(found[0].fix, "look at who does not read: socktrace diagnose 9".into());
        let limited = |us| with(|info| info.window_limited_us = Some(us), 9);
        let held_up = twice(limited(1000), limited(196_000));
        assert_eq!(rules(vec![held_up]), ["tcp-peer-does-not-read"]);
        assert_eq!(rules(vec![twice(limited(1000), limited(50_000))]), [""; 0]);
    }

    #[test]
    fn timeouts_and_segments_sent_again_meanwhile_are_a_warning() {
        let timed_out = with(|info| info.retransmits = 3, 9);
        assert_eq!(rules(vec![twice(timed_out.clone(), timed_out)]), ["tcp-retransmits"]);
        let lost = |number| with(|info| info.total_retrans = number, 9);
        assert_eq!(rules(vec![twice(lost(3), lost(4))]), ["tcp-retransmits"]);
        assert_eq!(rules(vec![twice(lost(3), lost(3))]), [""; 0], "long ago");
    }

    #[test]
    fn a_connect_without_answer_is_an_error_with_the_target() {
        let mut syn = with(
            |info| {
                info.retransmits = 2;
                info.peer_window = Some(0);
            },
            1,
        );
        syn.state = TcpState::SynSent;
        let found = checked(vec![twice(syn.clone(), syn)]).findings;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].severity, Severity::Error);
        let fix = "ask what stands in the way: socktrace diagnose 10.0.0.2:80";
        assert_eq!(found[0].fix, fix.into());
        let first = twice(socket(TcpState::SynSent), socket(TcpState::SynSent));
        assert_eq!(rules(vec![first]), [""; 0], "it may be answered yet");
    }

    #[test]
    fn a_hundred_thousand_sockets_are_a_few_lines() {
        let one = twice(socket(TcpState::CloseWait), socket(TcpState::CloseWait));
        let said = checked(vec![one; 100_000]);
        assert_eq!((said.facts.len(), said.findings.len()), (22, 1));
        assert_eq!(said.facts[0], "it has 100000 TCP sockets: 100000 CLOSE-WAIT".into());
    }
}
