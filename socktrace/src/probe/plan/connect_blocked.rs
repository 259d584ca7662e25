//! `connect_blocked`: Unix connects that slept on a full backlog.

use socktrace_common::Tier;

use super::{
    TierPlan, fentry, kprobe, needed,
    shared::{
        CALLS_ABANDONED, CONNECT_RETURNS, CONNECT_RETURNS_TWIN, SYS_ENTER_CONNECT,
        SYS_ENTER_CONNECT_TWIN, SYS_EXIT_CONNECT, SYS_EXIT_CONNECT_TWIN, SYSCALLS_ONLY,
    },
};

pub(super) const TIERS: [TierPlan; 3] = [
    TierPlan {
        tier: Tier::Fentry,
        slots: &[
            CALLS_ABANDONED,
            CONNECT_RETURNS_TWIN.alone_sees("ends of blocked connects"),
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
