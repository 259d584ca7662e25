//! Cases that look alike and have different causes.
//!
//! Owns tests only; each was met on a real kernel first.

use std::net::{Ipv6Addr, SocketAddr};

use nix::errno::Errno;

use crate::{
    diagnose::{
        access,
        case::{
            Bases, BoundSocket, Case, Holder, Path, Question, Security, Tcp, TcpListening, Units,
            UnixSockets,
        },
        diagnose, listener_met,
    },
    event::{Certainty, Finding, SocketKind},
    host::{
        AddressFact, RouteFact,
        path_walk::{AclFact, End, Kind, Step, Walk},
    },
};

const OWN: u64 = 1;
const OTHER: u64 = 2;

fn step(path: &[u8], kind: Kind) -> Step {
    Step {
        path: path.to_vec(),
        name: Vec::new(),
        trailing: false,
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        dev: 1,
        inode: 1,
        ctime: (0, 0),
        acl: AclFact::Absent,
        immutable: Some(false),
        mount: None,
    }
}

/// A failure at `/run/app.sock` in a tree where nothing has changed.
fn unix(errno: Errno, steps: Vec<Step>, end: End) -> Case {
    let mut case = Case::new(Question::Unix(b"/run/app.sock".to_vec()), Some(errno));
    case.client.mount_namespace = Some(OWN);
    case.client.net_namespace = Some(OWN);
    case.client.kind = Some(SocketKind::Stream);
    case.path = Some(Path {
        walk: Walk { steps, end },
        as_client: true,
        settled: true,
        changed: None,
        protected_symlinks: Some(true),
        bases: Bases { root: Some(Vec::new()), cwd: None },
    });
    case.unix = Some(UnixSockets { complete: true, comparable: true, ..UnixSockets::default() });
    case
}

fn missing(name: &[u8], last: bool) -> Case {
    let steps = vec![step(b"/", Kind::Directory), step(b"/run", Kind::Directory)];
    unix(Errno::ENOENT, steps, End::Missing { name: name.to_vec(), last })
}

fn listener(mount_namespace: u64, in_place: Option<bool>) -> BoundSocket {
    BoundSocket {
        inode: 7,
        kind: SocketKind::Stream,
        listens: true,
        shut: false,
        file: None,
        in_place,
        net_namespace: Some(OWN),
        queue: None,
        accepted: None,
        holders: Some(vec![Holder {
            pid: 9,
            comm: b"app".to_vec(),
            mount_namespace: Some(mount_namespace),
            hold: None,
            activity: None,
            accepts: None,
            descriptors: None,
            unit: None,
        }]),
    }
}

fn beside(mut case: Case, namesake: BoundSocket) -> Case {
    case.unix.as_mut().expect("sockets").namesakes.push(namesake);
    case
}

fn first(case: &Case) -> Finding {
    diagnose(case).into_iter().next().expect("a failure always has a finding")
}

fn text(phrase: &crate::event::Phrase) -> String {
    format!("{phrase:?}")
}

#[test]
fn a_listener_whose_file_is_in_place_has_not_lost_it() {
    let rule = |in_place, namespace| {
        first(&beside(missing(b"app.sock", true), listener(namespace, in_place))).rule
    };
    assert_eq!(rule(Some(false), OWN), "unix-file-removed");
    assert_eq!(rule(None, OWN), "unix-file-removed");
    assert_eq!(rule(Some(true), OWN), "unix-no-such-path");
    assert_eq!(rule(Some(true), OTHER), "unix-other-mount-namespace");
    assert_eq!(rule(None, OTHER), "unix-other-mount-namespace");
}

#[test]
fn a_listener_whose_holder_may_not_be_looked_at_has_lost_nothing_for_all_that_is_known() {
    for holders in [None, Some(Vec::new())] {
        let hidden = || BoundSocket { holders: holders.clone(), ..listener(OWN, None) };
        let case = beside(missing(b"app.sock", true), hidden());
        assert_eq!(rules_of(&case), ["unix-no-such-path"]);
        let steps = vec![step(b"/", Kind::Directory), step(b"/run/app.sock", Kind::Socket)];
        let case = beside(unix(Errno::ECONNREFUSED, steps, End::Found), hidden());
        assert_eq!(rules_of(&case), ["unix-stale-socket"]);
    }
}

