//! Words of reports that belong to no incident of their own.

use super::{NSTAT, place};
use crate::diagnose::explain::Entry;

pub(super) const TABLE: &[Entry] = &[
    Entry {
        name: "other-drops",
        also: &["other"],
        about: "a TCP listener drops a connection for another reason than a full queue",
        places: &[place(
            "TCP",
            "tcp_conn_request(), net/ipv4/tcp_input.c; tcp_v4_syn_recv_sock(), net/ipv4/tcp_ipv4.c",
            "ListenDrops grows, and neither ListenOverflows nor TCPReqQFullDrop does: there is no memory \
             for the connection, no route back to the client, a security module forbids it, or syncookies \
             are off and less than a quarter of net.ipv4.tcp_max_syn_backlog is left.",
        )],
        sees: "The server sees nothing; the client sends again, and ends in ETIMEDOUT.",
        differs: "Only TCP.",
        rules: &["thrown-away-otherwise"],
        commands: &[
            NSTAT,
            ("ip route get CLIENT", "whether there is a way back"),
            ("nstat -az TcpExtPFMemallocDrop TcpExtTCPMemoryPressures", "memory"),
            ("dmesg", "failed allocations, and what a security module denied"),
        ],
    },
    Entry {
        name: "unknown-drops",
        also: &["unknown"],
        about: "a TCP listener dropped a connection, and the tracer's tier cannot tell why",
        places: &[place(
            "TCP",
            "tcp_listendrop(), include/net/tcp.h",
            "ListenDrops and the listener's own counter (sk_drops) grow. Without hooks in the kernel's \
             functions, socktrace has the counters only.",
        )],
        sees: "The same as of any other drop.",
        differs: "Only TCP.",
        rules: &["thrown-away-otherwise"],
        commands: &[
            ("socktrace check", "which tier backlog_drop has here, and why no better one"),
            NSTAT,
        ],
    },
    Entry {
        name: "discarded",
        also: &[],
        about: "a packet that a TCP listener's sk_drops counts besides the dropped connections",
        places: &[place(
            "TCP",
            "tcp_v4_rcv(), net/ipv4/tcp_ipv4.c: discard_and_relse",
            "sk_drops of a listener counts packets that are discarded as well as dropped connections, so a \
             final ACK that finds the accept queue full counts twice. socktrace subtracts the second one \
             in its tracepoint tier, and no report prints this word.",
        )],
        sees: "Nothing besides the drop itself.",
        differs: "Only TCP.",
        rules: &[],
        commands: &[("ss -ltnm", "sk_drops of each listener, as d in skmem")],
    },
    Entry {
        name: "connect-failure",
        also: &["connect_failure", "unexplained", "errno"],
        about: "a connect() failed: with a rule that explains it, or with what its errno tells alone",
        places: &[place(
            "connect",
            "__sys_connect_file(), net/socket.c",
            "It returned an errno, or (TCP, later) the connection went from SYN-SENT to CLOSE with one. A \
             finding whose rule is called unexplained says that no rule fits, and which facts are \
             missing; one called errno says that the errno has one cause only.",
        )],
        sees: "The errno, from connect(), or from SO_ERROR after poll().",
        differs: "",
        rules: &[],
        commands: &[
            ("socktrace explain ERRNO", "what that errno means"),
            ("socktrace diagnose TARGET", "what a connect to it would meet now"),
        ],
    },
];
