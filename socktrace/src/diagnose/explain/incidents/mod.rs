//! What happens to connections without an errno of its own, or beside one: queues, drops, stalls, names,
//! and the words that reports print.
//!
//! Sources: `net/ipv4/{tcp_input,tcp_minisocks,tcp_ipv4,inet_connection_sock,inet_hashtables,syncookies}.c`,
//! `include/net/sock.h`, `net/unix/af_unix.c`, `net/socket.c`, `net/core/sock_reuseport.c`, ip-sysctl, and
//! runs on the kernels of `docs/kernels.md`.

mod queues;
mod setups;
mod words;

use super::{Entry, Place};

const fn place(of: &'static str, at: &'static str, when: &'static str) -> Place {
    Place { of, at, when }
}

const NSTAT: (&str, &str) = (
    "nstat -az TcpExtListenOverflows TcpExtListenDrops TcpExtTCPReqQFullDrop TcpExtTCPReqQFullDoCookies",
    "the kernel's own counters, of this network namespace",
);
const SS_TCP: (&str, &str) = ("ss -ltn", "Recv-Q (in the accept queue now) and Send-Q (backlog)");
const SS_UNIX: (&str, &str) =
    ("ss -xl", "Recv-Q (in the queue now) and Send-Q (backlog) of Unix listeners");
const LISTENERS: (&str, &str) = (
    "socktrace listeners",
    "every listener of every network namespace, the fullest first, with owners",
);
const STALLS: (&str, &str) = (
    "socktrace watch --stall 1s",
    "listeners that leave connections waiting, and what their owners do",
);

/// Every incident.
pub(super) fn table() -> impl Iterator<Item = &'static Entry> {
    [queues::TABLE, setups::TABLE, words::TABLE].into_iter().flatten()
}
