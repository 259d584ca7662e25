//! What rules say of marked facts: redaction leaves nothing of the marks, whatever a rule puts into words.

use std::collections::BTreeSet;

use nix::errno::Errno;

use socktrace::{
    diagnose::{
        Case, Question, RULES,
        access::Client,
        case::{
            Bases, BoundSocket, Descriptors, Holder, Path, Ports, Security, Tcp, TcpListening,
            Units, UnixSockets,
        },
        diagnose,
    },
    event::{Diagnosis, Finding, Hold, Incident, Record, SocketKind},
    host::{
        AddressFact, AppArmorMode, BindIpv6Only, Host, NetworkSettings, NofileLimits, PortRange,
        RouteFact, SocketUnit, UnitState,
        path_walk::{Acl, AclEntry, AclFact, AclTag, End, Kind, Step, Walk},
    },
    redact::Redactor,
};
use socktrace_common::TaskKey;

/// Stands in every name; no pseudonym has capital letters, and no rule says this.
const MARK: &str = "ZQMARK";
const V4: &str = "198.51.100.";
const V6: &str = "2001:db8:";

fn marked(text: &str) -> Vec<u8> {
    text.replace('%', MARK).into_bytes()
}

fn holder(stuck: bool) -> Holder {
    Holder {
        pid: 7,
        comm: marked("%d"),
        mount_namespace: Some(if stuck { 1 } else { 2 }),
        hold: Some(if stuck { Hold::Stopped } else { Hold::Asleep }),
        activity: Some("asleep in futex".into()),
        accepts: Some(false),
        descriptors: Some((1, 2)),
        unit: Some(marked("%.service")),
    }
}

fn bound(kind: SocketKind, listens: bool, in_place: Option<bool>, stuck: bool) -> BoundSocket {
    BoundSocket {
        inode: 3,
        kind,
        listens,
        shut: !listens && stuck,
        file: None,
        in_place,
        net_namespace: Some(1),
        queue: Some((9, 8)),
        accepted: Some(0),
        holders: Some(vec![holder(stuck), holder(stuck)]),
    }
}

fn of_systemd() -> BoundSocket {
    let holders = Some(vec![Holder { pid: 1, ..holder(false) }]);
    BoundSocket { holders, ..bound(SocketKind::Stream, true, None, false) }
}

fn step(path: &str, kind: Kind, mode: u32, immutable: bool) -> Step {
    Step {
        path: marked(path),
        name: marked("%"),
        trailing: true,
        kind,
        mode,
        uid: 5,
        gid: 5,
        dev: 1,
        inode: 1,
        ctime: (0, 0),
        acl: AclFact::Absent,
        immutable: Some(immutable),
        mount: None,
    }
}

/// Ways that end everywhere a way can end.
fn walks() -> Vec<Walk> {
    let dir = |mode| step("/srv/%", Kind::Directory, mode, false);
    let link = || step("/srv/%/l", Kind::Symlink { target: marked("/%/t") }, 0o777, false);
    let socket = |mode, fixed| step("/srv/%/a.sock", Kind::Socket, mode, fixed);
    let theirs = |step: Step| Step { uid: 6, ..step };
    let entries =
        [(AclTag::Owner, 7), (AclTag::User(1000), 0), (AclTag::Mask, 7), (AclTag::Other, 7)];
    let entries = entries.map(|(tag, bits)| AclEntry { tag, bits }).to_vec();
    let denied = |step: Step| Step { acl: AclFact::Present(Acl { entries }), ..step };
    let file = || step("/srv/%/a.sock", Kind::Regular, 0o777, false);
    let missing = |last| End::Missing { name: marked("%"), last };
    [
        (vec![dir(0o755), socket(0o777, false)], End::Found),
        (vec![dir(0o700), socket(0o700, false)], End::Found),
        (vec![dir(0o755), socket(0o700, false)], End::Found),
        (vec![dir(0o755), socket(0o777, true)], End::Found),
        (vec![dir(0o1777), theirs(link()), socket(0o777, false)], End::Found),
        (vec![dir(0o755), denied(socket(0o777, false))], End::Found),
        (vec![dir(0o755), file()], End::Found),
        (vec![dir(0o755), file()], End::NotADirectory),
        (vec![dir(0o755)], missing(true)),
        (vec![dir(0o755)], missing(false)),
        (vec![dir(0o755), link()], End::TooManyLinks),
    ]
    .map(|(steps, end)| Walk { steps, end })
    .into()
}

