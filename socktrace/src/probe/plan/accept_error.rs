//! `accept_error`: calls of `accept()` that failed.

use socktrace_common::Tier;

use super::{
    Requirement, TierPlan, fexit, needed, or_lose,
    shared::{
        CALLED, CALLS_ABANDONED, SYS_ENTER_ACCEPT, SYS_ENTER_ACCEPT_TWIN, SYS_EXIT_ACCEPT,
        SYS_EXIT_ACCEPT_TWIN, SYSCALLS_ONLY,
    },
};

pub(super) const TIERS: [TierPlan; 3] = [
    TierPlan {
        tier: Tier::Fentry,
        slots: &[
            needed(&[fexit("accept_error_fexit", &["__sys_accept4"])
                .requires(&[Requirement::Parameters(4)])])
            .alone_sees("ends of accept calls"),
            or_lose(
                &[fexit("accept_error_io_fexit", &["io_accept"])
                    .requires(&[Requirement::Parameters(2)])
                    .not_tried()],
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
