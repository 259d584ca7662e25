//! What stands behind a TCP target: a listener, one elsewhere, nobody, another host, no way there.

use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;

use super::words::{activity, count, holders, unseen};
use crate::{
    diagnose::{
        case::{Case, Question, Tcp, TcpListening},
        rule::{Cause, Outcome, subject},
    },
    event::{Certainty, Phrase, Severity, name, phrase, word},
    host::{AddressFact, NetworkSettings, RouteFact},
};

const OWN_LISTENERS: &str =
    "each network namespace has addresses and listeners of its own, loopback included";

/// The target and what is known of it, where a namespace of this host has its address: the client's own, or the only other
/// one.
fn local(case: &Case) -> Result<(SocketAddr, &Tcp), Outcome> {
    let (target, tcp) = facts(case)?;
    match tcp.address {
        Some(AddressFact::NotUsable) => return Err(Outcome::Clear),
        Some(AddressFact::Foreign) if tcp.address_of.is_empty() || !tcp.leads_out() => {
            return Err(Outcome::Clear);
        }
        Some(AddressFact::Local | AddressFact::Foreign) => {}
        Some(AddressFact::Unknown) | None => {
            return Err(Outcome::Unknown("whether the address is one of this host"));
        }
    }
    let Some(there) = there(case, tcp) else {
        return Err(Outcome::Unknown("which of the network namespaces with that address is meant"));
    };
    if !tcp.looked_into.contains(&there) {
        return Err(Outcome::Unknown("the listeners of the network namespace with that address"));
    }
    if depends_on_interface(case, tcp, target) {
        return Err(Outcome::Unknown(
            "the interface that the connect comes in by: a listener is bound to one (SO_BINDTODEVICE)",
        ));
    }
    Ok((target, tcp))
}

/// The namespace whose listeners take the connect.
fn there(case: &Case, tcp: &Tcp) -> Option<u64> {
    tcp.namespace_of_target(case.client.net_namespace)
}

/// How sure it is that the connect met what is said of that namespace. Behind a gateway, NAT may have led it elsewhere, or
/// another host has the address.
fn certainty(case: &Case, tcp: &Tcp) -> Certainty {
    match tcp.route {
        _ if is_own(case, tcp) => Certainty::Inferred,
        Some(RouteFact::Via { gateway: None, .. }) => Certainty::Inferred,
        _ => Certainty::Unknown,
    }
}

/// How sure it is that the listener of [`met_by`] is the one that the connect met; of Unix, that is not asked here.
pub(super) fn certainty_of_met(case: &Case) -> Certainty {
    case.tcp.as_ref().map_or(Certainty::Inferred, |tcp| certainty(case, tcp))
}

/// What may be so instead.
fn unless_elsewhere(case: &Case, tcp: &Tcp, verb: &str) -> String {
    if case.errno.is_some() && is_own(case, tcp) {
        return String::new();
    }
    let other_host = if is_own(case, tcp) { "" } else { "another host has that address, or " };
    format!(", unless {other_host}NAT leads {verb}")
}

fn is_own(case: &Case, tcp: &Tcp) -> bool {
    there(case, tcp) == case.client.net_namespace
}

fn facts(case: &Case) -> Result<(SocketAddr, &Tcp), Outcome> {
    let Question::Tcp(target) = case.question else { return Err(Outcome::Clear) };
    let tcp = case.tcp.as_ref().ok_or(Outcome::Unknown("the listeners on that port"))?;
    Ok((target, tcp))
}

/// Whether the client's connect reaches this listener.
fn takes(case: &Case, tcp: &Tcp, listening: &TcpListening, target: SocketAddr) -> bool {
    let there = there(case, tcp);
    let is_there = there.is_some() && listening.net_namespace == there;
    let (bound, wanted) = (listening.address.ip().to_canonical(), target.ip());
    // connect() to the unspecified address goes to the loopback.
    let wanted = match wanted {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        other => other.to_canonical(),
    };
    let any = bound.is_unspecified()
        && (bound.is_ipv4() == wanted.is_ipv4()
            || bound.is_ipv6() && listening.v6only != Some(true));
    is_there && (any || bound == wanted)
}