#[test]
fn a_stale_file_in_a_chroot_is_stale_whoever_listens_outside() {
    let steps = vec![step(b"/", Kind::Directory), step(b"/run/app.sock", Kind::Socket)];
    let case = unix(Errno::ECONNREFUSED, steps, End::Found);
    assert_eq!(first(&beside(case.clone(), listener(OWN, Some(true)))).rule, "unix-stale-socket");
    assert_eq!(first(&beside(case, listener(OWN, Some(false)))).rule, "unix-replaced-socket");
}

#[test]
fn the_last_name_of_a_path_is_not_called_a_directory() {
    let fact = |last| text(&first(&missing(b"app.sock", last)).fact);
    assert!(fact(false).contains("no directory"), "{}", fact(false));
    assert!(!fact(true).contains("directory"), "{}", fact(true));
}

#[test]
fn a_datagram_socket_in_another_tree_serves_there_though_it_does_not_listen() {
    let log =
        BoundSocket { kind: SocketKind::Dgram, listens: false, ..listener(OTHER, Some(true)) };
    let found = first(&beside(missing(b"app.sock", true), log));
    assert_eq!(found.rule, "unix-other-mount-namespace");
    assert!(text(&found.fact).contains("has a datagram socket"), "{:?}", found.fact);
}

#[test]
fn an_abstract_name_of_another_type_is_bound_and_not_found() {
    let mut case = Case::new(Question::Unix(b"\0app".to_vec()), Some(Errno::ECONNREFUSED));
    case.client.kind = Some(SocketKind::Stream);
    let datagram = BoundSocket { kind: SocketKind::Dgram, listens: false, ..listener(OWN, None) };
    let there = vec![datagram.clone()];
    case.unix = Some(UnixSockets { there, complete: true, ..UnixSockets::default() });
    let found = first(&case);
    assert_eq!((&*found.rule, found.certainty), ("unix-wrong-type", Certainty::Inferred));
    let idle = BoundSocket { listens: false, ..listener(OWN, None) };
    case.unix.as_mut().expect("sockets").there = vec![datagram, idle];
    assert_eq!(first(&case).rule, "unix-not-listening");
}

#[test]
fn a_type_is_measured_only_of_the_socket_that_was_met() {
    let steps = vec![step(b"/", Kind::Directory), step(b"/run/app.sock", Kind::Socket)];
    let mut case = unix(Errno::EPROTOTYPE, steps, End::Found);
    let seqpacket = BoundSocket { kind: SocketKind::Seqpacket, ..listener(OWN, None) };
    case.unix.as_mut().expect("sockets").there.push(seqpacket);
    assert_eq!(first(&case).certainty, Certainty::Measured);
    case.path.as_mut().expect("a path").settled = false;
    assert_eq!(first(&case).certainty, Certainty::Inferred);
}

#[test]
fn a_client_is_not_sent_to_the_unspecified_address() {
    let target: SocketAddr = "127.0.0.1:80".parse().expect("an address");
    let mut case = Case::new(Question::Tcp(target), Some(Errno::ECONNREFUSED));
    case.client.net_namespace = Some(OWN);
    case.tcp = Some(Tcp {
        listening: vec![TcpListening {
            address: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 80)),
            v6only: Some(true),
            interface: None,
            net_namespace: Some(OWN),
            inode: 3,
            queue: None,
            accepted: None,
            drops: None,
            holders: None,
        }],
        looked_into: vec![OWN],
        complete: true,
        address: Some(AddressFact::Local),
        ..Tcp::default()
    });
    let found = first(&case);
    assert_eq!(found.rule, "tcp-listens-on-other-address");
    assert!(text(&found.fix).contains("connect to [::1]:80"), "{:?}", found.fix);
}

/// A listener on this port of the client's own namespace.
fn listening(at: &str, queue: (u32, u32)) -> TcpListening {
    TcpListening {
        address: at.parse().expect("an address"),
        v6only: Some(false),
        interface: None,
        net_namespace: Some(OWN),
        inode: 7,
        queue: Some(queue),
        accepted: None,
        drops: None,
        holders: None,
    }
}

/// A question about 127.0.0.1:80, with these listeners.
fn tcp(errno: Option<Errno>, listening: Vec<TcpListening>) -> Case {
    let target: SocketAddr = "127.0.0.1:80".parse().expect("an address");
    let mut case = Case::new(Question::Tcp(target), errno);
    case.client.net_namespace = Some(OWN);
    case.tcp = Some(Tcp {
        listening,
        looked_into: vec![OWN],
        complete: true,
        address: Some(AddressFact::Local),
        ..Tcp::default()
    });
    case
}

