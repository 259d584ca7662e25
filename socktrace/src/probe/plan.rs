//! The probe plan: which programs serve which signal in which tier, what they need, and what the
//! tier cannot see. A table; `select.rs` decides by it and `docs/probes.md` explains it.
//!
//! A tier is a list of slots in the order in which they attach: ends of waits before their
//! starts, so that a start always finds its end hook in place.

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
    /// Kretprobe; only on functions that do not block.
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
}

/// What it means if no program of a slot can attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// The tier is no use.
    Refuse,
    /// The tier works, but does not see this.
    Lose(&'static str),
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
    (Signal::Accept, ACCEPT),
    (Signal::AcceptError, ACCEPT_ERROR),
    (Signal::ConnectFailure, CONNECT_FAILURE),
    (Signal::BacklogDrop, BACKLOG_DROP),
    (Signal::Listen, LISTEN),
    (Signal::ConnectBlocked, CONNECT_BLOCKED),
];

/// What `record -- CMD` attaches besides.
pub const FOLLOW: [Program; 2] =
    [raw("follow_free", &["sched_process_free"]), raw("follow_fork", &["sched_process_fork"])];

const fn program(name: &'static str, kind: Kind, targets: &'static [&'static str]) -> Program {
    Program { name, kind, targets, requires: &[] }
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
}

const fn needed(any_of: &'static [Program]) -> Slot {
    Slot { any_of, without: Without::Refuse, alone: None, only: Only::Everywhere }
}
const fn or_lose(any_of: &'static [Program], lost: &'static str) -> Slot {
    Slot { any_of, without: Without::Lose(lost), alone: None, only: Only::Everywhere }
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

// --- hooks that several signals share ----------------------------------------------------------

const PREEMPTED: &str = "what happens to a TCP socket while the same hook is preempted";
const STATES: &str = "state changes of TCP sockets";
const SOCK_STATE: Slot = needed(&[raw("sock_state", &["inet_sock_set_state"])]).alone_sees(STATES);
const SOCK_STATE_TWIN: Slot =
    needed(&[raw("sock_state_twin", &["inet_sock_set_state"])]).alone_sees(STATES);
const SOCK_STATE_PERF: Slot =
    or_lose(&[tracepoint("sock_state_perf", &["sock:inet_sock_set_state"])], PREEMPTED)
        .alone_sees(STATES)
        .only(Only::TracepointsPreempted);
const SOCK_DESTROY: Slot = needed(&[raw("sock_destroy", &["tcp_destroy_sock"])]);
const SOCK_DESTROY_TWIN: Slot = needed(&[raw("sock_destroy_twin", &["tcp_destroy_sock"])]);
const SOCK_DESTROY_PERF: Slot =
    or_lose(&[tracepoint("sock_destroy_perf", &["tcp:tcp_destroy_sock"])], PREEMPTED)
        .only(Only::TracepointsPreempted);
const SYS_ENTER_ACCEPT: Slot = needed(&[tracepoint(
    "sys_enter_accept",
    &["syscalls:sys_enter_accept", "syscalls:sys_enter_accept4"],
)])
.alone_sees("starts of accept calls");
const SYS_ENTER_ACCEPT_TWIN: Slot = needed(&[tracepoint(
    "sys_enter_accept_twin",
    &["syscalls:sys_enter_accept", "syscalls:sys_enter_accept4"],
)])
.alone_sees("starts of accept calls")
.only(Only::TracepointsPreempted);
const SYS_EXIT_ACCEPT: Slot = needed(&[tracepoint(
    "sys_exit_accept",
    &["syscalls:sys_exit_accept", "syscalls:sys_exit_accept4"],
)])
.alone_sees("ends of accept calls");
const SYS_EXIT_ACCEPT_TWIN: Slot = needed(&[tracepoint(
    "sys_exit_accept_twin",
    &["syscalls:sys_exit_accept", "syscalls:sys_exit_accept4"],
)])
.alone_sees("ends of accept calls")
.only(Only::TracepointsPreempted);
const SYS_ENTER_CONNECT: Slot =
    needed(&[tracepoint("sys_enter_connect", &["syscalls:sys_enter_connect"])])
        .alone_sees("starts of connect calls");
const SYS_ENTER_CONNECT_TWIN: Slot =
    needed(&[tracepoint("sys_enter_connect_twin", &["syscalls:sys_enter_connect"])])
        .alone_sees("starts of connect calls")
        .only(Only::TracepointsPreempted);
const SYS_EXIT_CONNECT: Slot =
    needed(&[tracepoint("sys_exit_connect", &["syscalls:sys_exit_connect"])])
        .alone_sees("ends of connect calls");
const SYS_EXIT_CONNECT_TWIN: Slot =
    needed(&[tracepoint("sys_exit_connect_twin", &["syscalls:sys_exit_connect"])])
        .alone_sees("ends of connect calls")
        .only(Only::TracepointsPreempted);
const SYS_ENTER_LISTEN: Slot =
    needed(&[tracepoint("sys_enter_listen", &["syscalls:sys_enter_listen"])])
        .alone_sees("starts of listen calls");
const SYS_ENTER_LISTEN_TWIN: Slot =
    needed(&[tracepoint("sys_enter_listen_twin", &["syscalls:sys_enter_listen"])])
        .alone_sees("starts of listen calls")
        .only(Only::TracepointsPreempted);
const SYS_EXIT_LISTEN: Slot =
    needed(&[tracepoint("sys_exit_listen", &["syscalls:sys_exit_listen"])])
        .alone_sees("ends of listen calls");
const SYS_EXIT_LISTEN_TWIN: Slot =
    needed(&[tracepoint("sys_exit_listen_twin", &["syscalls:sys_exit_listen"])])
        .alone_sees("ends of listen calls")
        .only(Only::TracepointsPreempted);

const CALLS_ABANDONED: Slot = needed(&[raw("calls_abandoned", &["sched_process_exit"])]);

const SYSCALLS_ONLY: &str = "calls through io_uring, and those of 32-bit programs";

// --- accept ------------------------------------------------------------------------------------

const TCP_ACCEPTS: &str = "accepted TCP connections";
const UNIX_ACCEPTS: &str = "accepted Unix connections";
const NO_ACCEPT_TWIN: &str = "an accept that preempts another one inside the hook";
const GRAFT_TWIN: Program = kprobe("accept_graft_kprobe_twin", &["security_sock_graft"]);

const ACCEPT: [TierPlan; 3] = [
    TierPlan {
        tier: Tier::Fentry,
        slots: &[
            needed(&[
                fexit("accept_tcp_fexit_2", &["inet_csk_accept"])
                    .requires(&[Requirement::Parameters(2)]),
                fexit("accept_tcp_fexit_4", &["inet_csk_accept"])
                    .requires(&[Requirement::Parameters(4)]),
            ])
            .alone_sees(TCP_ACCEPTS),
            needed(&[
                fexit("accept_unix_fexit_3", &["unix_accept"])
                    .requires(&[Requirement::Parameters(3)]),
                fexit("accept_unix_fexit_4", &["unix_accept"])
                    .requires(&[Requirement::Parameters(4)]),
            ])
            .alone_sees(UNIX_ACCEPTS),
            or_lose(
                &[
                    GRAFT_TWIN,
                    fexit("accept_tcp_fexit_2_twin", &["inet_csk_accept"])
                        .requires(&[Requirement::Parameters(2)]),
                    fexit("accept_tcp_fexit_4_twin", &["inet_csk_accept"])
                        .requires(&[Requirement::Parameters(4)]),
                ],
                NO_ACCEPT_TWIN,
            )
            .alone_sees(TCP_ACCEPTS)
            .only(Only::Preempted),
            or_lose(
                &[
                    GRAFT_TWIN,
                    fexit("accept_unix_fexit_3_twin", &["unix_accept"])
                        .requires(&[Requirement::Parameters(3)]),
                    fexit("accept_unix_fexit_4_twin", &["unix_accept"])
                        .requires(&[Requirement::Parameters(4)]),
                ],
                NO_ACCEPT_TWIN,
            )
            .alone_sees(UNIX_ACCEPTS)
            .only(Only::Preempted),
            SOCK_DESTROY.only(Only::Preempted),
            SOCK_DESTROY_TWIN.only(Only::Preempted),
            SOCK_DESTROY_PERF,
            needed(&[fentry("accept_child_forget_fentry", &["inet_child_forget"])])
                .only(Only::NotPreempted),
            needed(&[fentry("accept_unix_release_fentry", &["unix_release_sock"])]),
            needed(&[fexit("accept_unix_start_fexit", &["security_unix_stream_connect"])]),
            needed(&[fentry("accept_queue_add_fentry", &["inet_csk_reqsk_queue_add"])]),
            needed(&[fentry("accept_hashdance_fentry", &["inet_csk_complete_hashdance"])]),
        ],
        loses: &[],
    },
    TierPlan {
        tier: Tier::Kprobe,
        slots: &[
            CALLS_ABANDONED,
            needed(&[kprobe("accept_graft_kprobe", &["security_sock_graft"])])
                .alone_sees("accepted connections"),
            SYS_EXIT_ACCEPT,
            SYS_EXIT_ACCEPT_TWIN,
            CALLED,
            SOCK_DESTROY,
            SOCK_DESTROY_TWIN,
            SOCK_DESTROY_PERF,
            needed(&[kprobe("accept_unix_release_kprobe", &["unix_release_sock"])]),
            needed(&[kprobe("accept_unix_start_kprobe", &["security_unix_stream_connect"])]),
            needed(&[kprobe("accept_queue_add_kprobe", &["inet_csk_reqsk_queue_add"])]),
            needed(&[kprobe("accept_hashdance_kprobe", &["inet_csk_complete_hashdance"])]),
            SOCK_STATE,
            SOCK_STATE_TWIN,
            SOCK_STATE_PERF,
        ],
        loses: &["the wait of MPTCP connections (they are counted)"],
    },
    TierPlan {
        tier: Tier::Tracepoint,
        slots: &[
            CALLS_ABANDONED,
            SYS_EXIT_ACCEPT,
            SYS_EXIT_ACCEPT_TWIN,
            SYS_ENTER_ACCEPT,
            SYS_ENTER_ACCEPT_TWIN,
            SOCK_DESTROY,
            SOCK_DESTROY_TWIN,
            SOCK_DESTROY_PERF,
            SYS_EXIT_CONNECT,
            SYS_EXIT_CONNECT_TWIN,
            SYS_ENTER_CONNECT,
            SYS_ENTER_CONNECT_TWIN,
            SOCK_STATE,
            SOCK_STATE_TWIN,
            SOCK_STATE_PERF,
        ],
        loses: &[
            SYSCALLS_ONLY,
            "the wait of MPTCP connections (they are counted)",
            "the part of a Unix wait that passes before connect() returns",
            "Unix connections that a closing listener leaves behind",
        ],
    },
];

// --- accept_error ------------------------------------------------------------------------------

/// Which listener a call of `accept()` is about.
const CALLED: Slot = needed(&[kprobe("accept_error_kprobe", &["__sys_accept4"])]);

const ACCEPT_ERROR: [TierPlan; 3] = [
    TierPlan {
        tier: Tier::Fentry,
        slots: &[
            needed(&[fexit("accept_error_fexit", &["__sys_accept4"])
                .requires(&[Requirement::Parameters(4)])])
            .alone_sees("ends of accept calls"),
            or_lose(
                &[fexit("accept_error_io_fexit", &["io_accept"])
                    .requires(&[Requirement::Parameters(2)])],
                "accept errors through io_uring",
            ),
        ],
        loses: &[],
    },
    TierPlan {
        tier: Tier::Kprobe,
        slots: &[CALLS_ABANDONED, SYS_EXIT_ACCEPT, SYS_EXIT_ACCEPT_TWIN, CALLED],
        loses: &[SYSCALLS_ONLY],
    },
    TierPlan {
        tier: Tier::Tracepoint,
        slots: &[
            CALLS_ABANDONED,
            SYS_EXIT_ACCEPT,
            SYS_EXIT_ACCEPT_TWIN,
            SYS_ENTER_ACCEPT,
            SYS_ENTER_ACCEPT_TWIN,
        ],
        loses: &[SYSCALLS_ONLY],
    },
];

// --- connect_failure ---------------------------------------------------------------------------

const CONNECT_RETURNS: Slot =
    needed(&[fexit("connect_failure_fexit", &["__sys_connect_file"])
        .requires(&[Requirement::Parameters(4)])]);
const LATE: &str = "TCP connects that fail after connect() has returned";

const CONNECT_FAILURE: [TierPlan; 3] = [
    TierPlan {
        tier: Tier::Fentry,
        slots: &[
            CONNECT_RETURNS.alone_sees("ends of connect calls"),
            or_lose(
                &[fexit("connect_failure_early_fexit", &["__sys_connect"])
                    .requires(&[Requirement::Parameters(3)])],
                "connects refused for a bad descriptor or address (EBADF, EFAULT, EINVAL)",
            ),
            or_lose(
                &[fexit("connect_failure_kernel_fexit", &["kernel_connect"])
                    .requires(&[Requirement::Parameters(4)])],
                "connects that the kernel makes itself (NFS and its like)",
            )
            .only(Only::NotPreempted),
            needed(&[fentry("connect_failure_destroy_fentry", &["tcp_v4_destroy_sock"])])
                .only(Only::NotPreempted),
            or_lose(
                &[fentry("connect_failure_finish_fentry", &["tcp_finish_connect"])],
                "failures that come after connect() has returned, while 32,768 connections that were made so are open",
            )
            .only(Only::NotPreempted),
            needed(&[fentry("connect_failure_done_fentry", &["tcp_done"])])
                .alone_sees(LATE)
                .only(Only::NotPreempted),
            needed(&[fentry("connect_failure_done_fentry_twin", &["tcp_done"])])
                .alone_sees(LATE)
                .only(Only::NotPreempted),
            or_lose(
                &[fentry("connect_failure_fastopen_fentry", &["tcp_fastopen_cookie_check"])],
                "TCP Fast Open connects that sendto() makes",
            )
            .only(Only::NotPreempted),
            SOCK_DESTROY.only(Only::Preempted),
            SOCK_DESTROY_TWIN.only(Only::Preempted),
            SOCK_DESTROY_PERF,
            SOCK_STATE.only(Only::Preempted),
            SOCK_STATE_TWIN.only(Only::Preempted),
            SOCK_STATE_PERF,
        ],
        loses: &[],
    },
    TierPlan {
        tier: Tier::Kprobe,
        slots: &[
            CALLS_ABANDONED,
            SYS_EXIT_CONNECT,
            SYS_EXIT_CONNECT_TWIN,
            needed(&[kprobe("connect_failure_kprobe", &["__sys_connect_file"])]),
            SYS_ENTER_CONNECT,
            SYS_ENTER_CONNECT_TWIN,
            SOCK_DESTROY,
            SOCK_DESTROY_TWIN,
            SOCK_DESTROY_PERF,
            SOCK_STATE,
            SOCK_STATE_TWIN,
            SOCK_STATE_PERF,
        ],
        loses: &["Unix connects through io_uring, and connects of 32-bit programs"],
    },
    TierPlan {
        tier: Tier::Tracepoint,
        slots: &[
            CALLS_ABANDONED,
            SYS_EXIT_CONNECT,
            SYS_EXIT_CONNECT_TWIN,
            SYS_ENTER_CONNECT,
            SYS_ENTER_CONNECT_TWIN,
            SOCK_DESTROY,
            SOCK_DESTROY_TWIN,
            SOCK_DESTROY_PERF,
            SOCK_STATE,
            SOCK_STATE_TWIN,
            SOCK_STATE_PERF,
        ],
        loses: &["Unix connects through io_uring, and connects of 32-bit programs"],
    },
];

// --- backlog_drop ------------------------------------------------------------------------------

const MIB: &[Requirement] = &[Requirement::PerCpuOffset];

const BACKLOG_DROP: [TierPlan; 3] = [
    TierPlan {
        tier: Tier::Fentry,
        slots: &[
            needed(&[fexit("backlog_drop_syn_fexit", &["tcp_conn_request"]).requires(MIB)]),
            needed(&[fexit("backlog_drop_ack_fexit", &["tcp_check_req"]).requires(MIB)]),
            needed(&[fexit("backlog_drop_cookie_fexit", &["tcp_get_cookie_sock"]).requires(MIB)]),
            needed(&[fentry("backlog_drop_syn_fentry", &["tcp_conn_request"]).requires(MIB)]),
            needed(&[fentry("backlog_drop_ack_fentry", &["tcp_check_req"]).requires(MIB)]),
            needed(&[fentry("backlog_drop_cookie_fentry", &["tcp_get_cookie_sock"]).requires(MIB)]),
            SOCK_DESTROY.only(Only::Preempted),
            SOCK_DESTROY_TWIN.only(Only::Preempted),
            SOCK_DESTROY_PERF,
            SOCK_STATE.only(Only::Preempted),
            SOCK_STATE_TWIN.only(Only::Preempted),
            SOCK_STATE_PERF,
        ],
        loses: &[],
    },
    TierPlan {
        tier: Tier::Kprobe,
        slots: &[
            needed(&[kretprobe("backlog_drop_syn_kretprobe", &["tcp_conn_request"]).requires(MIB)]),
            needed(&[kretprobe("backlog_drop_ack_kretprobe", &["tcp_check_req"]).requires(MIB)]),
            needed(&[
                kretprobe("backlog_drop_cookie_kretprobe", &["tcp_get_cookie_sock"]).requires(MIB)
            ]),
            needed(&[kprobe("backlog_drop_syn_kprobe", &["tcp_conn_request"]).requires(MIB)]),
            needed(&[kprobe("backlog_drop_ack_kprobe", &["tcp_check_req"]).requires(MIB)]),
            needed(&[kprobe("backlog_drop_cookie_kprobe", &["tcp_get_cookie_sock"]).requires(MIB)]),
            SOCK_DESTROY,
            SOCK_DESTROY_TWIN,
            SOCK_DESTROY_PERF,
            SOCK_STATE,
            SOCK_STATE_TWIN,
            SOCK_STATE_PERF,
        ],
        loses: &[
            "the listener of a drop whose softirq interrupts another kprobe on that CPU, where more \
             than one listener can be meant, and in other network namespaces (shown as unattributed)",
        ],
    },
    TierPlan {
        tier: Tier::Tracepoint,
        slots: &[
            or_lose(
                &[raw("backlog_drop_kfree_skb", &["kfree_skb"])
                    .requires(&[Requirement::ReceivingSocket])],
                "which drops hit the last ACK; what a listener drops is an upper bound",
            ),
            SOCK_DESTROY,
            SOCK_DESTROY_TWIN,
            SOCK_DESTROY_PERF,
            SOCK_STATE,
            SOCK_STATE_TWIN,
            SOCK_STATE_PERF,
        ],
        loses: &[
            "which packet and client a dropped SYN was (totals come from the kernel's counters)",
            "network namespaces other than socktrace's own",
            "requests that are answered with a syncookie, which are no drops",
        ],
    },
];

// --- listen ------------------------------------------------------------------------------------

const LISTEN: [TierPlan; 3] = [
    TierPlan {
        tier: Tier::Fentry,
        slots: &[needed(&[
            fexit("listen_fexit", &["__sys_listen"]).requires(&[Requirement::Parameters(2)])
        ])
        .alone_sees("ends of listen calls")],
        loses: &[],
    },
    TierPlan {
        tier: Tier::Kprobe,
        slots: &[
            CALLS_ABANDONED,
            SYS_EXIT_LISTEN,
            SYS_EXIT_LISTEN_TWIN,
            needed(&[kprobe("listen_kprobe", &["__sys_listen"])]),
        ],
        loses: &[SYSCALLS_ONLY],
    },
    TierPlan {
        tier: Tier::Tracepoint,
        slots: &[
            CALLS_ABANDONED,
            SYS_EXIT_LISTEN,
            SYS_EXIT_LISTEN_TWIN,
            SYS_ENTER_LISTEN,
            SYS_ENTER_LISTEN_TWIN,
        ],
        loses: &[SYSCALLS_ONLY],
    },
];

// --- connect_blocked ---------------------------------------------------------------------------

const CONNECT_BLOCKED: [TierPlan; 3] = [
    TierPlan {
        tier: Tier::Fentry,
        slots: &[
            CONNECT_RETURNS.alone_sees("ends of blocked connects"),
            needed(&[fentry("connect_blocked_fentry", &["unix_wait_for_peer"])])
                .alone_sees("blocked connects"),
        ],
        loses: &[],
    },
    TierPlan {
        tier: Tier::Kprobe,
        slots: &[
            CALLS_ABANDONED,
            SYS_EXIT_CONNECT,
            SYS_EXIT_CONNECT_TWIN,
            needed(&[kprobe("connect_blocked_kprobe", &["unix_wait_for_peer"])])
                .alone_sees("blocked connects"),
            needed(&[kprobe("connect_failure_kprobe", &["__sys_connect_file"])]),
            SYS_ENTER_CONNECT,
            SYS_ENTER_CONNECT_TWIN,
        ],
        loses: &[SYSCALLS_ONLY],
    },
    TierPlan {
        tier: Tier::Tracepoint,
        slots: &[
            CALLS_ABANDONED,
            SYS_EXIT_CONNECT,
            SYS_EXIT_CONNECT_TWIN,
            SYS_ENTER_CONNECT,
            SYS_ENTER_CONNECT_TWIN,
        ],
        loses: &[
            SYSCALLS_ONLY,
            "what a Unix connect slept on: one that slept at all is taken for one on a full backlog",
        ],
    },
];

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