/// The listeners on that port in that namespace.
fn here<'a>(case: &Case, tcp: &'a Tcp) -> impl Iterator<Item = &'a TcpListening> {
    let there = there(case, tcp);
    tcp.listening.iter().filter(move |it| it.net_namespace == there)
}

/// The listener that takes the connect; `None` where that is not known.
pub(in crate::diagnose) fn met_by(case: &Case) -> Option<&TcpListening> {
    let Question::Tcp(target) = case.question else { return None };
    let tcp = case.tcp.as_ref()?;
    met(case, tcp, target).filter(|_| !depends_on_interface(case, tcp, target))
}

/// Whether the listener that is met is, or may be, one that takes what comes in by one interface only. What the host sends
/// itself comes in by `lo`.
fn depends_on_interface(case: &Case, tcp: &Tcp, target: SocketAddr) -> bool {
    const LOOPBACK_IFINDEX: u32 = 1;
    let own = is_own(case, tcp);
    let is_bound =
        |it: &TcpListening| it.interface.is_some_and(|it| !own || it != LOOPBACK_IFINDEX);
    let best = |bound: bool| {
        let taking = tcp.listening.iter().filter(|it| takes(case, tcp, it, target));
        taking.filter(|it| is_bound(it) == bound).map(|it| specificity(it, target)).max()
    };
    best(true).is_some_and(|bound| best(false).is_none_or(|free| free <= bound))
}

/// Of those that take it, the ones that are bound most specifically, as `compute_score()` has it. A
/// `SO_REUSEPORT` group shares the connects: one of it that is full turns some away.
fn met<'a>(case: &Case, tcp: &'a Tcp, target: SocketAddr) -> Option<&'a TcpListening> {
    let taking = tcp.listening.iter().filter(|it| takes(case, tcp, it, target));
    taking.max_by_key(|it| rank(it, target))
}

fn rank(listening: &TcpListening, target: SocketAddr) -> impl Ord + use<> {
    (specificity(listening, target), is_full(listening))
}

fn is_full(listening: &TcpListening) -> bool {
    listening.queue.is_some_and(|(queue, limit)| queue > limit)
}

fn specificity(listening: &TcpListening, target: SocketAddr) -> impl Ord + use<> {
    let address = listening.address;
    (!address.ip().to_canonical().is_unspecified(), address.is_ipv4() == target.is_ipv4())
}

/// The inode of the listener that takes the connect; `None` where it may as well be another one of its group.
pub(in crate::diagnose) fn met_alone(case: &Case) -> Option<u64> {
    let (target, tcp) = local(case).ok()?;
    let met = met(case, tcp, target)?;
    if certainty(case, tcp) == Certainty::Unknown {
        return None;
    }
    let is_like =
        |it: &&TcpListening| takes(case, tcp, it, target) && rank(it, target) == rank(met, target);
    (tcp.listening.iter().filter(is_like).count() == 1).then_some(met.inode)
}

fn namespace(inode: Option<u64>) -> String {
    inode.map_or("unknown".into(), |it| format!("net:[{it}]"))
}

fn evidence<'a>(listening: impl Iterator<Item = &'a TcpListening>) -> Vec<Phrase> {
    let line = |it: &TcpListening| {
        let queue = it.queue.map_or(String::new(), |(now, limit)| format!(", queue {now}/{limit}"));
        let drops =
            it.drops.map_or(String::new(), |drops| format!(", {drops} dropped since it listens"));
        phrase![
            format!("listener {}", it.address),
            it.net_namespace.map_or(String::new(), |inode| format!(" in net:[{inode}]")),
            queue,
            drops,
            ", held by ",
            holders(it.holders.as_deref()),
        ]
    };
    listening.take(8).map(line).collect()
}