fn rules_of(case: &Case) -> Vec<String> {
    diagnose(case).into_iter().map(|finding| finding.rule.into_owned()).collect()
}

#[test]
fn another_host_is_not_said_to_refuse_before_anybody_asked_it() {
    let mut case = tcp(None, Vec::new());
    case.tcp.as_mut().expect("facts").address = Some(AddressFact::Foreign);
    assert_eq!(rules_of(&case), [""; 0]);
    case.errno = Some(Errno::ECONNREFUSED);
    assert_eq!(rules_of(&case), ["tcp-refused-by-peer"]);
}

/// A refusal by an address that these other namespaces of this host have, with a listener on that port in each of `listening`.
fn refused_by_others(address_of: &[u64], listening_in: &[u64]) -> Case {
    let in_namespace = |inode: &u64| TcpListening {
        net_namespace: Some(*inode),
        ..listening("0.0.0.0:80", (9, 8))
    };
    let mut case = tcp(Some(Errno::ECONNREFUSED), listening_in.iter().map(in_namespace).collect());
    let tcp = case.tcp.as_mut().expect("facts");
    tcp.address = Some(AddressFact::Foreign);
    tcp.route = Some(RouteFact::Via { interface: b"docker0".to_vec(), gateway: None });
    tcp.address_of = address_of.to_vec();
    tcp.looked_into = vec![OWN, OTHER];
    case
}

#[test]
fn an_address_of_one_other_namespace_leads_there_and_of_several_to_nobody_knows_which() {
    let listener_there = refused_by_others(&[OTHER], &[OTHER]);
    assert_eq!(rules_of(&listener_there), ["tcp-refused-though-listening"]);
    let mut full = listener_there.clone();
    full.errno = Some(Errno::ETIMEDOUT);
    assert_eq!(rules_of(&full), ["tcp-accept-queue-full"]);
    assert!(listener_met(&full).is_some());
    let nobody = first(&refused_by_others(&[OTHER], &[OWN]));
    assert_eq!(nobody.rule, "tcp-nobody-listens", "the client's own listener is not asked");
    assert!(text(&nobody.fact).contains("in net:[2], which has that address"), "{:?}", nobody.fact);

    for errno in [Errno::ECONNREFUSED, Errno::ETIMEDOUT] {
        let mut several = refused_by_others(&[OTHER, 3], &[OTHER]);
        several.errno = Some(errno);
        let found = first(&several);
        assert_eq!(found.certainty, Certainty::Unknown, "{found:?}");
        assert_eq!(listener_met(&several), None);
    }
    let mut kept_in = refused_by_others(&[OTHER], &[OTHER]);
    kept_in.tcp.as_mut().expect("facts").route = Some(RouteFact::None);
    assert_eq!(rules_of(&kept_in), ["unexplained"]);
}

#[test]
fn behind_a_gateway_nothing_is_concluded_from_who_has_the_address() {
    let gateway = Some("10.0.0.1".parse().expect("an address"));
    let via = |gateway| Some(RouteFact::Via { interface: b"eth0".to_vec(), gateway });
    let all = [
        (via(None), Certainty::Inferred),
        (via(gateway), Certainty::Unknown),
        (Some(RouteFact::Several), Certainty::Unknown),
        (Some(RouteFact::Unknown), Certainty::Unknown),
    ];
    for (route, certainty) in all {
        for (errno, listening_in) in [
            (Some(Errno::ECONNREFUSED), OWN),
            (None, OWN),
            (Some(Errno::ETIMEDOUT), OTHER),
            (None, OTHER),
        ] {
            let mut case = refused_by_others(&[OTHER], &[listening_in]);
            case.errno = errno;
            case.tcp.as_mut().expect("facts").route.clone_from(&route);
            let found = first(&case);
            assert_eq!(found.certainty, certainty, "{route:?}, {errno:?}: {found:?}");
            let words = text(&found.consequence);
            let caveat =
                ", unless another host has that address, or NAT leads the connect elsewhere";
            assert!(words.contains(caveat), "{words}");
            let is_sure = certainty == Certainty::Inferred && listening_in == OTHER;
            assert_eq!(listener_met(&case).is_some(), is_sure, "{route:?}");
            let rules = rules_of(&case);
            let says_no_more = rules.contains(&"tcp-no-answer".to_owned());
            let may_be_else = errno == Some(Errno::ETIMEDOUT) && certainty == Certainty::Unknown;
            assert_eq!(says_no_more, may_be_else && route != Some(RouteFact::Unknown), "{rules:?}");
        }
    }
}

