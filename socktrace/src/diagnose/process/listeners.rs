//! The step `listeners`: where the process listens, how full each queue is, who else holds it.

use super::{
    Facts, Listener, ListenerAddress, Unlisted,
    sockets::note_unlisted,
    table::note_findings,
    words::{SHOWN, count, few, knows_all, len, note_unreadable, processes},
};
use crate::{
    diagnose::{
        Check,
        rule::{Cause, Step},
    },
    event::{Certainty, Phrase, Severity, name, phrase},
};

/// A backlog below this is filled by a burst that any server may meet; it was the default of
/// `net.core.somaxconn` until Linux 5.4.
const SMALL: u32 = 128;

pub(super) fn check(facts: &Facts) -> Check {
    let mut check = Check::new("listeners", "listeners that it holds");
    let sockets = &facts.sockets;
    let all = &sockets.listeners;
    check.facts.extend(match all.len() {
        0 if knows_all(facts) && sockets.unlisted == Unlisted::default() => {
            Some("it listens nowhere".into())
        }
        0 => None,
        _ => Some(format!("it holds {}", count(len(all), "listener")).into()),
    });
    check.facts.extend(few(all.iter().map(line)));
    note_findings(&mut check, facts, Step::Listeners);
    note_unlisted(&mut check, facts, sockets.unlisted.unix + sockets.unlisted.tcp);
    if !all.is_empty() {
        note_unreadable(&mut check, sockets.unreadable);
        check.unseen.push(
            "whether it ever accepts from them: no table tells (socktrace record does)".into(),
        );
    }
    check
}

fn address(of: &Listener) -> Phrase {
    match &of.address {
        ListenerAddress::Tcp(at) => at.to_string().into(),
        ListenerAddress::Unix(Some(path)) => name(path),
        ListenerAddress::Unix(None) => "a Unix socket without a name".into(),
    }
}

fn line(of: &Listener) -> Phrase {
    let queue = of.queue.map(|(now, limit)| format!(": {now} in its queue, backlog {limit}"));
    let clamped = is_clamped(of).then_some(", which is net.core.somaxconn");
    let drops = of.drops.as_ref().map(|drops| *drops.last()).filter(|drops| *drops != 0);
    let drops = drops.map(|drops| format!(", {drops} dropped"));
    let others = of.others.as_deref().filter(|others| !others.is_empty());
    let others = others.map(|others| phrase![", held by ", processes(others), " as well"]);
    let shards = (!of.shards.is_empty()).then(|| {
        let holders: Vec<_> = of.shards.iter().flatten().cloned().collect();
        let more = count(len(&of.shards), "more listener");
        let of = (!holders.is_empty()).then(|| phrase![" of ", processes(&holders)]);
        phrase![format!(", {more} on the address (SO_REUSEPORT)"), of]
    });
    phrase![
        address(of),
        queue.unwrap_or_default(),
        clamped.unwrap_or_default(),
        drops.unwrap_or_default(),
        others,
        shards,
    ]
}

/// Whether a larger backlog would be cut to what it is.
fn is_clamped(of: &Listener) -> bool {
    of.queue.zip(of.somaxconn).is_some_and(|((_, limit), cap)| u64::from(limit) == cap)
}

fn advice(of: &Listener) -> &'static str {
    if is_clamped(of) {
        "raise net.core.somaxconn and the server's backlog, then restart it"
    } else {
        "raise the server's backlog (net.core.somaxconn caps it)"
    }
}

/// Whether a queue has no room: it holds one more than its backlog (`sk_acceptq_is_full()`,
/// `unix_recvq_full()`).
fn is_full(of: &Listener) -> bool {
    of.queue.is_some_and(|(now, limit)| now > limit)
}

pub(super) fn full(facts: &Facts) -> impl Iterator<Item = Cause> + '_ {
    facts.sockets.listeners.iter().filter(|it| is_full(it)).filter_map(no_room).take(SHOWN)
}

fn no_room(of: &Listener) -> Option<Cause> {
    let (now, limit) = of.queue?;
    Some(Cause {
        severity: Severity::Error,
        certainty: Certainty::Measured,
        subject: address(of),
        fact: format!(
            "{now} connections wait to be accepted, and the queue is full at {}",
            u64::from(limit) + 1
        )
        .into(),
        consequence: match of.address {
            ListenerAddress::Tcp(_) => "further connections are dropped, their clients try again",
            ListenerAddress::Unix(_) => {
                "further clients wait in connect(), or get EAGAIN without blocking"
            }
        }
        .into(),
        fix: phrase![
            "find out what it does instead of accepting (step process); against bursts ",
            advice(of),
        ],
        evidence: vec![line(of)],
    })
}

/// One that is full now needs no word about what it dropped.
pub(super) fn dropped(facts: &Facts) -> impl Iterator<Item = Cause> + '_ {
    let between_ms = facts.sockets.between_ms;
    let others = facts.sockets.listeners.iter().filter(|it| !is_full(it));
    others.filter_map(move |it| has_dropped(it, between_ms)).take(SHOWN)
}

