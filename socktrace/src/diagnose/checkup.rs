//! The checkup of a target: step by step what was seen of it, well or not, and what the rules found.

use super::{
    case::{BoundSocket, Case, Holder, Question, TcpListening},
    check::Check,
    rule::{Step, judge},
    rules::{TABLE, words},
};
use crate::{
    event::{Certainty, Finding, Phrase, Severity, glob_of, name, phrase, word},
    host::{AddressFact, NetworkSettings, RouteFact, UnitState, path_walk::End},
};

/// Facts that a step lists; more are counted.
const LISTED: usize = 20;

/// Every step, in the order in which an operator takes them.
pub fn checkup(case: &Case) -> Vec<Check> {
    let mut checks = vec![target(case)];
    match case.question {
        Question::Unix(_) => {
            if case.unix_path().is_some() {
                checks.push(path(case));
            }
            checks.push(unix_sockets(case));
        }
        Question::Tcp(_) => {
            checks.push(route(case));
            checks.push(tcp_sockets(case));
        }
        Question::Accept => {}
    }
    checks.push(owners(case));
    checks.push(queue(case));
    checks.push(activation(case));
    if matches!(case.question, Question::Tcp(_)) {
        checks.push(ports(case));
    } else {
        checks.push(security(case));
    }
    let (found, missing) = judge(case);
    for finding in found {
        let wanted = step_of(&finding).map(step_name);
        let at = checks.iter().position(|check| Some(check.name) == wanted).unwrap_or(0);
        if let Some(check) = checks.get_mut(at) {
            check.findings.push(finding);
        }
    }
    if checks.iter().all(|check| check.findings.is_empty()) {
        checks.push(next(case, &missing));
    }
    checks
}

fn step_of(finding: &Finding) -> Option<Step> {
    TABLE.iter().find(|rule| rule.name == finding.rule).map(|rule| rule.step)
}

/// Where its findings stand: descriptors of owners are looked at with the owners.
const fn step_name(step: Step) -> &'static str {
    match step {
        Step::Descriptors => Step::Owners.name(),
        step => step.name(),
    }
}

fn target(case: &Case) -> Check {
    let mut check = Check::new("target", "What it is, and for whom it is asked");
    check.facts.push(match &case.question {
        Question::Unix(_) if case.unix_path().is_some() => "a Unix socket, by its path".into(),
        Question::Unix(_) => "a Unix socket, by an abstract name".into(),
        Question::Tcp(at) if at.is_ipv6() => "a TCP socket over IPv6".into(),
        Question::Tcp(_) => "a TCP socket over IPv4".into(),
        Question::Accept => "a process that accepts".into(),
    });
    let Some(rights) = &case.client.rights else {
        check.unseen.push("the client's credentials".into());
        return check;
    };
    let groups = rights.groups.as_ref().map_or("unknown".to_owned(), |gids| {
        if gids.is_empty() { "none".to_owned() } else { words::few(gids) }
    });
    let who = case.client.comm.as_deref().map(|comm| phrase![name(comm), ": "]);
    let capable = rights.cap_effective.map_or(String::new(), |mask| match mask & 0b110 {
        0 => ", without CAP_DAC_OVERRIDE".to_owned(),
        _ => ", with CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH".to_owned(),
    });
    check.facts.push(phrase![
        "client: ",
        who,
        words::user(case, rights.fsuid),
        ", ",
        words::group(case, rights.fsgid),
        format!(", more groups: {groups}{capable}"),
    ]);
    let inode = |kind, inode: Option<u64>| inode.map(|inode| format!("{kind}:[{inode}]"));
    let namespaces =
        [inode("mnt", case.client.mount_namespace), inode("net", case.client.net_namespace)];
    let namespaces: Vec<String> = namespaces.into_iter().flatten().collect();
    check.facts.push(format!("its namespaces: {}", namespaces.join(", ")).into());
    check
}

