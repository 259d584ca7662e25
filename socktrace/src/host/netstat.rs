//! The kernel's own totals and limits for accept queues, and of want of memory, per network namespace.
//!
//! Owns `TcpExt` of `/proc/PID/net/netstat` and `net.core.somaxconn`. Does not own rates or
//! comparisons: these are monotonic totals since the namespace was made.

use std::path::PathBuf;

use super::error::{Malformed, read_with};
use super::{Host, HostError, decimal, words};

/// What the kernel counted against accept and SYN queues, and of want of memory. `None` where this kernel does not have
/// the counter, which is not zero.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TcpExt {
    /// `LINUX_MIB_LISTENOVERFLOWS`: the accept queue was full.
    pub listen_overflows: Option<u64>,
    /// `LINUX_MIB_LISTENDROPS`: a SYN or final ACK to a listener was dropped, for any reason,
    /// overflows included.
    pub listen_drops: Option<u64>,
    /// `LINUX_MIB_TCPREQQFULLDROP`: the SYN queue was full and no cookie was sent.
    pub req_q_full_drop: Option<u64>,
    /// `LINUX_MIB_TCPREQQFULLDOCOOKIES`: the SYN queue was full and a cookie was sent.
    pub req_q_full_do_cookies: Option<u64>,
    /// `LINUX_MIB_PFMEMALLOCDROP`: a packet that lay in the host's last reserves of memory was discarded.
    pub pf_memalloc_drop: Option<u64>,
    /// `LINUX_MIB_TCPMEMORYPRESSURES`: TCP came above the pressure mark of `net.ipv4.tcp_mem`.
    pub memory_pressures: Option<u64>,
    /// `LINUX_MIB_TCPABORTONMEMORY`: a connection was aborted for want of memory.
    pub abort_on_memory: Option<u64>,
}

impl TcpExt {
    /// Each of them.
    pub const fn all(&self) -> [Option<u64>; 7] {
        [
            self.listen_overflows,
            self.listen_drops,
            self.req_q_full_drop,
            self.req_q_full_do_cookies,
            self.pf_memalloc_drop,
            self.memory_pressures,
            self.abort_on_memory,
        ]
    }
}

impl Host {
    /// The totals of the network namespace of `pid`, or of the calling thread.
    pub fn read_tcp_ext(&self, pid: Option<u32>) -> Result<TcpExt, HostError> {
        let path = match pid {
            Some(pid) => self.proc_path(pid, "net/netstat"),
            None => self.below("proc/thread-self/net/netstat"),
        };
        read_with(&path, |bytes| Ok(parse_tcp_ext(bytes)))
    }

    /// `net.core.somaxconn` of the calling thread's network namespace: listen(2) silently caps its
    /// backlog to it (`__sys_listen_socket()`).
    pub fn read_somaxconn(&self) -> Result<u32, HostError> {
        read_with(&self.somaxconn_path(), parse_somaxconn)
    }

    /// Which namespace's limit it shows is settled when it is opened.
    pub(super) fn somaxconn_path(&self) -> PathBuf {
        self.below("proc/sys/net/core/somaxconn")
    }
}

/// Pairs of lines with one prefix: names, then values (`netstat_seq_show()`).
fn parse_tcp_ext(bytes: &[u8]) -> TcpExt {
    let mut lines =
        bytes.split(|&byte| byte == b'\n').filter_map(|line| line.strip_prefix(b"TcpExt:"));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let value_of = |wanted: &[u8]| {
        let (_, value) = words(names).zip(words(values)).find(|(name, _)| *name == wanted)?;
        decimal(value)
    };
    TcpExt {
        listen_overflows: value_of(b"ListenOverflows"),
        listen_drops: value_of(b"ListenDrops"),
        req_q_full_drop: value_of(b"TCPReqQFullDrop"),
        req_q_full_do_cookies: value_of(b"TCPReqQFullDoCookies"),
        pf_memalloc_drop: value_of(b"PFMemallocDrop"),
        memory_pressures: value_of(b"TCPMemoryPressures"),
        abort_on_memory: value_of(b"TCPAbortOnMemory"),
    }
}

pub(super) fn parse_somaxconn(bytes: &[u8]) -> Result<u32, Malformed> {
    decimal(bytes.trim_ascii())
        .and_then(|value| value.try_into().ok())
        .ok_or(Malformed { line: 1, expected: "a 32-bit number" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name_in_any_order() {
        let netstat = b"IpExt: ListenDrops\nIpExt: 99\n\
            TcpExt: SyncookiesSent ListenDrops TCPReqQFullDrop ListenOverflows TCPAbortOnMemory \
            PFMemallocDrop\nTcpExt: 1 22 3 11 4 5\n";
        let expected = TcpExt {
            listen_overflows: Some(11),
            listen_drops: Some(22),
            req_q_full_drop: Some(3),
            req_q_full_do_cookies: None,
            pf_memalloc_drop: Some(5),
            memory_pressures: None,
            abort_on_memory: Some(4),
        };
        assert_eq!(parse_tcp_ext(netstat), expected);
    }

    #[test]
    fn a_missing_or_cut_table_is_unknown_not_zero() {
        assert_eq!(parse_tcp_ext(b""), TcpExt::default());
        assert_eq!(parse_tcp_ext(b"TcpExt: ListenDrops\n"), TcpExt::default());
        let cut = parse_tcp_ext(b"TcpExt: ListenDrops ListenOverflows\nTcpExt: 5\n");
        assert_eq!(cut, TcpExt { listen_drops: Some(5), ..TcpExt::default() });
        assert_eq!(parse_tcp_ext(b"TcpExt: ListenDrops\nTcpExt: -1\n"), TcpExt::default());
    }

    #[test]
    fn somaxconn_is_one_number() {
        assert_eq!(parse_somaxconn(b"4096\n"), Ok(4096));
        assert!(parse_somaxconn(b"\n").is_err());
        assert!(parse_somaxconn(b"-1\n").is_err());
    }

    #[test]
    fn this_kernel_has_every_counter() {
        let host = Host::default();
        let own = host.read_tcp_ext(None).expect("netstat");
        assert!(own.all().iter().all(Option::is_some), "{own:?}");
        assert!(host.read_tcp_ext(Some(std::process::id())).is_ok());
        assert!(host.read_somaxconn().expect("somaxconn") > 0);
    }
}