pub(super) fn other_address(case: &Case) -> Outcome {
    let (target, tcp) = match local(case) {
        Ok(known) => known,
        Err(outcome) => return outcome,
    };
    if met(case, tcp, target).is_some() {
        return Outcome::Clear;
    }
    let Some(other) = here(case, tcp).next() else { return Outcome::Clear };
    let reached = match other.address.ip().to_canonical() {
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        ip => ip,
    };
    let v6only = other.address.ip().is_unspecified() && other.v6only == Some(true);
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: certainty(case, tcp),
        subject: subject(case),
        fact: phrase![
            holders(other.holders.as_deref()),
            format!(" listens on {} ", other.address),
            if v6only { "for IPv6 only (IPV6_V6ONLY)" } else { "only" },
            format!(", and the client asked for {target}"),
        ],
        consequence: format!(
            "nobody takes connections to that address{}",
            unless_elsewhere(case, tcp, "them there")
        )
        .into(),
        fix: if is_own(case, tcp) {
            format!(
                "let the client connect to {}, or the server listen on {} too",
                SocketAddr::new(reached, target.port()),
                target.ip()
            )
        } else {
            format!("let the server listen on {} too, or on all addresses", target.ip())
        }
        .into(),
        evidence: evidence(here(case, tcp)),
    })
}

pub(super) fn other_namespace(case: &Case) -> Outcome {
    let (_, tcp) = match local(case) {
        Ok(known) => known,
        Err(outcome) => return outcome,
    };
    if here(case, tcp).next().is_some() || !is_own(case, tcp) {
        return Outcome::Clear;
    }
    let Some(other) = tcp.listening.first() else { return Outcome::Clear };
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Inferred,
        subject: subject(case),
        fact: phrase![
            holders(other.holders.as_deref()),
            format!(
                " listens on {} in network namespace {}, and the client is in {}",
                other.address,
                namespace(other.net_namespace),
                namespace(case.client.net_namespace),
            ),
        ],
        consequence: match case.errno {
            Some(_) => OWN_LISTENERS.into(),
            None => format!("{OWN_LISTENERS}, unless NAT leads the connect there").into(),
        },
        fix: "connect to an address that leads into that namespace (a published port, the address of the \
              container), or start the client in it"
            .into(),
        evidence: evidence(tcp.listening.iter()),
    })
}

pub(super) fn nobody(case: &Case) -> Outcome {
    let (target, tcp) = match local(case) {
        Ok(known) => known,
        Err(outcome) => return outcome,
    };
    let own = is_own(case, tcp);
    if here(case, tcp).next().is_some() || own && !tcp.listening.is_empty() {
        return Outcome::Clear;
    }
    let whose = if own {
        "of this host".to_owned()
    } else {
        format!("in {}, which has that address", namespace(there(case, tcp)))
    };
    let others = match tcp.other_ports.as_slice() {
        [] => Phrase::default(),
        ports => {
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            format!("; ports with listeners there: {}", ports.join(", ")).into()
        }
    };
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: certainty(case, tcp),
        subject: subject(case),
        fact: phrase![format!("nobody listens on port {} {whose}", target.port()), others],
        consequence: format!(
            "the kernel answers with a reset{}",
            unless_elsewhere(case, tcp, "the connect elsewhere")
        )
        .into(),
        fix: match case.units.as_ref().and_then(|units| units.socket.as_ref()) {
            Some((unit, _)) => phrase![
                "start the socket unit that is for it (systemctl start ",
                word(&unit.name),
                ")"
            ],
            None => "start the server, or correct address and port".into(),
        },
        evidence: unseen(tcp.unreadable)
            .into_iter()
            .chain(
                (!tcp.complete).then(|| "not every network namespace could be looked into".into()),
            )
            .collect(),
    })
}

