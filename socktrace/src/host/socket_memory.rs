//! How much memory sockets use, against what the kernel lets them.
//!
//! Owns `/proc/PID/net/sockstat{,6}` and `net.ipv4.{tcp_mem,udp_mem,tcp_max_orphans}`. Does not own
//! the memory of cgroups (`cgroup_memory`). Formats: `sockstat_seq_show()`, `sockstat6_seq_show()`,
//! ip-sysctl.rst.
//!
//! Memory is counted in pages and for the whole host: `mem` is the same in every namespace. The
//! limits are shown in the first network namespace only (`ipv4_table`), to a thread that is in it;
//! to others they are unknown.

use std::path::Path;

use super::bounded::read_bounded;
use super::{Host, HostError, decimal, words};

/// Memory of a protocol, in pages, and its limits.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolMemory {
    /// In use on the whole host.
    pub pages_used: Option<u64>,
    /// Below it there is no pressure.
    pub low: Option<u64>,
    /// Above it buffers are kept small, until use falls below `low`.
    pub pressure: Option<u64>,
    /// Above it allocations fail: packets are dropped, and writes wait.
    pub high: Option<u64>,
}

/// Sockets of a network namespace, and their memory. `None` where the kernel does not tell.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SocketMemory {
    /// TCP sockets over IPv4 that are bound or connected, in the namespace.
    pub tcp_in_use: Option<u64>,
    /// The same over IPv6.
    pub tcp6_in_use: Option<u64>,
    /// TCP sockets that no descriptor leads to any more, on the whole host.
    pub orphans: Option<u64>,
    /// Limit on them: `net.ipv4.tcp_max_orphans`. Past it they are reset.
    pub most_orphans: Option<u64>,
    /// Connections in `TIME_WAIT`, in the namespace.
    pub time_wait: Option<u64>,
    /// Memory of TCP, and `net.ipv4.tcp_mem`.
    pub tcp: ProtocolMemory,
    /// Memory of UDP, and `net.ipv4.udp_mem`.
    pub udp: ProtocolMemory,
}

impl Host {
    /// Sockets of the network namespace of `pid`, or of the calling thread, with the host's memory
    /// for them. The limits are those that the calling thread is shown.
    pub fn read_socket_memory(&self, pid: Option<u32>) -> Result<SocketMemory, HostError> {
        let table = read_bounded(&self.net_path(pid, "sockstat"), 4096)?.bytes;
        // Missing without IPv6.
        let table6 = read_bounded(&self.net_path(pid, "sockstat6"), 4096);
        let tcp = |name: &str| parse_value(&table, b"TCP:", name.as_bytes());
        Ok(SocketMemory {
            tcp_in_use: tcp("inuse"),
            tcp6_in_use: table6.ok().and_then(|read| parse_value(&read.bytes, b"TCP6:", b"inuse")),
            orphans: tcp("orphan"),
            most_orphans: self.read_numbers("tcp_max_orphans").and_then(|[most]| most),
            time_wait: tcp("tw"),
            tcp: self.read_protocol_memory("tcp_mem", tcp("mem")),
            udp: self.read_protocol_memory("udp_mem", parse_value(&table, b"UDP:", b"mem")),
        })
    }

    fn read_protocol_memory(&self, sysctl: &str, pages_used: Option<u64>) -> ProtocolMemory {
        let [low, pressure, high] = self.read_numbers(sysctl).unwrap_or_default();
        ProtocolMemory { pages_used, low, pressure, high }
    }

    fn read_numbers<const N: usize>(&self, sysctl: &str) -> Option<[Option<u64>; N]> {
        let path = self.below(Path::new("proc/sys/net/ipv4").join(sysctl));
        let read = read_bounded(&path, 256).ok()?;
        let mut numbers = words(&read.bytes).map(decimal);
        Some(std::array::from_fn(|_| numbers.next().flatten()))
    }
}

/// `VALUE` of a line `PROTOCOL: NAME VALUE NAME VALUE …`.
fn parse_value(bytes: &[u8], protocol: &[u8], name: &[u8]) -> Option<u64> {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let mut fields = words(lines.find_map(|line| line.strip_prefix(protocol))?);
    while let (Some(found), Some(value)) = (fields.next(), fields.next()) {
        if found == name {
            return decimal(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn values_are_found_by_name_and_missing_ones_are_unknown() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
            fs::write(path, text).expect("a fake file");
        };
        let table = "sockets: used 12\nTCP: inuse 3 orphan 1 tw 2 alloc 4 mem 80\nUDP: inuse 0\n";
        write("proc/7/net/sockstat", table);
        write("proc/7/net/sockstat6", "TCP6: inuse 5\n");
        write("proc/sys/net/ipv4/tcp_mem", "10\t20\t30\n");
        let found = Host::at(root.path()).read_socket_memory(Some(7)).expect("a table");
        let tcp = ProtocolMemory {
            pages_used: Some(80),
            low: Some(10),
            pressure: Some(20),
            high: Some(30),
        };
        let expected = SocketMemory {
            tcp_in_use: Some(3),
            tcp6_in_use: Some(5),
            orphans: Some(1),
            time_wait: Some(2),
            tcp,
            ..SocketMemory::default()
        };
        assert_eq!(found, expected);
        let gone = Host::at(root.path()).read_socket_memory(Some(8));
        assert!(gone.is_err_and(|error| error.is_gone()));
    }

    #[test]
    fn this_hosts_sockets_use_less_than_they_may() {
        let host = Host::default();
        let found = host.read_socket_memory(Some(std::process::id())).expect("a table");
        assert!(found.tcp.pages_used.is_some() && found.udp.pages_used.is_some(), "{found:?}");
        assert!(found.tcp.high.is_none_or(|high| found.tcp.pages_used <= Some(high)));
        let fresh = super::super::in_scratch_namespace(|| host.read_socket_memory(None));
        let fresh = fresh.expect("a namespace, as root").expect("a table");
        assert_eq!((fresh.tcp_in_use, fresh.tcp.high), (Some(0), None));
    }
}
