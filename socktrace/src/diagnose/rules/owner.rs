//! What holds the owner of a listener up.

use super::words::{count, holders};
use crate::{
    diagnose::{
        case::{Case, Holder, MOST_HOLDERS},
        rule::{Cause, Outcome},
    },
    event::{Certainty, Hold, Phrase, Severity, name, phrase, word},
    host::UnitState,
};

/// A listener with somebody in its queue.
struct Waited<'a> {
    /// How many wait.
    waiting: u32,
    /// Connections that were accepted and are open.
    accepted: Option<u64>,
    /// Everybody who may accept.
    holders: Option<&'a [Holder]>,
}

fn waited_for(case: &Case) -> Option<Waited<'_>> {
    let unix = case.unix.as_ref().and_then(|unix| unix.there.first()).filter(|it| it.listens);
    let unix = unix.map(|it| (it.queue, it.accepted, it.holders.as_deref()));
    let tcp = || super::tcp::met_by(case).map(|it| (it.queue, it.accepted, it.holders.as_deref()));
    let (queue, accepted, holders) = unix.or_else(tcp)?;
    let (waiting, _) = queue.filter(|(waiting, _)| *waiting != 0)?;
    Some(Waited { waiting, accepted, holders })
}

/// systemd listens, and has not started who is to accept.
pub(super) fn not_activated(case: &Case) -> Outcome {
    let Some(Waited { waiting, holders, .. }) = waited_for(case) else { return Outcome::Clear };
    let socket = case.units.as_ref().and_then(|units| units.socket.as_ref());
    let Some((unit, UnitState::NotRunning)) = socket else { return Outcome::Clear };
    // With Accept=yes systemd accepts by itself, and each connection has a service of its own.
    let is_systemds = holders.is_some_and(|all| matches!(all, [only] if only.pid == 1));
    if unit.accept || !is_systemds {
        return Outcome::Clear;
    }
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: super::tcp::certainty_of_met(case),
        subject: name(&unit.name),
        fact: phrase![
            "systemd listens there for ",
            name(&unit.name),
            format!(", {} waiting, and ", is_or_are(waiting)),
            name(&unit.service),
            " does not run",
        ],
        consequence: "nobody accepts before the service has started".into(),
        fix: phrase![
            "see why it does not start: systemctl status ",
            word(&unit.name),
            " ",
            word(&unit.service),
        ],
        evidence: Vec::new(),
    })
}

/// `1 connection is`, `2 connections are`
fn is_or_are(number: u32) -> String {
    let verb = if number == 1 { "is" } else { "are" };
    format!("{} {verb}", count(number.into(), "connection"))
}

/// Processes that would not be looked at.
fn hidden(case: &Case) -> u32 {
    let tcp = case.tcp.as_ref().map(|tcp| tcp.unreadable);
    case.unix.as_ref().map(|unix| unix.unreadable).or(tcp).unwrap_or(0)
}

/// Nobody who holds the listener waits for connections, nor has one open that it accepted.
pub(super) fn never_accepts(case: &Case) -> Outcome {
    let Some(Waited { waiting, accepted, holders }) = waited_for(case) else {
        return Outcome::Clear;
    };
    let Some(owners) = holders else { return Outcome::Unknown("who holds the listener") };
    let (Some(first), Some(accepted)) = (owners.first(), accepted) else {
        return Outcome::Unknown("whether connections were accepted from the listener");
    };
    let is_held_up = |it: &Holder| it.hold.is_some_and(|hold| hold < Hold::Running);
    if accepted != 0 || owners.iter().any(|it| it.accepts == Some(true) || is_held_up(it)) {
        return Outcome::Clear;
    }
    if owners.len() >= MOST_HOLDERS || owners.iter().any(|it| it.accepts.is_none()) {
        return Outcome::Unknown("whether those who hold the listener wait for connections");
    }
    Outcome::found(Cause {
        severity: Severity::Error,
        // One that could not be looked at may hold it as well, and accept.
        certainty: surety(case),
        subject: phrase![name(&first.comm), format!(" (pid {})", first.pid)],
        fact: phrase![
            super::words::holders(holders),
            format!(" holds the listener with {} waiting", count(waiting.into(), "connection")),
            "; no thread is in accept(), nor may wait for one otherwise, and none is open that was accepted",
        ],
        consequence: "where the listener was only inherited or passed on, nobody ever accepts"
            .into(),
        fix:
            "start the server that is to accept; have those who do not accept close the descriptor \
              (SOCK_CLOEXEC)"
                .into(),
        evidence: first
            .activity
            .iter()
            .map(|does| format!("it is {does}").into())
            .chain(super::words::unseen(hidden(case)))
            .collect(),
    })
}

/// How sure it is that the owners that were looked at are all, and of the listener that was met.
fn surety(case: &Case) -> Certainty {
    if hidden(case) == 0 { super::tcp::certainty_of_met(case) } else { Certainty::Unknown }
}

/// Everybody who may accept what is asked about.
fn all(case: &Case) -> Option<&[Holder]> {
    let unix = case.unix.as_ref().and_then(|unix| unix.there.first());
    let unix = unix.and_then(|socket| socket.holders.as_deref());
    unix.or_else(|| super::tcp::met_by(case)?.holders.as_deref())
}

