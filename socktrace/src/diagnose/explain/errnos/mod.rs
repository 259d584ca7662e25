//! The errnos of connect(2) and accept(2), as Linux sets them for Unix and TCP sockets.
//!
//! Sources: `net/unix/af_unix.c`, `net/socket.c`, `net/ipv4/{af_inet,tcp,tcp_ipv4,tcp_input,tcp_output,
//! tcp_timer,icmp,inet_hashtables,route,fib_semantics}.c`, `net/ipv6/tcp_ipv6.c`, `fs/namei.c`, `fs/file.c`,
//! and runs on the kernels of `docs/kernels.md`.

mod call;
mod limits;
mod network;
mod target;

use super::{Entry, Place};

const UNIX: &str = "Unix connect";
const TCP: &str = "TCP connect";
const CONNECT: &str = "connect";
const ACCEPT: &str = "accept";

const fn place(of: &'static str, at: &'static str, when: &'static str) -> Place {
    Place { of, at, when }
}

const NO_RULE: &[&str] = &[];
const NO_COMMAND: &[(&str, &str)] = &[];

/// Every errno.
pub(super) fn table() -> impl Iterator<Item = &'static Entry> {
    [target::TABLE, limits::TABLE, network::TABLE, call::TABLE].into_iter().flatten()
}