pub(super) fn refused_though_listening(case: &Case) -> Outcome {
    let (target, tcp) = match local(case) {
        Ok(known) => known,
        Err(outcome) => return outcome,
    };
    let Some(listener) = met(case, tcp, target).filter(|_| case.errno.is_some()) else {
        return Outcome::Clear;
    };
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Unknown,
        subject: subject(case),
        fact: phrase![
            holders(listener.holders.as_deref()),
            format!(" listens on {} now", listener.address)
        ],
        consequence:
            "it began to listen only after the failure, or a firewall rule rejects the client"
                .into(),
        fix: "try again; if it is still refused, look at the firewall (nft list ruleset)".into(),
        evidence: evidence(std::iter::once(listener)),
    })
}

pub(super) fn refused_by_peer(case: &Case) -> Outcome {
    let (target, tcp) = match facts(case) {
        Ok(known) => known,
        Err(outcome) => return outcome,
    };
    if case.errno.is_none() || !is_elsewhere(tcp) {
        return Outcome::Clear;
    }
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Inferred,
        subject: subject(case),
        fact: format!(
            "{} is not an address of this host, and the connect was refused",
            target.ip()
        )
        .into(),
        consequence:
            "nobody listens on that port there, or a firewall here or on the way rejects it".into(),
        fix: format!("on that host, run socktrace diagnose {target}").into(),
        evidence: on_the_way(tcp),
    })
}

/// Whether no namespace of this host has the target's address, as far as that is known.
fn is_elsewhere(tcp: &Tcp) -> bool {
    tcp.address == Some(AddressFact::Foreign) && tcp.address_of.is_empty()
}

/// The route to another host, and what is not known of that.
fn on_the_way(tcp: &Tcp) -> Vec<Phrase> {
    let unasked =
        "not every network namespace of this host could be asked whether it has the address";
    let unasked = (tcp.all_asked == Some(false)).then(|| unasked.into());
    tcp.route.as_ref().map(route).into_iter().chain(unasked).collect()
}

pub(in crate::diagnose) fn route(route: &RouteFact) -> Phrase {
    match route {
        RouteFact::Via { interface, gateway } => phrase![
            "route: through ",
            name(interface),
            gateway.map_or(String::new(), |gateway| format!(" by {gateway}")),
        ],
        RouteFact::Local => "route: the address is the namespace's own".into(),
        RouteFact::Several => "route: one of several".into(),
        RouteFact::Rejected => {
            "route: rejected by a route (unreachable, prohibit or blackhole)".into()
        }
        RouteFact::None => "route: none".into(),
        RouteFact::Unknown => "route: unknown, as rules decide".into(),
    }
}

pub(super) fn accept_queue_full(case: &Case) -> Outcome {
    let (target, tcp) = match local(case) {
        Ok(known) => known,
        Err(outcome) => return outcome,
    };
    let Some(listener) = met(case, tcp, target) else { return Outcome::Clear };
    let Some((queue, limit)) = listener.queue else {
        return Outcome::Unknown("the listener's accept queue");
    };
    let full = queue > limit;
    let settings = tcp.settings_of_listener(case.client.net_namespace);
    let aborts = settings.and_then(|it| it.tcp_abort_on_overflow) == Some(1);
    if !full || case.errno == Some(Errno::ECONNRESET) && !aborts {
        return Outcome::Clear;
    }
    let does = activity(listener.holders.as_deref());
    let outcome = if case.errno == Some(Errno::ECONNRESET) {
        "net.ipv4.tcp_abort_on_overflow answers with a reset"
    } else {
        "the kernel drops what comes, and the client tries again until it gives up"
    };
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: certainty(case, tcp),
        subject: subject(case),
        fact: phrase![
            "the accept queue of ",
            holders(listener.holders.as_deref()),
            format!(" is full: {} wait, backlog {limit}", count(queue.into(), "connection")),
            does.map_or(String::new(), |does| format!("; the server is {does}")),
        ],
        consequence: if is_own(case, tcp) {
            outcome.into()
        } else {
            format!("{outcome}{}", unless_elsewhere(case, tcp, "the connect elsewhere")).into()
        },
        fix: "let the server accept faster; a larger backlog (listen(), net.core.somaxconn) only helps \
              against short bursts"
            .into(),
        evidence: evidence(std::iter::once(listener)),
    })
}