pub(super) fn held_up(case: &Case) -> Outcome {
    let Some(owners) = all(case) else { return Outcome::Clear };
    // One that could accept is enough.
    let is_stuck = |owner: &Holder| owner.hold.is_some_and(|hold| hold < Hold::Running);
    if owners.is_empty() || !owners.iter().all(is_stuck) {
        return Outcome::Clear;
    }
    let Some((hold, first)) =
        owners.iter().filter_map(|it| Some((it.hold?, it))).min_by_key(|it| it.0)
    else {
        return Outcome::Clear;
    };
    let fix: Phrase = match hold {
        Hold::Stopped => {
            format!("let it go on (kill -CONT {}), and find who stopped it", first.pid).into()
        }
        Hold::Frozen => "thaw its cgroup (cgroup.freeze), and find who froze it".into(),
        Hold::NoDescriptors => {
            "raise its limit (ulimit -n, LimitNOFILE=), or find what it does not close".into()
        }
        Hold::ShortOfMemory => "raise memory.high and memory.max (MemoryHigh=, MemoryMax=), or \
             net.ipv4.tcp_mem, or let it use less"
            .into(),
        Hold::Throttled | Hold::Running | Hold::Asleep => {
            "raise its CPU quota (cpu.max, CPUQuota=)".into()
        }
    };
    Outcome::found(Cause {
        severity: Severity::Error,
        // One that could not be looked at may hold it as well, and accept.
        certainty: surety(case),
        subject: phrase![name(&first.comm), format!(" (pid {})", first.pid)],
        fact: phrase![
            holders(Some(owners)),
            format!(" is {}", first.activity.as_deref().unwrap_or("held up")),
        ],
        consequence: match hold {
            // They may run now and then.
            Hold::Throttled | Hold::ShortOfMemory => {
                "it accepts late, and connections wait until its queue is full"
            }
            _ => "it does not accept, and connections wait until its queue is full",
        }
        .into(),
        fix,
        evidence: super::words::unseen(hidden(case)).into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::case::{BoundSocket, Question, Units, UnixSockets},
        event::SocketKind,
        host::{BindIpv6Only, SocketUnit},
    };

    fn heir(accepts: Option<bool>) -> Holder {
        Holder {
            pid: 9,
            comm: b"heir".to_vec(),
            mount_namespace: None,
            hold: Some(Hold::Asleep),
            activity: None,
            accepts,
            descriptors: None,
            unit: None,
        }
    }

    fn case(waiting: u32, accepted: Option<u64>, holders: Vec<Holder>) -> Case {
        let mut case = Case::new(Question::Unix(b"/a".to_vec()), None);
        let socket = BoundSocket {
            inode: 7,
            kind: SocketKind::Stream,
            listens: true,
            shut: false,
            file: None,
            in_place: None,
            net_namespace: None,
            queue: Some((waiting, 8)),
            accepted,
            holders: Some(holders),
        };
        case.unix = Some(UnixSockets { there: vec![socket], ..UnixSockets::default() });
        case
    }

    fn said(case: &Case) -> &'static str {
        match never_accepts(case) {
            Outcome::Clear => "clear",
            Outcome::Unknown(_) => "not told",
            Outcome::Found(found) => found[0].certainty.name(),
        }
    }

    #[test]
    fn heirs_who_never_accept_are_found_by_what_they_do_not_do() {
        let idle = || heir(Some(false));
        assert_eq!(said(&case(2, Some(0), vec![idle(), idle()])), "inferred");
        assert_eq!(said(&case(0, Some(0), vec![idle()])), "clear", "nobody waits");
        assert_eq!(said(&case(2, Some(1), vec![idle()])), "clear", "somebody has accepted");
        assert_eq!(said(&case(2, Some(0), vec![idle(), heir(Some(true))])), "clear");
        let stopped = Holder { hold: Some(Hold::Stopped), ..idle() };
        assert_eq!(said(&case(2, Some(0), vec![stopped])), "clear", "that is another cause");
    }

    #[test]
    fn a_service_that_systemd_has_not_started_is_named_while_connections_wait() {
        let unit = |state| {
            let unit = SocketUnit {
                name: b"app.socket".to_vec(),
                masked: false,
                listens: Vec::new(),
                other_listens: 0,
                symlinks: Vec::new(),
                mode: 0o666,
                user: None,
                group: None,
                directory_mode: 0o755,
                accept: false,
                service: b"app.service".to_vec(),
                backlog: None,
                remove_on_stop: false,
                ipv6_only: BindIpv6Only::Default,
            };
            Some(Units { socket: Some((unit, state)), ..Units::default() })
        };
        let told = |holders, state| {
            let case = Case { units: unit(state), ..case(2, None, holders) };
            matches!(not_activated(&case), Outcome::Found(_))
        };
        let systemd = || Holder { pid: 1, ..heir(None) };
        assert!(told(vec![systemd()], UnitState::NotRunning));
        assert!(!told(vec![systemd()], UnitState::Running));
        assert!(!told(vec![systemd()], UnitState::Unknown));
        assert!(!told(vec![systemd(), heir(None)], UnitState::NotRunning), "the other may accept");
        assert!(!told(vec![heir(None)], UnitState::NotRunning), "it is not systemd's");
    }

    #[test]
    fn somebody_who_could_not_be_looked_at_may_accept() {
        let mut hidden = case(2, Some(0), vec![heir(Some(false))]);
        hidden.unix.as_mut().expect("sockets").unreadable = 1;
        assert_eq!(said(&hidden), "unknown");
    }

    #[test]
    fn what_is_not_known_of_a_listener_is_no_sign_that_nobody_accepts() {
        let idle = || heir(Some(false));
        assert_eq!(said(&case(2, None, vec![idle()])), "not told");
        assert_eq!(said(&case(2, Some(0), vec![idle(), heir(None)])), "not told");
        assert_eq!(said(&case(2, Some(0), vec![])), "not told");
        let many = (0..MOST_HOLDERS).map(|_| idle()).collect();
        assert_eq!(said(&case(2, Some(0), many)), "not told", "there may be more");
    }
}
