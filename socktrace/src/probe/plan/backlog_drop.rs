//! `backlog_drop`: connections that a TCP listener threw away.

use socktrace_common::Tier;

use super::{
    Only, Requirement, TierPlan, fentry, fexit, kprobe, kretprobe, needed, or_lose, raw,
    shared::{
        CALLS_ABANDONED, SOCK_DESTROY, SOCK_DESTROY_PERF, SOCK_DESTROY_TWIN, SOCK_STATE,
        SOCK_STATE_PERF, SOCK_STATE_TWIN,
    },
};

const MIB: &[Requirement] = &[Requirement::PerCpuOffset];

pub(super) const TIERS: [TierPlan; 3] = [
    TierPlan {
        tier: Tier::Fentry,
        slots: &[
            CALLS_ABANDONED.only(Only::Preempted),
            needed(&[fexit("backlog_drop_syn_fexit", &["tcp_conn_request"]).requires(MIB)]),
            needed(&[fexit("backlog_drop_ack_fexit", &["tcp_check_req"]).requires(MIB)]),
            needed(&[fexit("backlog_drop_cookie_fexit", &["tcp_get_cookie_sock"])
                .requires(MIB)
                .tried_with_cookies()]),
            needed(&[fentry("backlog_drop_syn_fentry", &["tcp_conn_request"]).requires(MIB)]),
            needed(&[fentry("backlog_drop_ack_fentry", &["tcp_check_req"]).requires(MIB)]),
            needed(&[fentry("backlog_drop_cookie_fentry", &["tcp_get_cookie_sock"])
                .requires(MIB)
                .tried_with_cookies()]),
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
            needed(&[kretprobe("backlog_drop_cookie_kretprobe", &["tcp_get_cookie_sock"])
                .requires(MIB)
                .tried_with_cookies()]),
            needed(&[kprobe("backlog_drop_syn_kprobe", &["tcp_conn_request"]).requires(MIB)]),
            needed(&[kprobe("backlog_drop_ack_kprobe", &["tcp_check_req"]).requires(MIB)]),
            needed(&[kprobe("backlog_drop_cookie_kprobe", &["tcp_get_cookie_sock"])
                .requires(MIB)
                .tried_with_cookies()]),
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
