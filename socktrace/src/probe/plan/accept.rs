//! `accept`: who took a connection out of an accept queue, and how long it lay there.

use socktrace_common::Tier;

use super::{
    Only, Program, Requirement, TierPlan, fentry, fexit, kprobe, needed, or_lose,
    shared::{
        CALLED, CALLS_ABANDONED, SOCK_DESTROY, SOCK_DESTROY_PERF, SOCK_DESTROY_TWIN, SOCK_STATE,
        SOCK_STATE_PERF, SOCK_STATE_TWIN, SYS_ENTER_ACCEPT, SYS_ENTER_ACCEPT_TWIN,
        SYS_ENTER_CONNECT, SYS_ENTER_CONNECT_TWIN, SYS_EXIT_ACCEPT, SYS_EXIT_ACCEPT_TWIN,
        SYS_EXIT_CONNECT, SYS_EXIT_CONNECT_TWIN, SYSCALLS_ONLY,
    },
};

const TCP_ACCEPTS: &str = "accepted TCP connections";
const UNIX_ACCEPTS: &str = "accepted Unix connections";
const NO_ACCEPT_TWIN: &str = "an accept that preempts another one inside the hook";
const GRAFT_TWIN: Program = kprobe("accept_graft_kprobe_twin", &["security_sock_graft"]);

pub(super) const TIERS: [TierPlan; 3] = [
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
            needed(&[fentry("accept_graft_fentry", &["security_sock_graft"])])
                .only(Only::NotPreempted),
            SOCK_DESTROY.only(Only::Preempted),
            SOCK_DESTROY_TWIN.only(Only::Preempted),
            SOCK_DESTROY_PERF,
            needed(&[fentry("accept_child_forget_fentry", &["inet_child_forget"])])
                .only(Only::NotPreempted),
            needed(&[fentry("accept_unix_release_fentry", &["unix_release_sock"])]),
            needed(&[fexit("accept_unix_start_fexit", &["security_unix_stream_connect"])]),
            needed(&[fentry("accept_queue_add_fentry", &["inet_csk_reqsk_queue_add"])
                .tried_with_cookies()]),
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
            needed(&[kprobe("accept_queue_add_kprobe", &["inet_csk_reqsk_queue_add"])
                .tried_with_cookies()]),
            needed(&[kprobe("accept_hashdance_kprobe", &["inet_csk_complete_hashdance"])]),
            SOCK_STATE,
            SOCK_STATE_TWIN,
            SOCK_STATE_PERF,
        ],
        loses: &[],
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
            "the part of a Unix wait that passes before connect() returns",
            "Unix connections that a closing listener leaves behind",
        ],
    },
];
