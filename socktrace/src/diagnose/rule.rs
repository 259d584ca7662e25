//! Runs the rules over a case and ranks what they find.
//!
//! Owns the form of a rule and what is said when none explains the incident. The rules are in
//! `rules`; `docs/diagnosis.md` is generated from their table.

use nix::errno::Errno;

use super::{
    case::{Case, Question},
    errno::cause,
    rules,
};
use crate::event::{Certainty, Finding, Phrase, Severity, errno_name, name, phrase};

/// One cause that can be told from others, by facts of the kind `C`.
pub struct Rule<C: 'static> {
    /// How findings name it.
    pub name: &'static str,
    /// What it finds, as a clause, for the documentation.
    pub about: &'static str,
    /// The errnos that it may explain; none where it is about a state and not about a failure.
    pub errnos: &'static [Errno],
    /// The step of a checkup that it belongs to.
    pub step: Step,
    /// Where the kernel decides it.
    pub source: &'static str,
    /// Decides.
    pub decide: fn(&C) -> Outcome,
}

/// A rule without its deciding: what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// How findings name it.
    pub name: &'static str,
    /// What it finds.
    pub about: &'static str,
    /// The errnos that it may explain.
    pub errnos: &'static [Errno],
    /// The step of a checkup that it belongs to.
    pub step: Step,
    /// Where the kernel decides it.
    pub source: &'static str,
}

impl<C> Rule<C> {
    /// What it is about.
    pub const fn describe(&self) -> Described {
        Described {
            name: self.name,
            about: self.about,
            errnos: self.errnos,
            step: self.step,
            source: self.source,
        }
    }
}

/// The steps of a checkup, in the order in which an operator takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The way of the path, component by component.
    Path,
    /// Whose address it is, and the way there.
    Route,
    /// The sockets that are bound there.
    Sockets,
    /// Who holds them, and what those processes do.
    Owners,
    /// Queues and backlogs.
    Queue,
    /// Local ports.
    Ports,
    /// Descriptors and their limits.
    Descriptors,
    /// Security modules.
    Security,
    /// The process itself: what it does, what keeps it from that.
    Process,
    /// Listeners that it holds.
    Listeners,
    /// Its Unix sockets and their peers.
    Unix,
    /// Its TCP connections.
    Tcp,
    /// Its UDP sockets.
    Udp,
    /// Its pipes.
    Pipes,
    /// Socket memory, and memory and CPU of its cgroup.
    Memory,
}

impl Step {
    /// As checkups name it, and JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Route => "route",
            Self::Sockets => "sockets",
            Self::Owners => "owners",
            Self::Queue => "queue",
            Self::Ports => "ports",
            Self::Descriptors => "descriptors",
            Self::Security => "security",
            Self::Process => "process",
            Self::Listeners => "listeners",
            Self::Unix => "unix",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Pipes => "pipes",
            Self::Memory => "memory",
        }
    }
}

/// What a rule says of a case.
pub enum Outcome {
    /// It is not that.
    Clear,
    /// It is that, once or of several subjects.
    Found(Vec<Cause>),
    /// It would take this fact to tell.
    Unknown(&'static str),
}

/// A cause as a rule states it.
#[derive(Debug)]
pub struct Cause {
    /// How much harm it does.
    pub severity: Severity,
    /// How sure it is.
    pub certainty: Certainty,
    /// What it is about.
    pub subject: Phrase,
    /// What is so: a clause without its full stop.
    pub fact: Phrase,
    /// What follows: a clause without its full stop.
    pub consequence: Phrase,
    /// What to do: an imperative without its full stop.
    pub fix: Phrase,
    /// What was looked at.
    pub evidence: Vec<Phrase>,
}

impl Outcome {
    /// Found, at once in the form that a rule returns.
    pub fn found(cause: Cause) -> Self {
        Self::Found(vec![cause])
    }

