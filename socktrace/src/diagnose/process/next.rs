//! The step `next`: where nothing was found, the command that would show more.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::{Facts, words::subject};
use crate::{
    diagnose::Check,
    event::{Certainty, Finding, Phrase, Severity},
};

/// Peers that a capture is narrowed down to.
const PEERS: usize = 4;

pub(super) fn check(facts: &Facts) -> Check {
    let mut check = Check::new("next", "what to try next");
    let capture = capture(facts);
    check.findings.push(Finding {
        severity: Severity::Info,
        certainty: Certainty::Unknown,
        rule: "next".into(),
        subject: subject(facts),
        fact: "nothing that harms was found in what could be seen".into(),
        consequence: "the cause shows in what it does from now on, or is elsewhere".into(),
        fix: match capture.clone().filter(|_| facts.sockets.unix.is_empty()) {
            Some(capture) => capture,
            None => calls(facts),
        },
        evidence: match capture {
            Some(_) if facts.sockets.unix.is_empty() => vec![calls(facts)],
            Some(capture) => vec![capture],
            None => Vec::new(),
        },
    });
    check
}

/// `desc` are the calls on descriptors: poll, read, write and so on.
fn calls(facts: &Facts) -> Phrase {
    let pid = facts.identity.process.pid;
    let locks = facts.identity.futex.is_some_and(|futex| {
        futex.threads > 1 && usize::try_from(futex.waiting) == Ok(futex.threads)
    });
    let also = if locks { ",futex" } else { "" };
    format!("see its calls: strace -f -tt -e trace=network,desc{also} -p {pid}").into()
}

/// A capture of what it has with other hosts, in its network namespace.
fn capture(facts: &Facts) -> Option<Phrase> {
    let tcp = facts.sockets.tcp.iter().map(|it| (it.seen.last().remote, "tcp"));
    let udp = facts.sockets.udp.iter().filter_map(|it| Some((it.last().remote?, "udp")));
    let away = |(at, _): &(SocketAddr, &str)| at.port() != 0 && !at.ip().is_loopback();
    let peers: BTreeSet<(SocketAddr, &str)> = tcp.chain(udp).filter(away).collect();
    if peers.is_empty() {
        return None;
    }
    let one = |(at, protocol): &(SocketAddr, &str)| {
        format!("(host {} and {protocol} port {})", at.ip(), at.port())
    };
    let filter: Vec<String> = peers.iter().take(PEERS).map(one).collect();
    let net = facts.identity.foreign_namespaces.iter().any(|(kind, _)| *kind == "net");
    let enter =
        if net { format!("nsenter -t {} -n ", facts.identity.process.pid) } else { String::new() };
    let filter = filter.join(" or ");
    Some(format!("watch the wire: {enter}tcpdump -ni any '{filter}'").into())
}

#[cfg(test)]
mod tests {
    use super::super::{Identity, Process, SocketFacts, TcpConnection, Twice, checkup};
    use super::*;
    use crate::host::{
        FutexWaiters,
        sock_diag::{TcpSocket, TcpState},
    };

    fn someone() -> Facts {
        let process = Process { pid: 7, comm: b"web".to_vec() };
        let identity = Identity { process, ..Identity::default() };
        Facts { identity, ..Facts::default() }
    }

    fn connected(facts: Facts, remote: &str) -> Facts {
        let first = TcpSocket {
            local: "10.0.0.1:4000".parse().expect("an address"),
            remote: remote.parse().expect("an address"),
            interface: None,
            state: TcpState::Established,
            inode: Some(1),
            uid: None,
            receive_queue: 0,
            send_queue: 0,
            info: None,
            memory: None,
        };
        let tcp = vec![TcpConnection { seen: Twice { first, second: None }, holders: Vec::new() }];
        Facts { sockets: SocketFacts { tcp, ..SocketFacts::default() }, ..facts }
    }

    fn fix(facts: &Facts) -> Phrase {
        check(facts).findings[0].fix.clone()
    }

    #[test]
    fn a_process_without_peers_is_traced() {
        let strace = "see its calls: strace -f -tt -e trace=network,desc -p 7";
        assert_eq!(fix(&someone()), strace.into());
        assert_eq!(fix(&connected(someone(), "127.0.0.1:80")), strace.into());
        let mut stuck = someone();
        stuck.identity.futex = Some(FutexWaiters { waiting: 3, unknown: 0, threads: 3 });
        let strace = "see its calls: strace -f -tt -e trace=network,desc,futex -p 7";
        assert_eq!(fix(&stuck), strace.into());
    }

    #[test]
    fn peers_elsewhere_are_captured_in_the_namespace_of_the_process() {
        let facts = connected(someone(), "[fd00::2]:80");
        let capture = "watch the wire: tcpdump -ni any '(host fd00::2 and tcp port 80)'";
        assert_eq!(fix(&facts), capture.into());
        let mut facts = connected(someone(), "10.0.0.2:80");
        facts.identity.foreign_namespaces = vec![("net", 5)];
        let capture =
            "watch the wire: nsenter -t 7 -n tcpdump -ni any '(host 10.0.0.2 and tcp port 80)'";
        assert_eq!(fix(&facts), capture.into());
    }

    #[test]
    fn it_is_the_last_step_and_only_where_nothing_harms() {
        let names: Vec<&str> = checkup(&someone()).iter().map(|check| check.name).collect();
        let steps = [
            "process",
            "descriptors",
            "listeners",
            "unix",
            "tcp",
            "udp",
            "pipes",
            "other",
            "memory",
            "next",
        ];
        assert_eq!(names, steps);
        let mut stopped = someone();
        stopped.identity.held = Some(super::super::Held::Stopped);
        assert_eq!(checkup(&stopped).last().map(|check| check.name), Some("memory"));
    }
}
