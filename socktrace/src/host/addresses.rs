//! Whether an IP address is one of a network namespace's own.
//!
//! Owns the local table of `/proc/PID/net/fib_trie` and `/proc/PID/net/if_inet6`. Does not own where
//! other addresses are reached (`routes`). Formats: `fib_trie_seq_show()`, `if6_seq_show()`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bounded::read_lines;
use super::{Host, HostError, decimal, hexadecimal, words};

/// Bytes that are read of a file: some 500 000 routes.
const MOST_BYTES: u64 = 64 << 20;

/// In the flags of `if_inet6` (`include/uapi/linux/if_addr.h`): another host has the address.
const IFA_F_DADFAILED: u64 = 0x08;
/// It is not known yet whether another host has the address.
const IFA_F_TENTATIVE: u64 = 0x40;
/// It may be used meanwhile.
const IFA_F_OPTIMISTIC: u64 = 0x04;

/// What an address is to a network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressFact {
    /// Its own: it can be bound, and a connect to it stays inside.
    Local,
    /// On an interface, and not usable: duplicate address detection goes on, or failed. Binding it
    /// gives EADDRNOTAVAIL.
    NotUsable,
    /// Not its own.
    Foreign,
    /// The tables were too long to be read to the end.
    Unknown,
}

/// What `fib_trie` says of an IPv4 address.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ipv4Tables {
    /// The local table has it.
    pub(super) is_local: bool,
    /// There are routes in tables beside local, main and default: rules decide which is asked.
    pub(super) has_others: bool,
    /// The file was read to its end.
    pub(super) whole: bool,
}

impl Host {
    /// What `address` is to the network namespace of `pid`, or of the calling thread. The
    /// unspecified address stands for the loopback, as connect(2) takes it.
    pub fn read_address(
        &self,
        pid: Option<u32>,
        address: IpAddr,
    ) -> Result<AddressFact, HostError> {
        match address.to_canonical() {
            address if address.is_unspecified() => Ok(AddressFact::Local),
            IpAddr::V4(address) => {
                let tables = self.read_ipv4_tables(pid, address)?;
                Ok(match (tables.is_local, tables.whole) {
                    (true, _) => AddressFact::Local,
                    (false, true) => AddressFact::Foreign,
                    (false, false) => AddressFact::Unknown,
                })
            }
            IpAddr::V6(address) => self.read_ipv6_address(pid, address),
        }
    }

    /// What `fib_trie` says of `address`.
    pub(super) fn read_ipv4_tables(
        &self,
        pid: Option<u32>,
        address: Ipv4Addr,
    ) -> Result<Ipv4Tables, HostError> {
        let mut walk = TrieWalk::new(address);
        let path = self.net_path(pid, "fib_trie");
        walk.found.whole = read_lines(&path, MOST_BYTES, |line| walk.line(line))?;
        Ok(walk.found)
    }

    fn read_ipv6_address(
        &self,
        pid: Option<u32>,
        address: Ipv6Addr,
    ) -> Result<AddressFact, HostError> {
        let mut fact = AddressFact::Foreign;
        let whole = read_lines(&self.net_path(pid, "if_inet6"), MOST_BYTES, |line| {
            if let Some((found, flags)) = parse_inet6(line)
                && found == address
                && fact != AddressFact::Local
            {
                fact = if is_usable(flags) { AddressFact::Local } else { AddressFact::NotUsable };
            }
        });
        match whole {
            Ok(false) if fact == AddressFact::Foreign => Ok(AddressFact::Unknown),
            Ok(_) => Ok(fact),
            // The namespace is there, and has no IPv6.
            Err(error) if error.is_gone() && self.net_path(pid, "dev").exists() => {
                Ok(AddressFact::Foreign)
            }
            Err(error) => Err(error),
        }
    }
}

/// Where in `fib_trie` the reader is.
struct TrieWalk {
    wanted: Ipv4Addr,
    in_local: bool,
    leaf: Option<Ipv4Addr>,
    found: Ipv4Tables,
}

impl TrieWalk {
    fn new(wanted: Ipv4Addr) -> Self {
        Self { wanted, in_local: false, leaf: None, found: Ipv4Tables::default() }
    }

    /// A heading `Local:`, `Main:`, `Default:` or `Id N:`; a leaf `|-- ADDRESS`; below it lines
    /// `/LENGTH SCOPE TYPE`. A node `+-- …` is none of them.
    fn line(&mut self, line: &[u8]) {
        let mut fields = words(line);
        match fields.next() {
            Some(b"|--") => self.leaf = fields.next().and_then(parse_ipv4),
            Some([b'/', length @ ..]) => {
                let is_local = fields.nth(1) == Some(b"LOCAL");
                let length = decimal(length);
                if let (true, true, Some(leaf), Some(length)) =
                    (self.in_local, is_local, self.leaf, length)
                {
                    self.found.is_local |= has_prefix(self.wanted.into(), leaf.into(), length);
                }
            }
            Some(b"Id") => {
                self.found.has_others = true;
                self.in_local = false;
            }
            Some(heading) if line.first() != Some(&b' ') => self.in_local = heading == b"Local:",
            _ => {}
        }
    }
}

/// Whether the first `length` bits are the same. Addresses of two families never match.
pub(super) fn has_prefix(address: IpAddr, prefix: IpAddr, length: u64) -> bool {
    let (difference, width) = match (address, prefix) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits() ^ b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits(), 128),
        _ => return false,
    };
    let rest = u32::try_from(length).ok().and_then(|length| u32::checked_sub(width, length));
    rest.is_some_and(|rest| difference.checked_shr(rest).unwrap_or(0) == 0)
}