    /// Found for each of these; clear where there is none.
    pub fn each(causes: impl IntoIterator<Item = Cause>) -> Self {
        let causes: Vec<Cause> = causes.into_iter().collect();
        if causes.is_empty() { Self::Clear } else { Self::Found(causes) }
    }
}

/// Every finding about a case, the explanation first; where nothing explains a failure, one that says so.
pub fn diagnose(case: &Case) -> Vec<Finding> {
    let (mut found, missing) = judge(case);
    if let (true, Some(errno)) = (found.is_empty(), case.errno) {
        found.push(unexplained(case, errno, &missing));
    }
    found
}

/// What the rules find, and which facts some of them would have needed, each once.
pub(super) fn judge(case: &Case) -> (Vec<Finding>, Vec<&'static str>) {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for rule in rules::TABLE.iter().filter(|rule| applies(rule, case)) {
        match (rule.decide)(case) {
            Outcome::Clear => {}
            Outcome::Found(told) => found.extend(told.into_iter().map(|it| finding(rule.name, it))),
            Outcome::Unknown(fact) => missing.push(fact),
        }
    }
    missing.sort_unstable();
    missing.dedup();
    (found, missing)
}

/// Whether a rule is about such a case; its name begins with what it is about.
fn applies(rule: &Rule<Case>, case: &Case) -> bool {
    let begins = |with: &[&str]| with.iter().any(|it| rule.name.starts_with(it));
    let is_about = match &case.question {
        Question::Accept => begins(&["accept-", "host-"]),
        Question::Tcp(_) => begins(&["tcp-", "owner-", "security-"]),
        Question::Unix(_) if begins(&["tcp-", "accept-", "host-"]) => false,
        Question::Unix(_) => case.abstract_name().is_none() || rule.step != Step::Path,
    };
    is_about
        && case.errno.is_none_or(|errno| rule.errnos.is_empty() || rule.errnos.contains(&errno))
}

pub(super) fn finding(rule: &'static str, cause: Cause) -> Finding {
    Finding {
        severity: cause.severity,
        certainty: cause.certainty,
        rule: rule.into(),
        subject: cause.subject,
        fact: cause.fact,
        consequence: cause.consequence,
        fix: cause.fix,
        evidence: cause.evidence,
    }
}

/// What the errno alone tells, and what would have to be known to tell more.
fn unexplained(case: &Case, errno: Errno, missing: &[&'static str]) -> Finding {
    let connects = !matches!(case.question, Question::Accept);
    let known = if connects { cause(family(case), errno as u32) } else { None };
    let certainty = known.map_or(Certainty::Unknown, |known| known.certainty);
    let evidence = match (certainty, missing.is_empty()) {
        (Certainty::Measured, _) => Vec::new(),
        (_, true) => vec!["nothing that was read afterwards explains it".into()],
        (_, false) => missing.iter().map(|fact| phrase!["unknown: ", *fact]).collect(),
    };
    Finding {
        severity: Severity::Error,
        certainty,
        rule: if certainty == Certainty::Measured { "errno" } else { "unexplained" }.into(),
        subject: subject(case),
        fact: known.map_or_else(
            || phrase!["the kernel answered ", errno_name(errno as u32)],
            |known| known.cause.into(),
        ),
        consequence: Phrase::default(),
        fix: known.map_or_else(|| manual(case).into(), |known| known.fix.into()),
        evidence,
    }
}

const fn manual(case: &Case) -> &'static str {
    match case.question {
        Question::Accept => "see accept(2)",
        Question::Unix(_) | Question::Tcp(_) => "see connect(2)",
    }
}

/// The family of the target, as [`cause`] takes it.
fn family(case: &Case) -> &'static str {
    match &case.question {
        Question::Unix(_) => "unix",
        Question::Tcp(at) if at.is_ipv6() => "inet6",
        Question::Tcp(_) | Question::Accept => "inet",
    }
}

/// The target, as findings name it.
pub(super) fn subject(case: &Case) -> Phrase {
    match &case.question {
        Question::Unix(path) => name(path),
        Question::Tcp(at) => at.to_string().into(),
        Question::Accept => phrase!["accept() of ", client(case)],
    }
}

/// The client by name and pid.
pub(super) fn client(case: &Case) -> Phrase {
    let comm = case.client.comm.as_deref().map_or_else(|| "the client".into(), name);
    match case.client.pid {
        Some(pid) => phrase![comm, format!(" (pid {pid})")],
        None => comm,
    }
}
