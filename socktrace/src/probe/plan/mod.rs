//! The probe plan: which programs serve which signal in which tier, what they need, and what the
//! tier cannot see. A table, a file for each signal; `select.rs` decides by it and `docs/probes.md` explains it.
//!
//! A tier is a list of slots in the order in which they attach: ends of waits before their
//! starts, so that a start always finds its end hook in place.

mod accept;
mod accept_error;
mod backlog_drop;
mod connect_blocked;
mod connect_failure;
mod listen;
mod shared;

use socktrace_common::{Signal, Tier};

use crate::kernel::Preemption;

/// How a program attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// BPF trampoline at function entry.
    Fentry,
    /// BPF trampoline at function exit.
    Fexit,
    /// Kprobe at function entry.
    Kprobe,
    /// Kretprobe; only on functions that do not block, or in another hook's stead.
    Kretprobe,
    /// Perf tracepoint, by its id in tracefs.
    Tracepoint,
    /// Raw tracepoint.
    RawTracepoint,
}

/// What a program needs beyond its kind of hook and its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Its target has this many parameters: exit programs find the result behind them.
    Parameters(usize),
    /// The address of `__per_cpu_offset`.
    PerCpuOffset,
    /// `kfree_skb` tells the reason `TCP_LISTEN_OVERFLOW` and the receiving socket, and the
    /// addresses of `tcp_v4_rcv` and `tcp_v6_rcv` are known.
    ReceivingSocket,
    /// Where an io_uring request has its socket, its result and the backlog of a `listen()` is known.
    ListenRequest,
}

/// Whether the self-test makes a program run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Always.
    Made,
    /// Where it may switch syncookies on in its own network namespace.
    WithCookies,
    /// Never: what the program is for takes more than the self-test does.
    NotMade,
}

/// One program of the object and where it attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name in the object.
    pub name: &'static str,
    /// How it attaches.
    pub kind: Kind,
    /// Kernel functions, raw tracepoints, or `category:name` of perf tracepoints.
    pub targets: &'static [&'static str],
    /// What else it needs.
    pub requires: &'static [Requirement],
    /// Whether it runs in the self-test.
    pub trial: Trial,
}

/// What it means if no program of a slot can attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// The tier is no use.
    Refuse,
    /// The tier works, but does not see this.
    Lose(&'static str),
    /// The same where the kernel has the target. Where it has none, it cannot do what there would be to see.
    LoseWhereThere(&'static str),
}

/// One job within a tier: the first of these programs that attaches does it.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// In order of preference.
    pub any_of: &'static [Program],
    /// If none attaches.
    pub without: Without,
    /// What nobody sees where the kernel skips this program and all others that stand for the
    /// same words (twins). `None`: what it misses shows elsewhere in the report.
    pub alone: Option<&'static str>,
    /// Where it is of use: elsewhere it would cost and see nothing more.
    pub only: Only,
}

/// On which kernels a slot is filled, by whom they stop inside a program, and then skip it for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// On all.
    Everywhere,
    /// Where nobody is stopped inside fentry and fexit programs.
    NotPreempted,
    /// Where threads may be.
    Preempted,
    /// Where threads may be stopped inside the hooks of tracepoints, too.
    TracepointsPreempted,
}

impl Only {
    /// Whether a kernel that preempts these is one of them.
    pub fn applies(self, preemption: Preemption) -> bool {
        match self {
            Self::Everywhere => true,
            Self::NotPreempted => preemption == Preemption::Nobody,
            Self::Preempted => preemption >= Preemption::Tracing,
            Self::TracepointsPreempted => preemption >= Preemption::Tracepoints,
        }
    }
}

/// How one tier serves one signal.
#[derive(Clone, Copy, Debug)]
pub struct TierPlan {
    /// The tier.
    pub tier: Tier,
    /// In the order of attaching.
    pub slots: &'static [Slot],
    /// What this tier cannot see on any kernel.
    pub loses: &'static [&'static str],
}

