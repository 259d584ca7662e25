//! Random sessions of which nothing may be left that was marked.
//!
//! Owns tests only.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    time::SystemTime,
};

use socktrace_common::{
    AcceptErrorKey, AcceptKey, ConnectBlockedKey, ConnectFailureKey, DropKey, DropReason, Signal,
    TaskKey, Tier,
};

use super::Redactor;
use crate::{
    aggregate::{Session, SessionSignal},
    event::{
        Actor, Address, Body, Certainty, Counters, Diagnosis, Endpoint, Event, FailureClass,
        Finding, Hold, Incident, Listener, Owner, Part, Phrase, Record, Severity, Sighting,
        Sightings, SocketKind, Stall, StallChange, Task, Unread, WaitTotals, Waiting, phrase,
    },
};

/// Begins every name; no pseudonym has a capital letter, and hardly any address those three bytes.
const MARK: &str = "Zqw";
/// Begin every address that is used.
const MARK_V4: &str = "198.51.";
const MARK_V6: &str = "2001:db8:";

/// Random numbers and names, and what was given out.
struct Dice {
    state: u64,
    names: HashSet<Vec<u8>>,
}

impl Dice {
    fn number(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % below
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.number(90)).expect("small")
    }

    fn word(&mut self) -> String {
        let hostile = ["", "-", "\u{1b}", " ", "é", "\\", "'"];
        let which = usize::try_from(self.number(7)).expect("small");
        format!("{MARK}{}{}{MARK}", hostile[which], self.number(1 << 20))
    }

    fn name(&mut self) -> Vec<u8> {
        let name = match self.number(8) {
            0 => format!("/run/{}/{}.sock", self.word(), self.word()),
            1 => format!("/{}/{}", self.word(), self.word()),
            2 => format!("\0{}", self.word()),
            3 => format!("{}.service", self.word()),
            4 => format!("/system.slice/{}.service", self.word()),
            5 => format!("/proc/7/root/var/lib/{}", self.word()),
            6 => format!("/srv{}", format!("/{}", self.word()).repeat(9)),
            _ => self.word(),
        };
        let mut name = name.into_bytes();
        name.truncate(108);
        if self.number(9) == 0 {
            name.push(0xff);
            name.truncate(108);
        }
        self.names.insert(name.clone());
        name
    }

    fn ip(&mut self) -> IpAddr {
        let text = if self.number(2) == 0 {
            format!("{MARK_V4}{}.{}", self.number(256), self.number(256))
        } else {
            format!("{MARK_V6}{:x}::{:x}", self.number(1 << 16), self.number(1 << 16))
        };
        text.parse().expect("an address")
    }

    fn address(&mut self) -> Address {
        if self.number(2) == 0 {
            Address::Unix(self.name())
        } else {
            let port = u16::try_from(self.small()).expect("a port");
            Address::Inet(SocketAddr::new(self.ip(), port))
        }
    }

    fn endpoint(&mut self) -> Endpoint {
        Endpoint { address: Some(self.address()), kind: Some(SocketKind::Stream) }
    }

    fn task_key(&mut self) -> TaskKey {
        TaskKey { start_ns: self.number(99), tgid: self.small(), pad: 0 }
    }

    fn task(&mut self) -> Task {
        Task { comm: self.name(), uid: self.small(), gid: self.small(), cgroup: 7 }
    }

    fn owner(&mut self) -> Owner {
        Owner {
            pid: self.small(),
            comm: self.name(),
            uid: Some(self.small()),
            cgroup: Some(self.name()),
        }
    }

    fn phrase(&mut self) -> Phrase {
        let (word, at) = (Part::Word(self.name()), SocketAddr::new(self.ip(), 80));
        let fact = format!(" listens on {at}, and {} asked: ", self.ip());
        phrase![Part::Name(self.name()), fact, word, format!("; host {}.", self.ip())]
    }

    fn finding(&mut self) -> Finding {
        Finding {
            severity: Severity::Error,
            certainty: Certainty::Inferred,
            rule: "rule".into(),
            subject: self.phrase(),
            fact: self.phrase(),
            consequence: self.phrase(),
            fix: self.phrase(),
            evidence: vec![self.phrase(), self.phrase()],
        }
    }

    fn listener(&mut self) -> Listener {
        Listener { local: self.endpoint(), owner: Some(self.task_key()), ..Listener::default() }
    }

    fn body(&mut self) -> Body {
        let (inode, errno) = (self.number(9), self.small());
        let listener = Some(inode);
        match self.number(6) {
            0 => Body::Accept { listener, wait_ns: None, peer: self.endpoint() },
            1 => Body::AcceptError { listener, errno },
            2 => Body::ConnectFailure { errno, target: self.endpoint(), credentials: None },
            3 => {
                let target = self.endpoint();
                Body::ConnectBlocked { listener, target, wait_ns: 1, errno: None }
            }
            4 => {
                let (reason, peer) = (DropReason::Other, self.endpoint());
                Body::BacklogDrop {
                    listener,
                    reason,
                    stage: None,
                    queue: Some(1),
                    limit: Some(1),
                    peer,
                }
            }
            _ => Body::Listen { inode, listener: self.listener() },
        }
    }

    fn event(&mut self) -> Event {
        let actor = Actor { key: self.task_key(), tid: self.small(), task: self.task() };
        Event { time_ns: self.number(99), actor: Some(actor), body: self.body() }
    }

    fn counters(&mut self) -> Counters {
        let mut counters = Counters::default();
        let waits =
            WaitTotals { count: 1, buckets: BTreeMap::from([(3, 1)]), ..WaitTotals::default() };
        for _ in 0..20 {
            let (task, listener) = (self.task_key(), self.number(9));
            let (errno, uid) = (self.small(), self.small());
            let target = (&self.endpoint()).into();
            counters.accepts.insert(AcceptKey { task, listener }, waits.clone());
            counters.accept_errors.insert(AcceptErrorKey { task, listener, errno, pad: 0 }, 1);
            counters.connect_failures.insert(ConnectFailureKey { task, errno, uid, target }, 1);
            counters
                .connect_blocked
                .insert(ConnectBlockedKey { task, listener, target }, waits.clone());
            counters.drops.insert(DropKey { listener, reason: 0, stage: 0 }, 1);
            counters.tasks.insert(task, self.task());
            counters.listeners.insert(listener, self.listener());
        }
        counters
    }

    fn stall(&mut self) -> Stall {
        let client = Waiting {
            pid: Some(self.small()),
            comm: Some(self.name()),
            address: Some(self.ip()),
            count: 1,
        };
        Stall {
            time_ns: 9,
            listener: self.number(9),
            local: self.endpoint(),
            netns: Some(1),
            selected: true,
            change: StallChange::Opened,
            since_ns: 1,
            longest_ns: 0,
            is_lower_bound: false,
            pending: 1,
            pending_peak: 1,
            blocked: 0,
            accepted_ns: None,
            owners: vec![self.owner(), self.owner()],
            seen_in_part: false,
            hold: Some(Hold::Asleep),
            acceptor: Some("asleep in futex (futex_wait_queue), then on CPU".into()),
            clients: vec![client],
        }
    }

    fn incident(&mut self) -> Incident {
        if self.number(2) == 0 {
            return Incident::AcceptError { task: self.task_key(), listener: 1, errno: 24 };
        }
        let target = self.endpoint();
        let class = FailureClass { errno: 13, uid: 0, target, credentials: None, task: None };
        Incident::ConnectFailure(class)
    }

    fn record(&mut self) -> Record {
        let inode = self.number(9);
        match self.number(9) {
            0 => Record::Listener(inode, self.listener()),
            1 => Record::Counters(Box::new(self.counters())),
            2 => Record::Stall(Box::new(self.stall())),
            3 => {
                let findings = vec![self.finding(), self.finding()];
                let of = self.incident();
                Record::Diagnosis(Box::new(Diagnosis { time_ns: 1, of, listener: None, findings }))
            }
            4 => {
                let seen = Sighting { local: self.endpoint(), ..Sighting::default() };
                let changed = HashMap::from([(inode, seen)]);
                Record::Sightings(Sightings { changed, ..Sightings::default() })
            }
            5 => Record::Owners(HashMap::from([(inode, vec![self.owner(), self.owner()])])),
            6 => Record::Cgroups(HashMap::from([(inode, self.name())])),
            7 => Record::Unread(Unread::default()),
            _ => Record::Event(self.event()),
        }
    }

    fn session(&mut self) -> Session {
        let file = format!("cannot read /home/{}: denied", self.number(9));
        Session {
            started: SystemTime::UNIX_EPOCH,
            started_ns: 1,
            host: self.word(),
            kernel: "6.12.0".into(),
            command: vec![self.name(), self.name(), self.name()],
            signals: vec![SessionSignal {
                signal: Signal::Accept,
                tier: Some(Tier::Kprobe),
                loses: vec![format!("what [no /mnt/{MARK} {MARK}/tracing]")],
                refused: vec![(Tier::Fentry, format!("{file} /opt/{MARK}/vmlinux"))],
            }],
            untested: Some(format!("no socket in /tmp/{MARK}1: refused by {}", self.ip())),
            somaxconn: Some(4096),
            netns: Some(1),
        }
    }
}