fn sockets() -> Vec<UnixSockets> {
    use SocketKind::{Dgram, Stream};
    let seen = |unreadable, there, namesakes| UnixSockets {
        there,
        namesakes,
        complete: true,
        comparable: true,
        unreadable,
    };
    let with = |there, namesakes| seen(1, there, namesakes);
    vec![
        with(vec![], vec![]),
        seen(0, vec![], vec![]),
        with(vec![bound(Stream, true, None, true)], vec![]),
        with(vec![bound(Stream, true, None, false)], vec![]),
        with(vec![of_systemd()], vec![]),
        with(vec![bound(Stream, false, None, false)], vec![]),
        with(vec![bound(Stream, false, None, true)], vec![]),
        with(vec![bound(Dgram, false, None, false)], vec![]),
        with(vec![], vec![bound(Stream, true, Some(false), true)]),
        with(vec![], vec![bound(Stream, true, Some(true), false)]),
    ]
}

fn unix_cases() -> Vec<Case> {
    let names = ["/srv/%/a.sock", "%/a.sock", "\0%"].map(marked);
    let mut cases = Vec::new();
    for (name, walk) in names.iter().flat_map(|name| walks().into_iter().map(move |it| (name, it)))
    {
        for unix in sockets() {
            let mut case = Case::new(Question::Unix(name.clone()), None);
            case.path = Some(Path {
                walk: walk.clone(),
                as_client: true,
                settled: unix.unreadable == 0,
                changed: Some(marked("/srv/%")),
                protected_symlinks: Some(true),
                bases: Bases { root: Some(Vec::new()), cwd: Some(marked("/home/%")) },
            });
            case.unix = Some(unix);
            cases.push(case);
        }
    }
    cases
}

fn listening(address: &str, namespace: u64) -> TcpListening {
    TcpListening {
        address: address.parse().expect("an address"),
        v6only: Some(true),
        interface: None,
        net_namespace: Some(namespace),
        inode: 3,
        queue: Some((9, 8)),
        accepted: Some(0),
        drops: Some(4),
        holders: Some(vec![holder(true)]),
    }
}

fn tcp_cases() -> Vec<Case> {
    let [one, two] = [format!("{V4}7:4711"), format!("{V4}8:4711")];
    let [six, seven] = [format!("[{V6}:7]:4711"), format!("[{V6}:8]:4711")];
    let gateway = Some(format!("{V4}1").parse().expect("an address"));
    let routes =
        [RouteFact::Via { interface: marked("%0"), gateway }, RouteFact::None, RouteFact::Rejected];
    let mut cases = Vec::new();
    for (target, other) in [(&one, &two), (&six, &seven)] {
        for (route, address, address_of) in routes.iter().flat_map(|route| {
            let addresses = [
                (AddressFact::Local, vec![]),
                (AddressFact::Foreign, vec![]),
                (AddressFact::Foreign, vec![2]),
            ];
            addresses.map(|(address, of)| (route, address, of))
        }) {
            for (at, namespace) in [(target, 1), (target, 2), (other, 1), (other, 2)] {
                let question = Question::Tcp(target.parse().expect("an address"));
                let mut case = Case::new(question, None);
                let mut tcp = Tcp {
                    listening: vec![listening(at, namespace)],
                    looked_into: vec![1, 2],
                    address: Some(address),
                    address_of: address_of.clone(),
                    route: Some(route.clone()),
                    ports: Some(Ports { used: 60_000, time_wait: 9 }),
                    settings: Some(settings()),
                    other_ports: vec![80],
                    ..Tcp::default()
                };
                case.tcp = Some(tcp.clone());
                cases.push(case.clone());
                tcp.listening.clear();
                case.tcp = Some(tcp);
                cases.push(case);
            }
        }
    }
    cases
}

fn settings() -> NetworkSettings {
    let local_ports = Some(PortRange { first: 32_768, last: 60_999 });
    let reserved_ports = Some(Vec::new());
    NetworkSettings { local_ports, reserved_ports, ..NetworkSettings::default() }
}