pub(super) fn no_route(case: &Case) -> Outcome {
    let (target, tcp) = match facts(case) {
        Ok(known) => known,
        Err(outcome) => return outcome,
    };
    // What a route of type prohibit, or blackhole, gives.
    let by_type = matches!(case.errno, Some(Errno::EACCES | Errno::EINVAL));
    let why = match &tcp.route {
        Some(RouteFact::None) if !by_type => "there is no route to",
        Some(RouteFact::Rejected) => "a route (unreachable, prohibit or blackhole) rejects",
        None => return Outcome::Unknown("the routes of the client's network namespace"),
        Some(_) => return Outcome::Clear,
    };
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Inferred,
        subject: subject(case),
        fact: format!("{why} {} in the client's network namespace", target.ip()).into(),
        consequence: "no packet was sent".into(),
        fix: format!("add a route (ip route get {} shows what applies)", target.ip()).into(),
        evidence: tcp.route.as_ref().map(route).into_iter().collect(),
    })
}

pub(super) fn no_answer(case: &Case) -> Outcome {
    let (target, tcp) = match facts(case) {
        Ok(known) => known,
        Err(outcome) => return outcome,
    };
    let out = matches!(tcp.route, Some(RouteFact::Via { .. } | RouteFact::Several));
    if case.errno.is_none() || tcp.address != Some(AddressFact::Foreign) || !out {
        return Outcome::Clear;
    }
    let explains =
        case.errno == Some(Errno::ETIMEDOUT) && certainty(case, tcp) != Certainty::Unknown;
    if explains && matches!(accept_queue_full(case), Outcome::Found(_)) {
        return Outcome::Clear;
    }
    let namespaces: Vec<String> =
        tcp.address_of.iter().take(8).map(|it| namespace(Some(*it))).collect();
    let fact = match namespaces.as_slice() {
        [] => format!("{} did not answer", target.ip()),
        some => format!(
            "{}, an address of {} on this host, did not answer",
            target.ip(),
            some.join(", ")
        ),
    };
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Unknown,
        subject: subject(case),
        fact: fact.into(),
        consequence:
            "the host is down, a firewall drops the packets, or its listener's queue is full".into(),
        fix: format!(
            "watch the wire: tcpdump -ni any host {} and tcp port {}",
            target.ip(),
            target.port()
        )
        .into(),
        evidence: on_the_way(tcp),
    })
}

pub(super) fn ports_exhausted(case: &Case) -> Outcome {
    let (target, tcp) = match facts(case) {
        Ok(known) => known,
        Err(outcome) => return outcome,
    };
    let usable = tcp.settings.as_ref().and_then(NetworkSettings::usable_local_ports);
    let (Some(ports), Some(usable)) = (tcp.ports, usable) else {
        return Outcome::Unknown("the local ports in use");
    };
    let reuse = tcp.settings.as_ref().and_then(|settings| settings.tcp_tw_reuse);
    let takes_over = reuse == Some(1) || reuse == Some(2) && target.ip().is_loopback();
    let (used, enough) = match case.errno {
        // A few may be given back between the failure and the look.
        Some(_) => (ports.used, usable - usable / 20),
        None if takes_over => (ports.used.saturating_sub(ports.time_wait), usable),
        None => (ports.used, usable),
    };
    if used < enough {
        return Outcome::Clear;
    }
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Inferred,
        subject: subject(case),
        fact: format!(
            "{} of {usable} local ports towards {target} are in use, {} of them in TIME-WAIT",
            ports.used, ports.time_wait
        )
        .into(),
        consequence: "a new connection finds no local port".into(),
        fix: "keep connections open and use them again; else widen net.ipv4.ip_local_port_range, or let \
              net.ipv4.tcp_tw_reuse take over ports in TIME-WAIT"
            .into(),
        evidence: Vec::new(),
    })
}