/// Every way in which a mark could stand in a debug text: as it is, in an array of bytes.
fn assert_no_mark(text: &str) {
    let as_bytes = |mark: &str| {
        let bytes: Vec<String> = mark.bytes().map(|byte| byte.to_string()).collect();
        bytes.join(", ")
    };
    let v6: IpAddr = format!("{MARK_V6}:").parse().expect("an address");
    let IpAddr::V6(v6) = v6 else { unreachable!("an IPv6 address") };
    let v6_bytes: Vec<String> = v6.octets()[..4].iter().map(u8::to_string).collect();
    let marks =
        [MARK, MARK_V4, MARK_V6, "/home/", &as_bytes(MARK), "198, 51,", &v6_bytes.join(", ")];
    for mark in marks {
        // /home stays, what is in it does not.
        let is_left = |at: usize| {
            let (before, after) = (&text[..at], &text[at + mark.len()..]);
            let is_digit = |it: char| it.is_ascii_digit();
            match mark {
                "/home/" => !after.starts_with('x'),
                // Numbers, not the ends of numbers.
                _ if mark.starts_with(is_digit) && mark.contains(", ") => {
                    !before.ends_with(is_digit) && !after.starts_with(is_digit)
                }
                _ => true,
            }
        };
        let found = text.match_indices(mark).find(|(at, _)| is_left(*at));
        if let Some((at, _)) = found {
            let from = text.floor_char_boundary(at.saturating_sub(200));
            let near = &text[from..text.floor_char_boundary(at + 100)];
            assert!(near.is_empty(), "{mark} is left: …{near}");
        }
    }
}

