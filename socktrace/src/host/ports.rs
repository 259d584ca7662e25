//! The settings of a network namespace that decide about ports, queues and their overflow.
//!
//! Owns the sysctls below `/proc/sys/net` that a failed connect or a slow listener is explained
//! with. Does not own which ports are taken (`tcp_tables`) nor the memory limits (`pressure`).
//!
//! `/proc/sys/net` shows the namespace of the thread that reads (`net_ctl_header_lookup()`), and no
//! file of `/proc/PID` shows that of another process. So there are two ways: the calling thread's
//! own namespace, and a thread that entered another one, which takes `CAP_SYS_ADMIN`; without it the
//! settings of other namespaces are unknown. Meanings: ip-sysctl.rst, admin-guide/sysctl/net.rst.

use std::path::Path;

use super::bounded::read_bounded;
use super::netns::{EnterError, NetworkNamespace};
use super::{Host, decimal, words};

/// Longest file: every second port reserved takes 190 KiB.
const MOST_BYTES: u64 = 512 << 10;

/// Ports from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last, not below `first`.
    pub last: u16,
}

impl PortRange {
    /// Whether the port is in it.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// Settings of one network namespace; `None` where this kernel does not have one or it could not be
/// read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct NetworkSettings {
    /// `net.ipv4.ip_local_port_range`: ports for connects without a bind, of IPv6 as well.
    pub local_ports: Option<PortRange>,
    /// `net.ipv4.ip_local_reserved_ports`: taken out of them.
    pub reserved_ports: Option<Vec<PortRange>>,
    /// `net.ipv4.ip_unprivileged_port_start`: binding below it takes `CAP_NET_BIND_SERVICE`, or
    /// EACCES.
    pub unprivileged_port_start: Option<u64>,
    /// `net.ipv4.tcp_tw_reuse`: 0 off, 1 on, 2 for loopback: whether a connect may take the port of
    /// a connection in `TIME_WAIT`.
    pub tcp_tw_reuse: Option<u64>,
    /// `net.ipv4.tcp_fin_timeout`, in seconds: how long an orphan stays in `FIN_WAIT2`.
    pub tcp_fin_timeout: Option<u64>,
    /// `net.core.somaxconn`: cap on the backlog of listen(2).
    pub somaxconn: Option<u64>,
    /// `net.ipv4.tcp_max_syn_backlog`: cap on SYNs that wait, without cookies.
    pub tcp_max_syn_backlog: Option<u64>,
    /// `net.ipv4.tcp_syncookies`: 0 off, 1 when the SYN queue is full, 2 always.
    pub tcp_syncookies: Option<u64>,
    /// `net.ipv4.tcp_abort_on_overflow`: 1 answers RST when the accept queue is full, 0 drops.
    pub tcp_abort_on_overflow: Option<u64>,
    /// `net.ipv4.tcp_syn_retries`: how often a connect sends its SYN again before ETIMEDOUT.
    pub tcp_syn_retries: Option<u64>,
    /// `net.ipv6.bindv6only`: whether a listener on `[::]` leaves IPv4 out, unless it says itself.
    pub bindv6only: Option<u64>,
    /// `net.unix.max_dgram_qlen`: datagrams that a Unix socket holds before senders wait.
    pub unix_max_dgram_qlen: Option<u64>,
}

impl NetworkSettings {
    /// How many local ports a connect without a bind can choose from, for one destination; `None`
    /// where the range or the reserved ones are unknown.
    pub fn usable_local_ports(&self) -> Option<usize> {
        let (local, reserved) = (self.local_ports?, self.reserved_ports.as_ref()?);
        let is_free = |port: &u16| !reserved.iter().any(|range| range.contains(*port));
        Some((local.first..=local.last).filter(is_free).count())
    }
}

impl Host {
    /// The settings of the calling thread's network namespace.
    pub fn read_network_settings(&self) -> NetworkSettings {
        let text = |name: &str| {
            let read = read_bounded(&self.below(Path::new("proc/sys/net").join(name)), MOST_BYTES);
            read.ok().filter(|read| !read.cut).map(|read| read.bytes)
        };
        let number = |name: &str| text(name).and_then(|bytes| decimal(bytes.trim_ascii()));
        NetworkSettings {
            local_ports: text("ipv4/ip_local_port_range").and_then(|text| parse_range(&text)),
            reserved_ports: text("ipv4/ip_local_reserved_ports").and_then(|text| parse_list(&text)),
            unprivileged_port_start: number("ipv4/ip_unprivileged_port_start"),
            tcp_tw_reuse: number("ipv4/tcp_tw_reuse"),
            tcp_fin_timeout: number("ipv4/tcp_fin_timeout"),
            somaxconn: number("core/somaxconn"),
            tcp_max_syn_backlog: number("ipv4/tcp_max_syn_backlog"),
            tcp_syncookies: number("ipv4/tcp_syncookies"),
            tcp_abort_on_overflow: number("ipv4/tcp_abort_on_overflow"),
            tcp_syn_retries: number("ipv4/tcp_syn_retries"),
            bindv6only: number("ipv6/bindv6only"),
            unix_max_dgram_qlen: number("unix/max_dgram_qlen"),
        }
    }