#[test]
fn a_security_module_is_named_for_tcp_only_where_no_route_gives_that_errno() {
    let refused = |errno, route| {
        let mut case = tcp(Some(errno), vec![listening("127.0.0.1:80", (0, 8))]);
        case.tcp.as_mut().expect("facts").route = route;
        let modules = Some(vec![b"landlock".to_vec()]);
        case.security = Some(Security { modules, ..Security::default() });
        rules_of(&case)
    };
    let local = Some(RouteFact::Local);
    assert_eq!(refused(Errno::EACCES, local.clone()), ["security-module"]);
    assert_eq!(refused(Errno::EPERM, None), ["security-module"]);
    assert_eq!(refused(Errno::EACCES, Some(RouteFact::Rejected)), ["tcp-no-route"]);
    assert_eq!(refused(Errno::EINVAL, Some(RouteFact::Rejected)), ["tcp-no-route"]);
    assert_eq!(refused(Errno::EACCES, None), ["unexplained"]);
    assert_eq!(refused(Errno::EACCES, Some(RouteFact::Unknown)), ["unexplained"]);
}

#[test]
fn of_listeners_on_one_port_the_most_specific_counts_and_of_a_group_the_full_one() {
    let (full, idle) = ((9, 8), (0, 8));
    let full_wildcard = vec![listening("0.0.0.0:80", full), listening("127.0.0.1:80", idle)];
    assert_eq!(rules_of(&tcp(None, full_wildcard)), [""; 0], "it takes nothing of this address");
    for group in [[full, idle], [idle, full]] {
        let group = tcp(None, group.map(|queue| listening("127.0.0.1:80", queue)).to_vec());
        assert_eq!(rules_of(&group), ["tcp-accept-queue-full"]);
        assert!(listener_met(&group).is_some());
    }
    let alike = tcp(None, vec![listening("127.0.0.1:80", full), listening("127.0.0.1:80", full)]);
    assert_eq!(listener_met(&alike), None, "either of them");
}

#[test]
fn a_mapped_wildcard_takes_ipv4_and_nothing_else() {
    let mapped = || vec![listening("[::ffff:0.0.0.0]:80", (0, 8))];
    assert_eq!(rules_of(&tcp(None, mapped())), [""; 0]);
    let mut six = tcp(None, mapped());
    six.question = Question::Tcp("[::1]:80".parse().expect("an address"));
    let found = first(&six);
    assert_eq!(found.rule, "tcp-listens-on-other-address");
    assert!(text(&found.fix).contains("connect to 127.0.0.1:80"), "{:?}", found.fix);
}

#[test]
fn whether_a_listener_of_one_interface_takes_a_connect_is_unknown() {
    let bound = TcpListening { interface: Some(3), ..listening("0.0.0.0:80", (9, 8)) };
    let specific = listening("127.0.0.1:80", (9, 8));
    let full = Some(Errno::ETIMEDOUT);
    assert!(listener_met(&tcp(full, vec![bound.clone(), specific])).is_some(), "it is met first");
    let of_loopback = TcpListening { interface: Some(1), ..listening("127.0.0.1:80", (9, 8)) };
    assert_eq!(rules_of(&tcp(None, vec![of_loopback])), ["tcp-accept-queue-full"]);
    assert_eq!(rules_of(&tcp(Some(Errno::ECONNREFUSED), vec![bound.clone()])), ["unexplained"]);
    assert_eq!(listener_met(&tcp(full, vec![bound])), None);
}

#[test]
fn nat_may_lead_a_connect_that_nobody_made_yet_to_somebody() {
    for (errno, may) in [(None, true), (Some(Errno::ECONNREFUSED), false)] {
        let nobody = first(&tcp(errno, Vec::new()));
        assert_eq!(nobody.rule, "tcp-nobody-listens");
        assert_eq!(text(&nobody.consequence).contains("NAT"), may, "{:?}", nobody.consequence);
    }
}