#[test]
fn nothing_that_was_marked_is_left_of_a_random_session() {
    for seed in 1..=40u64 {
        let mut dice = Dice { state: seed << 32 | 0x9e37_79b9, names: HashSet::new() };
        let mut redactor =
            Redactor::new(dice.number(u64::MAX).to_le_bytes().repeat(2).try_into().expect("16"));
        assert_no_mark(&format!("{:?}", redactor.session(dice.session())));
        for _ in 0..60 {
            let record = dice.record();
            assert_no_mark(&format!("{:?}", redactor.record(record)));
        }
    }
}

#[test]
fn what_is_one_stays_one_and_what_are_two_stay_two() {
    let mut dice = Dice { state: 0x9e37_79b9_7f4a_7c15, names: HashSet::new() };
    let mut redactor = Redactor::new([9; 16]);
    let mut addresses: HashMap<Endpoint, Endpoint> = HashMap::new();
    for _ in 0..20_000 {
        let target = dice.endpoint();
        let wire =
            ConnectFailureKey { task: TaskKey::NONE, errno: 1, uid: 0, target: (&target).into() };
        let counters =
            Counters { connect_failures: HashMap::from([(wire, 3)]), ..Counters::default() };
        let Record::Counters(counters) = redactor.record(Record::Counters(Box::new(counters)))
        else {
            unreachable!("a record stays what it is")
        };
        let (key, count) = counters.connect_failures.iter().next().expect("one");
        let body = Body::ConnectFailure { errno: 1, target: target.clone(), credentials: None };
        let event = Record::Event(Event { time_ns: 0, actor: None, body });
        let Record::Event(Event { body: Body::ConnectFailure { target: redacted, .. }, .. }) =
            redactor.record(event)
        else {
            unreachable!("an event stays what it is")
        };
        assert_eq!((&Endpoint::from(&key.target), *count), (&redacted, 3), "of {target:?}");
        let before = addresses.insert(target.clone(), redacted.clone());
        assert!(before.is_none_or(|before| before == redacted), "{target:?}");
    }
    let distinct: HashSet<&Endpoint> = addresses.values().collect();
    assert!(addresses.len() > 10_000 && distinct.len() == addresses.len());
}

#[test]
fn of_a_command_only_the_number_of_arguments_is_told() {
    let mut dice = Dice { state: 5, names: HashSet::new() };
    let mut redactor = Redactor::new([9; 16]);
    let mut redact = |words: &[&str]| {
        let command = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        redactor.session(Session { command, ..dice.session() }).command
    };
    assert_eq!(redact(&[]), [[0u8; 0]; 0]);
    let with = redact(&["/usr/bin/app", "--password", "secret"]);
    assert_eq!(with[1], b"(2 arguments)");
    assert_eq!(redact(&["/usr/bin/app"]), with[..1]);
    assert_eq!(redact(&["/usr/bin/app", "x"])[1], b"(1 argument)");
}