fn path(case: &Case) -> Check {
    let mut check =
        Check::new("path", "The way of the path: type, mode, owner and group of each component");
    let Some(path) = &case.path else {
        check.unseen.push("the client's tree".into());
        return check;
    };
    check.facts = words::way(case, path);
    if !path.as_client {
        check.unseen.push("whether the client sees the same tree".into());
    }
    match &path.walk.end {
        End::Found
        | End::Missing { .. }
        | End::NotADirectory
        | End::TooManyLinks
        | End::LinksForbidden => {}
        End::NameTooLong => check.unseen.push("the path is longer than the kernel takes".into()),
        End::TooManySteps => {
            check.unseen.push("the path has more components than are followed here".into());
        }
        End::Foreign { fs_type, path } => check.unseen.push(phrase![
            "what lies below ",
            name(path),
            ": its filesystem (",
            name(fs_type),
            ") may not answer, and was not asked",
        ]),
        End::Magic => check.unseen.push("what the link of procfs at its end leads to".into()),
        End::TimedOut => {
            check.unseen.push("the rest of the path: its filesystem did not answer in time".into());
        }
        End::Unreadable(errno) => check
            .unseen
            .push(format!("the rest of the path: {} (run as root)", errno.desc()).into()),
        End::Vanished => check.unseen.push("the rest of the path: mounts changed meanwhile".into()),
        End::NoStart => check.unseen.push("the client's working directory".into()),
    }
    check
}

fn unix_sockets(case: &Case) -> Check {
    let mut check = Check::new("sockets", "The sockets that are bound there");
    let Some(unix) = &case.unix else {
        check.unseen.push("Unix sockets (sock_diag)".into());
        return check;
    };
    check.facts.extend(unix.there.iter().take(LISTED).map(|it| bound(it, "bound there")));
    check.facts.extend(
        unix.namesakes.iter().take(LISTED).map(|it| bound(it, "of the same name, not there")),
    );
    if check.facts.is_empty() {
        check.facts.push("none".into());
    }
    hidden(&mut check, unix.complete, unix.unreadable);
    check
}

fn hidden(check: &mut Check, complete: bool, unreadable: u32) {
    check.unseen.extend(words::unseen(unreadable));
    if !complete {
        check.unseen.push("some network namespaces (run as root to look into all)".into());
    }
}

fn bound(socket: &BoundSocket, where_: &'static str) -> Phrase {
    let state = match (socket.listens, socket.shut) {
        (_, true) => "shut down",
        (true, _) => "listens",
        (false, _) => "does not listen",
    };
    phrase![
        format!("{where_}: {} socket, {state}, inode {}", words::kind(socket.kind), socket.inode),
        socket.net_namespace.map_or(String::new(), |inode| format!(", net:[{inode}]")),
        ", held by ",
        words::holders(socket.holders.as_deref()),
    ]
}

/// Whose address it is that is not the client's own.
fn others_address(namespaces: &[u64]) -> Phrase {
    match namespaces {
        [] => "the address is another host's".into(),
        [only] => format!("not the client's own address: net:[{only}] of this host has it").into(),
        [first, rest @ ..] => format!(
            "not the client's own address: net:[{first}] of this host has it, and {} more",
            rest.len()
        )
        .into(),
    }
}

fn route(case: &Case) -> Check {
    let mut check = Check::new("route", "Whose address it is, and the way there");
    let Some(tcp) = &case.tcp else { return check };
    match tcp.address {
        Some(AddressFact::Local) => check.facts.push("the address is the client's own host".into()),
        Some(AddressFact::Foreign) => {
            check.facts.push(others_address(&tcp.address_of));
            if tcp.all_asked == Some(false) {
                let unasked =
                    "whether a network namespace of this host has it that could not be asked";
                check.unseen.push(unasked.into());
            }
        }
        Some(AddressFact::NotUsable) => {
            check.facts.push("the address is not usable: duplicate address detection".into());
        }
        Some(AddressFact::Unknown) | None => check.unseen.push("whose address it is".into()),
    }
    match &tcp.route {
        Some(
            RouteFact::Via { .. } | RouteFact::Several | RouteFact::None | RouteFact::Rejected,
        ) => {
            check.facts.extend(tcp.route.as_ref().map(words::route));
        }
        Some(RouteFact::Local) => {}
        Some(RouteFact::Unknown) | None => check.unseen.push("the route there".into()),
    }
    check
}