#[test]
fn a_length_that_is_wrong_is_not_called_a_path_that_is_too_long() {
    let mut case = unix(Errno::EINVAL, Vec::new(), End::NoStart);
    case.client.address_len = Some(128);
    let found = first(&case);
    assert_eq!(found.rule, "unix-path-too-long");
    assert!(text(&found.fact).contains("its path has 13"), "{}", text(&found.fact));
}

#[test]
fn files_that_cannot_be_compared_are_neither_stale_nor_replaced() {
    let steps = vec![step(b"/", Kind::Directory), step(b"/run/app.sock", Kind::Socket)];
    let mut case = unix(Errno::ECONNREFUSED, steps, End::Found);
    assert_eq!(rules_of(&case), ["unix-stale-socket"]);
    case.unix.as_mut().expect("facts").comparable = false;
    assert_eq!(rules_of(&case), ["unexplained"]);
    let case = beside(case, listener(OWN, None));
    assert_eq!(rules_of(&case), ["unexplained"]);
}

/// A user to whom nothing belongs.
fn nobody() -> access::Client {
    access::Client {
        fsuid: 1000,
        fsgid: 1000,
        groups: Some(Vec::new()),
        cap_effective: Some(0),
        id_maps: None,
    }
}

#[test]
fn what_a_service_has_made_for_it_gets_its_mode_in_the_unit_and_the_rest_by_hand() {
    let directory = Step { mode: 0o710, gid: 7, ..step(b"/run/db", Kind::Directory) };
    let socket = Step { mode: 0o600, ..step(b"/run/db/sock", Kind::Socket) };
    let mut case =
        unix(Errno::EACCES, vec![step(b"/run", Kind::Directory), directory, socket], End::Found);
    case.client.rights = Some(nobody());
    let fixes = |case: &Case| -> Vec<String> {
        diagnose(case).iter().map(|found| text(&found.fix)).collect()
    };
    let by_hand = fixes(&case);
    case.units = Some(Units {
        runtime_directories: vec![(b"/run/db".to_vec(), b"db.service".to_vec())],
        ..Units::default()
    });
    let lasting = fixes(&case);
    assert_eq!(lasting[1..], by_hand[1..], "the socket is not systemd's");
    // Members of group 7 may pass already: that is the smallest, and no change of a mode.
    assert_eq!(lasting[0], by_hand[0], "{by_hand:?}");
    case.path.as_mut().expect("a path").walk.steps[1].mode = 0o700;
    let lasting = &fixes(&case)[0];
    assert!(lasting.contains("set RuntimeDirectoryMode=0710 in "), "{lasting}");
    assert!(lasting.contains("make the client's user a member of "), "{lasting}");
}

#[test]
fn what_modes_deny_was_met_for_certain_unless_a_security_module_may_have_denied_a_directory_before()
{
    let certainty = |security: Security, denied: &[u8]| {
        let mut steps = vec![step(b"/", Kind::Directory), step(b"/run/app.sock", Kind::Socket)];
        steps.iter_mut().filter(|it| it.path == denied).for_each(|it| it.mode = 0);
        let mut case = unix(Errno::EACCES, steps, End::Found);
        (case.client.rights, case.security) = (Some(nobody()), Some(security));
        first(&case).certainty
    };
    let with = |modules: &str, selinux_enforces, has_programs| Security {
        modules: Some(modules.split(',').map(|it| it.as_bytes().to_vec()).collect()),
        selinux_enforces,
        has_programs,
        ..Security::default()
    };
    let (inferred, measured) = (Certainty::Inferred, Certainty::Measured);
    for (security, expected) in [
        (Security::default(), inferred),
        (Security { has_programs: Some(false), ..Security::default() }, measured),
        (with("landlock,apparmor,tomoyo", None, None), measured),
        (with("selinux", None, None), inferred),
        (with("selinux,bpf", Some(false), Some(false)), measured),
        (with("selinux", Some(true), Some(false)), inferred),
        (with("smack", None, Some(false)), inferred),
        (with("bpf", None, Some(true)), inferred),
        (with("bpf", None, None), inferred),
        // They are never asked.
        (with("apparmor", None, Some(true)), measured),
        (Security { has_programs: Some(true), ..Security::default() }, inferred),
    ] {
        assert_eq!(certainty(security.clone(), b"/run/app.sock"), expected, "{security:?}");
        assert_eq!(certainty(security, b"/"), measured, "nothing is before it");
    }
}