fn accounts() -> socktrace::host::Accounts {
    let root = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(root.path().join("etc")).expect("a directory");
    let files =
        [("passwd", "%u:x:1000:1000::/:/bin/sh\n%v:x:5:5::/:/bin/sh\n"), ("group", "%g:x:5:\n")];
    for (name, text) in files {
        std::fs::write(root.path().join("etc").join(name), marked(text)).expect("a file");
    }
    Host::at(root.path()).read_accounts().expect("accounts")
}

fn socket_unit() -> SocketUnit {
    SocketUnit {
        name: marked("%.socket"),
        masked: false,
        listens: Vec::new(),
        other_listens: 0,
        symlinks: Vec::new(),
        mode: 0o600,
        user: None,
        group: None,
        directory_mode: 0o755,
        accept: false,
        service: marked("%.service"),
        backlog: None,
        ipv6_only: BindIpv6Only::Default,
        remove_on_stop: false,
    }
}

/// What every rule says of marked facts, by rule.
fn findings() -> Vec<Finding> {
    let mut cases = [unix_cases(), tcp_cases(), vec![Case::new(Question::Accept, None)]].concat();
    let accounts = accounts();
    for case in &mut cases {
        case.accounts = accounts.clone();
        case.client.pid = Some(7);
        case.client.comm = Some(marked("%c"));
        case.client.kind = Some(SocketKind::Stream);
        case.client.net_namespace = Some(1);
        case.client.mount_namespace = Some(1);
        case.client.address_len = Some(200);
        case.client.rights = Some(Client {
            fsuid: 1000,
            fsgid: 1000,
            groups: Some(vec![1000]),
            cap_effective: Some(0),
            id_maps: None,
        });
        case.units = Some(Units {
            socket: Some((socket_unit(), UnitState::NotRunning)),
            maker: Some((marked("%.service"), UnitState::NotRunning)),
            runtime_directories: vec![(marked("/run/%"), marked("%.service"))],
        });
        case.security = Some(Security {
            modules: Some(vec![b"apparmor".to_vec(), b"selinux".to_vec()]),
            selinux_enforces: Some(true),
            has_programs: None,
            label: Some(marked("%_t")),
            apparmor: Some(AppArmorMode::Enforce),
        });
        case.descriptors = Some(Descriptors {
            open: Some(8),
            limits: Some(NofileLimits { soft: 8, hard: 9 }),
            host: Some((9, 9)),
            ..Descriptors::default()
        });
    }
    let mut errnos: BTreeSet<i32> =
        RULES.iter().flat_map(|it| it.errnos).map(|it| *it as i32).collect();
    errnos.insert(Errno::ENOMEM as i32);
    let with = |case: &Case, errno| Case { errno, ..case.clone() };
    let all = errnos.iter().map(|errno| Some(Errno::from_raw(*errno))).chain([None]);
    let all: Vec<_> = all.collect();
    let each = cases.iter().flat_map(|case| all.iter().map(|errno| diagnose(&with(case, *errno))));
    each.flatten().collect::<BTreeSet<Finding>>().into_iter().collect()
}

#[test]
fn no_rule_puts_a_name_or_an_address_where_it_would_stay() {
    let mut redactor = Redactor::new([3; 16]);
    let found = findings();
    let rules: BTreeSet<String> = found.iter().map(|it| it.rule.to_string()).collect();
    let silent: Vec<&str> =
        RULES.iter().map(|rule| rule.name).filter(|name| !rules.contains(*name)).collect();
    assert_eq!(silent, [""; 0], "rules that no case is about");
    let marks = [
        MARK.to_owned(),
        format!("{:?}", MARK.as_bytes()).replace(['[', ']'], ""),
        V4.into(),
        V6.into(),
    ];
    let mut marked = 0;
    for finding in found {
        let before = format!("{finding:?}");
        marked += usize::from(marks.iter().any(|mark| before.contains(mark)));
        let of = Incident::AcceptError { task: TaskKey::NONE, listener: 0, errno: 24 };
        let diagnosis = Diagnosis { time_ns: 0, of, listener: None, findings: vec![finding] };
        let after = format!("{:?}", redactor.record(Record::Diagnosis(Box::new(diagnosis))));
        for mark in &marks {
            assert!(!after.contains(mark), "{mark} is left\nof {before}\nin {after}");
        }
    }
    assert!(marked > 100, "only {marked} findings had a mark");
}