fn tcp_sockets(case: &Case) -> Check {
    let mut check = Check::new("sockets", "The listeners on that port, in every network namespace");
    let Some(tcp) = &case.tcp else { return check };
    let line = |it: &TcpListening| {
        phrase![
            it.address.to_string(),
            match it.v6only {
                Some(true) if it.address.is_ipv6() => ", IPv6 only",
                _ => "",
            },
            it.net_namespace.map_or(String::new(), |inode| format!(", net:[{inode}]")),
            ", held by ",
            words::holders(it.holders.as_deref()),
        ]
    };
    check.facts = tcp.listening.iter().take(LISTED).map(line).collect();
    if check.facts.is_empty() {
        check.facts.push("none".into());
    }
    hidden(&mut check, tcp.complete, tcp.unreadable);
    check
}

/// Everybody who holds what a connect would meet.
fn met(case: &Case) -> Option<&[Holder]> {
    let unix = case.unix.as_ref().and_then(|unix| unix.there.first());
    let unix = unix.and_then(|socket| socket.holders.as_deref());
    unix.or_else(|| words::met_by(case)?.holders.as_deref())
}

fn owners(case: &Case) -> Check {
    let mut check = Check::new("owners", "Who holds the listener, and what those processes do");
    let Some(holders) = met(case) else {
        check.facts.push("nobody listens there, or that could not be seen".into());
        return check;
    };
    let line = |it: &Holder| {
        let elsewhere =
            it.mount_namespace.is_some() && it.mount_namespace != case.client.mount_namespace;
        phrase![
            name(&it.comm),
            format!(" (pid {})", it.pid),
            it.unit.as_deref().map(|unit| phrase![" of ", name(unit)]),
            it.activity.as_ref().map_or(String::new(), |does| format!(": {does}")),
            it.descriptors
                .map_or(String::new(), |(open, limit)| format!(", {open} of {limit} descriptors")),
            if elsewhere { ", in another mount namespace" } else { "" },
        ]
    };
    check.facts = holders.iter().take(LISTED).map(line).collect();
    check
}

fn queue(case: &Case) -> Check {
    let mut check = Check::new("queue", "Its queue and backlog");
    let unix = case.unix.as_ref().and_then(|unix| unix.there.first());
    let tcp = words::met_by(case);
    let queue = unix.and_then(|it| it.queue).or_else(|| tcp.and_then(|it| it.queue));
    if let Some((now, limit)) = queue {
        check.facts.push(
            format!("{} waiting now, backlog {limit}", words::count(now.into(), "connection"))
                .into(),
        );
    } else {
        check.facts.push("no listener, so no queue".into());
    }
    if let Some(drops) = tcp.and_then(|it| it.drops) {
        check.facts.push(
            format!(
                "{} thrown away or discarded since it listens (sk_drops)",
                words::count(drops.into(), "packet")
            )
            .into(),
        );
    }
    let settings =
        case.tcp.as_ref().and_then(|tcp| tcp.settings_of_listener(case.client.net_namespace));
    let setting =
        |name: &str, value: Option<u64>| value.map(|value| format!("{name} = {value}").into());
    if let Some(settings) = settings {
        check.facts.extend(setting("net.core.somaxconn", settings.somaxconn));
        check.facts.extend(setting("net.ipv4.tcp_max_syn_backlog", settings.tcp_max_syn_backlog));
        check.facts.extend(setting("net.ipv4.tcp_syncookies", settings.tcp_syncookies));
        check
            .facts
            .extend(setting("net.ipv4.tcp_abort_on_overflow", settings.tcp_abort_on_overflow));
    }
    check
}

