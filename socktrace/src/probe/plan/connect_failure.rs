//! `connect_failure`: connects that failed, at once or later.

use socktrace_common::Tier;

use super::{
    Only, Requirement, TierPlan, fentry, fexit, kprobe, needed, or_lose,
    shared::{
        CALLS_ABANDONED, CONNECT_RETURNS, CONNECT_RETURNS_TWIN, SOCK_DESTROY, SOCK_DESTROY_PERF,
        SOCK_DESTROY_TWIN, SOCK_STATE, SOCK_STATE_PERF, SOCK_STATE_TWIN, SYS_ENTER_CONNECT,
        SYS_ENTER_CONNECT_TWIN, SYS_EXIT_CONNECT, SYS_EXIT_CONNECT_TWIN,
    },
};

const BAD_ARGUMENTS: &str =
    "connects refused for a bad descriptor or address (EBADF, EFAULT, EINVAL)";
const BEFORE_SYN: &str = "connects through io_uring and of 32-bit programs, but for those of TCP that fail after their SYN";
const LATE: &str = "TCP connects that fail after connect() has returned";

pub(super) const TIERS: [TierPlan; 3] = [
    TierPlan {
        tier: Tier::Fentry,
        slots: &[
            CALLS_ABANDONED.only(Only::Preempted),
            CONNECT_RETURNS_TWIN.alone_sees("ends of connect calls"),
            CONNECT_RETURNS.alone_sees("ends of connect calls"),
            or_lose(
                &[fexit("connect_failure_early_fexit", &["__sys_connect"])
                    .requires(&[Requirement::Parameters(3)])],
                BAD_ARGUMENTS,
            )
            .alone_sees(BAD_ARGUMENTS),
            or_lose(
                &[fexit("connect_failure_kernel_fexit", &["kernel_connect"])
                    .requires(&[Requirement::Parameters(4)])
                    .not_tried()],
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
                &[fentry("connect_failure_fastopen_fentry", &["tcp_fastopen_cookie_check"]).not_tried()],
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
        loses: &[BEFORE_SYN],
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
        loses: &[BEFORE_SYN],
    },
];