fn parse_ipv4(word: &[u8]) -> Option<Ipv4Addr> {
    str::from_utf8(word).ok()?.parse().ok()
}

/// 32 hexadecimal digits, in the order of the address.
pub(super) fn parse_ipv6_digits(digits: &[u8]) -> Option<Ipv6Addr> {
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    Some(Ipv6Addr::from_bits(u128::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?))
}

/// `ADDRESS INDEX LENGTH SCOPE FLAGS NAME`.
fn parse_inet6(line: &[u8]) -> Option<(Ipv6Addr, u64)> {
    let mut fields = words(line);
    Some((parse_ipv6_digits(fields.next()?)?, hexadecimal(fields.nth(3)?)?))
}

fn is_usable(flags: u64) -> bool {
    let is_tentative = flags & (IFA_F_TENTATIVE | IFA_F_OPTIMISTIC) == IFA_F_TENTATIVE;
    flags & IFA_F_DADFAILED == 0 && !is_tentative
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
        Local:\n  +-- 127.0.0.0/8 2 0 2\n     |-- 127.0.0.0\n        /8 host LOCAL\n\
        \x20    |-- 192.0.2.2\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";

    fn fake(trie: &str, inet6: Option<&str>) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = root.path().join("proc/7/net");
        fs::create_dir_all(&dir).expect("a fake process");
        fs::write(dir.join("fib_trie"), trie).expect("a fake table");
        fs::write(dir.join("dev"), "").expect("a fake table");
        if let Some(inet6) = inet6 {
            fs::write(dir.join("if_inet6"), inet6).expect("a fake table");
        }
        let host = Host::at(root.path());
        (root, host)
    }

    fn fact(host: &Host, pid: u32, address: &str) -> Option<AddressFact> {
        host.read_address(Some(pid), address.parse().expect("an address")).ok()
    }

    #[test]
    fn an_ipv4_address_is_local_by_the_local_table_alone() {
        let (_root, host) = fake(TRIE, None);
        for (address, expected) in [
            ("127.9.9.9", AddressFact::Local),
            ("192.0.2.2", AddressFact::Local),
            ("::ffff:192.0.2.2", AddressFact::Local),
            ("0.0.0.0", AddressFact::Local),
            ("192.0.2.255", AddressFact::Foreign),
            ("192.0.2.3", AddressFact::Foreign),
            ("::1", AddressFact::Foreign),
        ] {
            assert_eq!(fact(&host, 7, address), Some(expected), "{address}");
        }
        assert_eq!(fact(&host, 8, "192.0.2.2"), None);
        assert_eq!(fact(&host, 8, "::1"), None);
    }

    #[test]
    fn a_route_of_another_table_makes_nothing_local_and_is_told() {
        let other = format!("Id 100:\n  |-- 0.0.0.0\n     /0 host LOCAL\n{TRIE}");
        let (_root, host) = fake(&other, None);
        assert_eq!(fact(&host, 7, "9.9.9.9"), Some(AddressFact::Foreign));
        let tables = host.read_ipv4_tables(Some(7), Ipv4Addr::LOCALHOST).expect("tables");
        assert_eq!(tables, Ipv4Tables { is_local: true, has_others: true, whole: true });
    }

    #[test]
    fn an_ipv6_address_in_doubt_is_not_usable() {
        let rows = "00000000000000000000000000000001 01 80 10 80       lo\n\
            fd000000000000000000000000000002 02 40 00 40     eth0\n\
            fd000000000000000000000000000003 02 40 00 88     eth0\n\
            fd000000000000000000000000000004 02 40 00 44     eth0\nnonsense\n";
        let (_root, host) = fake("", Some(rows));
        for (address, expected) in [
            ("::1", AddressFact::Local),
            ("fd00::2", AddressFact::NotUsable),
            ("fd00::3", AddressFact::NotUsable),
            ("fd00::4", AddressFact::Local),
            ("fd00::5", AddressFact::Foreign),
        ] {
            assert_eq!(fact(&host, 7, address), Some(expected), "{address}");
        }
    }

    #[test]
    fn a_prefix_of_any_length_is_compared_and_none_of_too_many_bits() {
        let v4 = |text: &str| IpAddr::V4(text.parse().expect("an address"));
        assert!(has_prefix(v4("1.2.3.4"), v4("9.9.9.9"), 0));
        assert!(has_prefix(v4("1.2.3.4"), v4("1.2.3.5"), 31));
        assert!(!has_prefix(v4("1.2.3.4"), v4("1.2.3.5"), 32));
        assert!(!has_prefix(v4("1.2.3.4"), v4("1.2.3.4"), 33));
        let v6 = |text: &str| IpAddr::V6(text.parse().expect("an address"));
        assert!(has_prefix(v6("::1"), v6("ffff::"), 0));
        assert!(!has_prefix(v6("::1"), v6("::2"), 128));
        assert!(!has_prefix(v6("::1"), v4("0.0.0.1"), 0));
    }

    #[test]
    fn the_loopback_is_local_here() {
        let host = Host::default();
        for address in ["127.0.0.1", "127.1.2.3", "::1"] {
            assert_eq!(fact(&host, std::process::id(), address), Some(AddressFact::Local));
        }
        let foreign = host.read_address(None, "203.0.113.77".parse().expect("an address"));
        assert_eq!(foreign.expect("tables"), AddressFact::Foreign);
    }
}