fn ports(case: &Case) -> Check {
    let mut check = Check::new("ports", "Local ports towards it");
    let tcp = case.tcp.as_ref();
    let usable =
        tcp.and_then(|tcp| tcp.settings.as_ref()).and_then(NetworkSettings::usable_local_ports);
    match (tcp.and_then(|tcp| tcp.ports), usable) {
        (Some(ports), Some(usable)) => check.facts.push(
            format!("{} of {usable} in use, {} of them in TIME-WAIT", ports.used, ports.time_wait)
                .into(),
        ),
        _ => check.unseen.push("the local ports of the client's network namespace".into()),
    }
    check
}

fn activation(case: &Case) -> Check {
    let mut check = Check::new("activation", "systemd's units for it");
    let Some(units) = &case.units else {
        check.facts.push("none can be for it".into());
        return check;
    };
    let state = |state: &UnitState| match state {
        UnitState::Running => "runs",
        UnitState::NotRunning => "does not run",
        UnitState::Unknown => "may run or not",
    };
    if let Some((unit, runs)) = &units.socket {
        let made = match case.question {
            Question::Unix(_) if case.unix_path().is_some() => {
                format!(" makes it with mode {:04o}", unit.mode)
            }
            _ => " listens there".to_owned(),
        };
        check.facts.push(phrase![
            name(&unit.name),
            made,
            "; its service ",
            name(&unit.service),
            " ",
            state(runs),
        ]);
    }
    if let Some((maker, runs)) = &units.maker {
        check.facts.push(phrase![
            "the missing directory is made by ",
            name(maker),
            ", which ",
            state(runs)
        ]);
    }
    if check.facts.is_empty() {
        check.facts.push("no unit makes it".into());
    }
    check
}

fn security(case: &Case) -> Check {
    let mut check = Check::new("security", "Security modules");
    let security = case.security.as_ref();
    match security.and_then(|it| it.modules.as_ref()) {
        Some(modules) => {
            let mut names = Phrase::default();
            for (index, module) in modules.iter().enumerate() {
                names = phrase![names, if index == 0 { "" } else { ", " }, name(module)];
            }
            check.facts.push(phrase!["active: ", names]);
        }
        None => check.unseen.push("which are active (/sys/kernel/security/lsm)".into()),
    }
    if let Some(label) = security.and_then(|it| it.label.as_deref()) {
        check.facts.push(phrase!["the client's label: ", name(label)]);
    }
    check
}

/// Where nothing was found: what would tell more.
fn next(case: &Case, missing: &[&'static str]) -> Check {
    let mut check = Check::new("next", "What would tell more");
    check.unseen = missing.iter().map(|fact| (*fact).into()).collect();
    let owner = met(case).and_then(<[Holder]>::first).map(|owner| owner.pid);
    let fix = match (&case.question, owner) {
        (Question::Tcp(at), _) => {
            format!("watch the wire while it happens: tcpdump -ni any tcp port {}", at.port())
                .into()
        }
        (Question::Unix(path), None) => {
            phrase!["watch it happen: socktrace watch --path ", word(&glob_of(path))]
        }
        (_, Some(pid)) => {
            format!("watch the server while it happens: strace -f -tt -e trace=network -p {pid}")
                .into()
        }
        (Question::Accept, None) => "watch it happen: socktrace watch".into(),
    };
    check.findings.push(Finding {
        severity: Severity::Info,
        certainty: if missing.is_empty() { Certainty::Measured } else { Certainty::Unknown },
        rule: "healthy".into(),
        subject: super::rule::subject(case),
        fact: "nothing was found that would refuse, stall or drop a connection now".into(),
        consequence: Phrase::default(),
        fix,
        evidence: Vec::new(),
    });
    check
}
