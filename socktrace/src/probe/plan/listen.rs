//! `listen`: calls of `listen()`.

use socktrace_common::Tier;

use super::{
    Program, Requirement, TierPlan, fexit, kprobe, needed, or_lose_where_there,
    shared::{
        CALLS_ABANDONED, SYS_ENTER_LISTEN, SYS_ENTER_LISTEN_TWIN, SYS_EXIT_LISTEN,
        SYS_EXIT_LISTEN_TWIN, SYSCALLS_ONLY,
    },
};

const BY_IO_URING: &str = "listen calls through io_uring";
const LISTEN: Program =
    fexit("listen_fexit", &["__sys_listen"]).requires(&[Requirement::Parameters(2)]);
const LISTEN_IO: Program = fexit("listen_io_fexit", &["io_listen"])
    .requires(&[Requirement::Parameters(2), Requirement::ListenRequest])
    .not_tried();

pub(super) const TIERS: [TierPlan; 3] = [
    TierPlan {
        tier: Tier::Fentry,
        slots: &[
            needed(&[LISTEN]).alone_sees("ends of listen calls"),
            or_lose_where_there(&[LISTEN_IO], BY_IO_URING).alone_sees(BY_IO_URING),
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
