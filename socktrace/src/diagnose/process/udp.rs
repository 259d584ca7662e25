//! The step `udp`: what its UDP sockets hold and what they dropped.

use super::{
    Facts, Twice,
    sockets::{UNLISTED, note_unlisted},
    table::note_findings,
    words::{count, few, knows_all, len, size, subject},
};
use crate::{
    diagnose::{
        Check,
        rule::{Cause, Step},
    },
    event::{Certainty, Phrase, Severity, phrase},
    host::sock_diag::UdpSocket,
};

pub(super) fn check(facts: &Facts) -> Check {
    let mut check = Check::new("udp", "its UDP sockets");
    let all = &facts.sockets.udp;
    check.facts.extend(match all.len() {
        0 if knows_all(facts) && facts.sockets.unlisted.udp == 0 => {
            Some("it has no UDP socket".into())
        }
        0 => None,
        _ => Some(format!("it has {}", count(len(all), "UDP socket")).into()),
    });
    check.facts.extend(few(worst_first(facts).into_iter().map(line)));
    note_findings(&mut check, facts, Step::Udp);
    note_unlisted(&mut check, facts, facts.sockets.unlisted.udp);
    if facts.sockets.unlisted.udp != 0 {
        let more = count(facts.sockets.unlisted.udp, "UDP socket");
        check.unseen.push(phrase![more, UNLISTED]);
    }
    check
}

fn drops(of: &UdpSocket) -> u32 {
    of.memory.map_or(0, |memory| memory.drops)
}

fn line(of: &Twice<UdpSocket>) -> Phrase {
    let socket = of.last();
    let to = socket.remote.map_or(String::new(), |remote| format!(" to {remote}"));
    let grows = of.growth(|it| it.receive_queue);
    let grows = grows.map_or(String::new(), |grown| format!(" and growing (by {})", size(grown)));
    let queue = socket.memory.map_or(String::new(), |memory| {
        let (held, limit) = (memory.receive_allocated, memory.receive_buffer);
        format!(": {} of {} received and not read{grows}", size(held.into()), size(limit.into()))
    });
    let dropped = match drops(socket) {
        0 => String::new(),
        some => format!(", {} dropped", count(some, "datagram")),
    };
    phrase![socket.local.to_string(), to, queue, dropped]
}

fn worst_first(facts: &Facts) -> Vec<&Twice<UdpSocket>> {
    let mut all: Vec<&Twice<UdpSocket>> = facts.sockets.udp.iter().collect();
    all.sort_by_key(|it| std::cmp::Reverse((drops(it.last()), it.last().receive_queue)));
    all
}

pub(super) fn dropped(facts: &Facts) -> Option<Cause> {
    let dropped: Vec<_> =
        worst_first(facts).into_iter().filter(|it| drops(it.last()) != 0).collect();
    let total: u64 = dropped.iter().map(|it| u64::from(drops(it.last()))).sum();
    let first = dropped.first()?;
    let grown: u64 = dropped.iter().filter_map(|it| it.growth(drops)).sum();
    let now = match facts.sockets.between_ms.filter(|_| grown != 0) {
        Some(ms) => format!(", {grown} of them within the last {ms} ms"),
        None => String::new(),
    };
    let (who, since) = match dropped.len() {
        1 => (first.last().local.to_string(), "it was made"),
        many => (format!("{many} UDP sockets"), "they were made"),
    };
    Some(Cause {
        severity: Severity::Warning,
        certainty: Certainty::Measured,
        subject: subject(facts),
        fact: format!("{who} dropped {} since {since}{now}", count(total, "datagram")).into(),
        // `sk_drops` counts both.
        consequence:
            "they are lost: the receive buffer was full, or a checksum or filter refused them"
                .into(),
        fix: "read faster, or enlarge the receive buffer (SO_RCVBUF, capped by net.core.rmem_max)"
            .into(),
        evidence: few(dropped.iter().map(|it| line(it))),
    })
}

#[cfg(test)]
mod tests {
    use super::super::SocketFacts;
    use super::*;
    use crate::host::sock_diag::SkMemInfo;

    fn socket(drops: u32) -> UdpSocket {
        let memory = SkMemInfo {
            receive_allocated: 2048,
            receive_buffer: 4096,
            send_allocated: 0,
            send_queued: 0,
            send_buffer: 4096,
            backlog: 0,
            drops,
        };
        UdpSocket {
            local: "127.0.0.1:53".parse().expect("an address"),
            remote: None,
            interface: None,
            inode: 1,
            uid: 0,
            receive_queue: 2048,
            send_queue: 0,
            memory: Some(memory),
        }
    }

    fn checked(first: u32, second: u32) -> Check {
        let udp = vec![Twice { first: socket(first), second: Some(socket(second)) }];
        let sockets = SocketFacts { udp, between_ms: Some(200), ..SocketFacts::default() };
        check(&Facts { sockets, ..Facts::default() })
    }

    #[test]
    fn drops_are_a_warning_and_those_that_were_watched_are_counted() {
        assert!(!checked(0, 0).is_bad());
        let found = checked(3, 3).findings;
        let fact = "127.0.0.1:53 dropped 3 datagrams since it was made";
        assert_eq!((found[0].severity, &found[0].fact), (Severity::Warning, &fact.into()));
        let fact =
            "127.0.0.1:53 dropped 5 datagrams since it was made, 2 of them within the last 200 ms";
        assert_eq!(checked(3, 5).findings[0].fact, fact.into());
    }

    #[test]
    fn a_socket_is_listed_with_what_it_holds() {
        let said = checked(0, 0).facts;
        let line = phrase!["127.0.0.1:53", ": 2.0 KiB of 4.0 KiB received and not read"];
        assert_eq!(said[1], line);
    }
}