/// Tiers of every signal, best first.
pub const PLAN: [(Signal, [TierPlan; 3]); Signal::COUNT] = [
    (Signal::Accept, accept::TIERS),
    (Signal::AcceptError, accept_error::TIERS),
    (Signal::ConnectFailure, connect_failure::TIERS),
    (Signal::BacklogDrop, backlog_drop::TIERS),
    (Signal::Listen, listen::TIERS),
    (Signal::ConnectBlocked, connect_blocked::TIERS),
];

/// What `record -- CMD` attaches besides.
pub const FOLLOW: [Program; 2] = [
    raw("follow_free", &["sched_process_free"]).not_tried(),
    raw("follow_fork", &["sched_process_fork"]).not_tried(),
];

const fn program(name: &'static str, kind: Kind, targets: &'static [&'static str]) -> Program {
    Program { name, kind, targets, requires: &[], trial: Trial::Made }
}
const fn fentry(name: &'static str, targets: &'static [&'static str]) -> Program {
    program(name, Kind::Fentry, targets)
}
const fn fexit(name: &'static str, targets: &'static [&'static str]) -> Program {
    program(name, Kind::Fexit, targets)
}
const fn kprobe(name: &'static str, targets: &'static [&'static str]) -> Program {
    program(name, Kind::Kprobe, targets)
}
const fn kretprobe(name: &'static str, targets: &'static [&'static str]) -> Program {
    program(name, Kind::Kretprobe, targets)
}
const fn tracepoint(name: &'static str, targets: &'static [&'static str]) -> Program {
    program(name, Kind::Tracepoint, targets)
}
const fn raw(name: &'static str, targets: &'static [&'static str]) -> Program {
    program(name, Kind::RawTracepoint, targets)
}

impl Program {
    const fn requires(mut self, requires: &'static [Requirement]) -> Self {
        self.requires = requires;
        self
    }
    const fn tried_with_cookies(mut self) -> Self {
        self.trial = Trial::WithCookies;
        self
    }
    const fn not_tried(mut self) -> Self {
        self.trial = Trial::NotMade;
        self
    }
}

const fn needed(any_of: &'static [Program]) -> Slot {
    Slot { any_of, without: Without::Refuse, alone: None, only: Only::Everywhere }
}
const fn or_lose(any_of: &'static [Program], lost: &'static str) -> Slot {
    Slot { any_of, without: Without::Lose(lost), alone: None, only: Only::Everywhere }
}

const fn or_lose_where_there(any_of: &'static [Program], lost: &'static str) -> Slot {
    Slot { any_of, without: Without::LoseWhereThere(lost), alone: None, only: Only::Everywhere }
}

impl Slot {
    const fn alone_sees(mut self, what: &'static str) -> Self {
        self.alone = Some(what);
        self
    }
    const fn only(mut self, only: Only) -> Self {
        self.only = only;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs() -> impl Iterator<Item = &'static Program> {
        PLAN.iter()
            .flat_map(|(_, tiers)| tiers.iter())
            .flat_map(|tier| tier.slots.iter())
            .flat_map(|slot| slot.any_of.iter())
            .chain(&FOLLOW)
    }

    #[test]
    fn every_signal_has_its_row_and_its_tiers_best_first() {
        for (number, (signal, tiers)) in PLAN.iter().enumerate() {
            assert_eq!(*signal as usize, number);
            assert_eq!(tiers.map(|plan| plan.tier), Tier::ALL);
        }
    }

    #[test]
    fn a_program_is_described_alike_wherever_it_stands() {
        for one in programs() {
            for other in programs().filter(|other| other.name == one.name) {
                assert_eq!(one, other);
            }
        }
    }

    #[test]
    fn the_object_and_the_plan_have_the_same_programs() {
        let object = aya_object_programs();
        let mut planned: Vec<&str> = programs().map(|program| program.name).collect();
        planned.sort_unstable();
        planned.dedup();
        assert_eq!(object, planned);
    }

    /// Names of the object's programs, from its symbol table by way of aya's parser.
    fn aya_object_programs() -> Vec<String> {
        let object = aya_obj::Object::parse(crate::probe::attach::OBJECT).expect("it parses");
        let mut names: Vec<String> = object.programs.keys().cloned().collect();
        names.sort_unstable();
        names
    }
}
