//! `listen`: calls of `listen()`.

use socktrace_common::Tier;

use super::{
    Requirement, TierPlan, fexit, kprobe, needed,
    shared::{
        CALLS_ABANDONED, SYS_ENTER_LISTEN, SYS_ENTER_LISTEN_TWIN, SYS_EXIT_LISTEN,
        SYS_EXIT_LISTEN_TWIN, SYSCALLS_ONLY,
    },
    where_there_is,
};

pub(super) const TIERS: [TierPlan; 3] =
    [
        TierPlan {
            tier: Tier::Fentry,
            slots: &[
                needed(&[fexit("listen_fexit", &["__sys_listen"])
                    .requires(&[Requirement::Parameters(2)])])
                .alone_sees("ends of listen calls"),
                where_there_is(&[fexit("listen_io_fexit", &["io_listen"])
                    .requires(&[Requirement::Parameters(2)])])
                .alone_sees("listen calls through io_uring"),
            ],
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