fn has_dropped(of: &Listener, between_ms: Option<u64>) -> Option<Cause> {
    let drops = of.drops.as_ref().filter(|drops| *drops.last() != 0)?;
    let (_, limit) = of.queue?;
    let grown = drops.growth(|drops| *drops);
    let while_looking = match (grown, between_ms) {
        (Some(grown), Some(ms)) => format!(", {grown} of them within the last {ms} ms"),
        _ => String::new(),
    };
    let now = grown.is_some() || limit < SMALL;
    Some(Cause {
        severity: if now { Severity::Warning } else { Severity::Info },
        // `sk_drops` has every reason, and a final ACK twice.
        certainty: Certainty::Inferred,
        subject: address(of),
        fact: format!(
            "it dropped {} since it listens{while_looking}, with a backlog of {limit}",
            count(*drops.last(), "packet")
        )
        .into(),
        consequence: "clients had to try again, which takes a second each time".into(),
        fix: phrase![advice(of), "; socktrace record counts full queues alone"],
        evidence: vec![line(of)],
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Process, SocketFacts, Twice};
    use super::*;
    use crate::host::DescriptorClass;

    fn tcp(queue: u32, backlog: u32, drops: (u32, u32)) -> Listener {
        Listener {
            address: ListenerAddress::Tcp("127.0.0.1:80".parse().expect("an address")),
            queue: Some((queue, backlog)),
            drops: Some(Twice { first: drops.0, second: Some(drops.1) }),
            somaxconn: Some(4096),
            others: Some(Vec::new()),
            shards: Vec::new(),
        }
    }

    fn checked(listener: Listener) -> Check {
        let listeners = vec![listener];
        let sockets = SocketFacts {
            listeners,
            complete: true,
            between_ms: Some(200),
            ..SocketFacts::default()
        };
        check(&Facts { sockets, ..Facts::default() })
    }

    #[test]
    fn a_queue_is_full_at_one_more_than_its_backlog() {
        assert!(!checked(tcp(4, 4, (0, 0))).is_bad());
        let found = checked(tcp(5, 4, (0, 0))).findings;
        assert_eq!(
            (found[0].rule.as_ref(), found[0].severity),
            ("listener-queue-full", Severity::Error)
        );
    }

    #[test]
    fn drops_are_a_warning_with_a_small_backlog_or_while_looking() {
        let severity =
            |backlog, drops| checked(tcp(0, backlog, drops)).findings.first().map(|it| it.severity);
        assert_eq!(severity(127, (3, 3)), Some(Severity::Warning));
        assert_eq!(severity(128, (3, 3)), Some(Severity::Info));
        assert_eq!(severity(128, (3, 4)), Some(Severity::Warning));
        assert_eq!(severity(5, (0, 0)), None);
    }

    #[test]
    fn who_else_holds_it_and_what_caps_it_is_said() {
        let one = Process { pid: 8, comm: b"b".to_vec() };
        let listener = Listener {
            somaxconn: Some(4),
            others: Some(vec![one.clone()]),
            shards: vec![vec![one], Vec::new()],
            ..tcp(1, 4, (0, 0))
        };
        let said = checked(listener);
        let expected = phrase![
            "127.0.0.1:80",
            ": 1 in its queue, backlog 4",
            ", which is net.core.somaxconn",
            ", held by ",
            name(b"b"),
            " (pid 8)",
            " as well",
            ", 2 more listeners on the address (SO_REUSEPORT)",
            " of ",
            name(b"b"),
            " (pid 8)",
        ];
        assert_eq!(said.facts[1], expected);
        assert_eq!(said.unseen.len(), 1, "whether it accepts: {:?}", said.unseen);
    }

    #[test]
    fn that_it_listens_nowhere_is_said_only_where_that_is_known() {
        let mut facts = Facts::default();
        assert_eq!(check(&facts).facts, ["it listens nowhere".into()]);
        facts.descriptors.counts.insert(DescriptorClass::Unreadable, 3);
        let said = check(&facts);
        assert!(said.facts.is_empty() && said.unseen.len() == 1, "{said:?}");
        let unlisted = Unlisted { tcp: 1, ..Unlisted::default() };
        let sockets = SocketFacts { unlisted, complete: false, ..SocketFacts::default() };
        let said = check(&Facts { sockets, ..Facts::default() });
        assert!(said.facts.is_empty() && said.unseen.len() == 1, "{said:?}");
    }

    #[test]
    fn many_listeners_are_listed_to_a_bound() {
        let listeners = vec![tcp(5, 4, (0, 0)); 1000];
        let sockets = SocketFacts { listeners, ..SocketFacts::default() };
        let said = check(&Facts { sockets, ..Facts::default() });
        assert_eq!((said.facts.len(), said.findings.len()), (SHOWN + 2, SHOWN));
    }
}