    /// `net.ipv4.tcp_syncookies` of the calling thread's network namespace.
    pub fn read_tcp_syncookies(&self) -> Option<u64> {
        let path = self.below("proc/sys/net/ipv4/tcp_syncookies");
        decimal(read_bounded(&path, MOST_BYTES).ok()?.bytes.trim_ascii())
    }

    /// The settings of another network namespace, read by a thread that enters it.
    pub fn read_network_settings_in(
        &self,
        namespace: &NetworkNamespace,
    ) -> Result<NetworkSettings, EnterError> {
        namespace.enter(|| self.read_network_settings())
    }
}

/// Two numbers with a tab between.
fn parse_range(bytes: &[u8]) -> Option<PortRange> {
    let mut ports = words(bytes).map(parse_port);
    range(ports.next()??, ports.next()??)
}

/// `8080,9148-9200`, or nothing (`proc_do_large_bitmap()`).
fn parse_list(bytes: &[u8]) -> Option<Vec<PortRange>> {
    let text = bytes.trim_ascii();
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(|&byte| byte == b',').map(parse_item).collect()
}

fn parse_item(item: &[u8]) -> Option<PortRange> {
    let mut ends = item.splitn(2, |&byte| byte == b'-');
    let first = parse_port(ends.next()?)?;
    range(first, ends.next().map_or(Some(first), parse_port)?)
}

fn parse_port(word: &[u8]) -> Option<u16> {
    decimal(word)?.try_into().ok()
}

fn range(first: u16, last: u16) -> Option<PortRange> {
    (first <= last).then_some(PortRange { first, last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn syncookies_are_one_number() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let host = Host::at(root.path());
        assert_eq!(host.read_tcp_syncookies(), None);
        let directory = root.path().join("proc/sys/net/ipv4");
        fs::create_dir_all(&directory).expect("directories");
        fs::write(directory.join("tcp_syncookies"), "2\n").expect("a file");
        assert_eq!(host.read_tcp_syncookies(), Some(2));
        assert!(Host::default().read_tcp_syncookies().is_some());
    }

    #[test]
    fn every_setting_is_read_and_a_missing_one_is_unknown() {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (name, text) in [
            ("ipv4/ip_local_port_range", "100\t109\n"),
            ("ipv4/ip_local_reserved_ports", "80,103-104,109-200\n"),
            ("ipv4/tcp_tw_reuse", "2\n"),
            ("ipv4/tcp_syncookies", "nonsense\n"),
            ("unix/max_dgram_qlen", "10\n"),
        ] {
            let path = root.path().join("proc/sys/net").join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
            fs::write(path, text).expect("a fake file");
        }
        let settings = Host::at(root.path()).read_network_settings();
        let ranges = [(80, 80), (103, 104), (109, 200)];
        let reserved = ranges.map(|(first, last)| PortRange { first, last }).to_vec();
        let expected = NetworkSettings {
            local_ports: Some(PortRange { first: 100, last: 109 }),
            reserved_ports: Some(reserved),
            tcp_tw_reuse: Some(2),
            unix_max_dgram_qlen: Some(10),
            ..NetworkSettings::default()
        };
        assert_eq!(settings, expected);
        assert_eq!(settings.usable_local_ports(), Some(7));
        assert_eq!(NetworkSettings::default().usable_local_ports(), None);
    }

    #[test]
    fn a_list_is_understood_whole_or_not_at_all() {
        assert_eq!(parse_list(b"\n"), Some(vec![]));
        for bad in [b"1,x".as_slice(), b"5-4", b"1-2-3", b",", b"70000", b"1,"] {
            assert_eq!(parse_list(bad), None, "{bad:?}");
        }
        assert_eq!(parse_range(b"5"), None);
        assert_eq!(parse_range(b"9 5"), None);
    }

    #[test]
    fn this_namespace_and_a_fresh_one_have_settings_of_their_own() {
        let host = Host::default();
        let own = host.read_network_settings();
        assert!(own.usable_local_ports().is_some_and(|ports| ports > 0), "{own:?}");
        let fresh = super::super::in_scratch_namespace(|| {
            fs::write("/proc/sys/net/ipv4/ip_local_port_range", "4000 4001").expect("a sysctl");
            host.read_network_settings().usable_local_ports()
        });
        assert_eq!(fresh.expect("a namespace, as root"), Some(2));
        assert_eq!(host.read_network_settings(), own);
    }
}
