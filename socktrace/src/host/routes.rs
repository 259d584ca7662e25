//! Where a network namespace sends packets for an address, as far as its main tables tell.
//!
//! Owns `/proc/PID/net/{route,ipv6_route}`. Does not own which addresses are local (`addresses`).
//! Formats: `fib_route_seq_show()`, `rt6_info_route()`.
//!
//! Rules (`ip rule`) are in no file. Where IPv4 routes lie in tables of their own, as VPNs and VRFs
//! make them, rules must lead there, and the answer for both families is unknown. Rules that choose
//! among the main tables, and those of IPv6 alone, go unseen: a route found here is what the tables
//! say. Of a multipath route the kernel prints the first hop only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::addresses::{AddressFact, has_prefix, parse_ipv6_digits};
use super::bounded::read_lines;
use super::{Host, HostError, decimal, hexadecimal, words};

/// Bytes that are read of a file: some 500 000 routes.
const MOST_BYTES: u64 = 64 << 20;

/// In `Flags` (`include/uapi/linux/route.h`): the route leads to a gateway.
const RTF_GATEWAY: u64 = 0x2;
/// The route refuses.
const RTF_REJECT: u64 = 0x200;
/// The address is one of the host's (`include/uapi/linux/ipv6_route.h`).
const RTF_LOCAL: u64 = 0x8000_0000;
/// The address is an anycast one of the host's.
const RTF_ANYCAST: u64 = 0x10_0000;
/// Metric of the route that stands where there is none (`ip6_null_entry`).
const NO_ROUTE_METRIC: u64 = 0xffff_ffff;

/// Where packets for an address go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteFact {
    /// Nowhere: the address is the namespace's own.
    Local,
    /// Out.
    Via {
        /// The interface's name, raw.
        interface: Vec<u8>,
        /// The next hop; `None` where the address is on the link.
        gateway: Option<IpAddr>,
    },
    /// To one of several: routes with one prefix and one metric.
    Several,
    /// A route of type unreachable (connect gives EHOSTUNREACH), prohibit (EACCES), blackhole
    /// (EINVAL) or throw; these files do not tell which.
    Rejected,
    /// There is no route: connect gives ENETUNREACH.
    None,
    /// Rules decide, or the tables were too long.
    Unknown,
}

/// A route that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    length: u64,
    metric: u64,
    fact: RouteFact,
}

/// The best of the routes that were seen.
#[derive(Default)]
struct Choice(Option<Candidate>);

impl Choice {
    /// The longest prefix, and among those the lowest metric.
    fn consider(&mut self, new: Candidate) {
        let rank = |candidate: &Candidate| (candidate.length, std::cmp::Reverse(candidate.metric));
        match &mut self.0 {
            Some(best) if rank(&new) < rank(best) => {}
            Some(best) if rank(&new) == rank(best) && new.fact != best.fact => {
                best.fact = RouteFact::Several;
            }
            best => *best = Some(new),
        }
    }
}

impl Host {
    /// Where the network namespace of `pid`, or of the calling thread, sends packets for `address`.
    pub fn read_route_to(&self, pid: Option<u32>, address: IpAddr) -> Result<RouteFact, HostError> {
        let address = address.to_canonical();
        if self.read_address(pid, address)? == AddressFact::Local {
            return Ok(RouteFact::Local);
        }
        let asked = match address {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        let tables = self.read_ipv4_tables(pid, asked)?;
        if tables.has_others || !tables.whole {
            return Ok(RouteFact::Unknown);
        }
        match address {
            IpAddr::V4(_) => self.read_route(pid, "route", address, parse_route),
            IpAddr::V6(_) => self.read_route(pid, "ipv6_route", address, parse_ipv6_route),
        }
    }

    fn read_route(
        &self,
        pid: Option<u32>,
        name: &str,
        address: IpAddr,
        parse: fn(&[u8], IpAddr) -> Option<Candidate>,
    ) -> Result<RouteFact, HostError> {
        let mut choice = Choice::default();
        let read = read_lines(&self.net_path(pid, name), MOST_BYTES, |line| {
            if let Some(candidate) = parse(line, address) {
                choice.consider(candidate);
            }
        });
        match read {
            Ok(true) => Ok(choice.0.map_or(RouteFact::None, |best| best.fact)),
            Ok(false) => Ok(RouteFact::Unknown),
            // The namespace was there a moment ago, and has no IPv6.
            Err(error) if error.is_gone() && address.is_ipv6() => Ok(RouteFact::None),
            Err(error) => Err(error),
        }
    }
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`: addresses are numbers of this
/// machine's byte order. `*` stands where a route has no interface.
fn parse_route(line: &[u8], wanted: IpAddr) -> Option<Candidate> {
    let mut fields = words(line);
    let interface = fields.next()?;
    let (prefix, gateway) = (parse_word(fields.next()?)?, parse_word(fields.next()?)?);
    let flags = hexadecimal(fields.next()?)?;
    let metric = decimal(fields.nth(2)?)?;
    let length = u64::from(parse_word(fields.next()?)?.to_bits().leading_ones());
    let fact = match interface {
        b"*" => RouteFact::Rejected,
        _ if flags & RTF_REJECT != 0 => RouteFact::Rejected,
        _ => via(interface, flags, gateway.into()),
    };
    has_prefix(wanted, prefix.into(), length).then_some(Candidate { length, metric, fact })
}

fn parse_word(digits: &[u8]) -> Option<Ipv4Addr> {
    let number = u32::try_from(hexadecimal(digits).filter(|_| digits.len() == 8)?).ok()?;
    Some(Ipv4Addr::from(number.to_ne_bytes()))
}

/// `DESTINATION LENGTH SOURCE LENGTH NEXT-HOP METRIC REFS USE FLAGS NAME`, of all tables; a route
/// with a source is for packets from there only and is passed over.
fn parse_ipv6_route(line: &[u8], wanted: IpAddr) -> Option<Candidate> {
    let mut fields = words(line);
    let prefix = parse_ipv6_digits(fields.next()?)?;
    let length = hexadecimal(fields.next()?)?;
    let is_for_all = hexadecimal(fields.nth(1)?)? == 0;
    let gateway = parse_ipv6_digits(fields.next()?)?;
    let metric = hexadecimal(fields.next()?)?;
    let flags = hexadecimal(fields.nth(2)?)?;
    let interface = fields.next()?;
    if !is_for_all || metric == NO_ROUTE_METRIC || !has_prefix(wanted, prefix.into(), length) {
        return None;
    }
    let fact = match flags {
        flags if flags & RTF_REJECT != 0 => RouteFact::Rejected,
        flags if flags & (RTF_LOCAL | RTF_ANYCAST) != 0 => RouteFact::Local,
        // A gateway that another family's address is has no flag.
        flags if gateway != Ipv6Addr::UNSPECIFIED => {
            via(interface, flags | RTF_GATEWAY, gateway.into())
        }
        flags => via(interface, flags, gateway.into()),
    };
    Some(Candidate { length, metric, fact })
}

fn via(interface: &[u8], flags: u64, gateway: IpAddr) -> RouteFact {
    let gateway = (flags & RTF_GATEWAY != 0).then_some(gateway);
    RouteFact::Via { interface: interface.to_vec(), gateway }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const TRIE: &str = "Main:\n  |-- 0.0.0.0\n     /0 universe UNICAST\n\
        Local:\n  |-- 127.0.0.0\n     /8 host LOCAL\n";
    const INET6: &str = "fd000000000000000000000000000002 04 40 00 82     eth0\n";
    const ROUTE: &str = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
        eth0 00000000 010200C0 0003 0 0 100 00000000 0 0 0\n\
        eth1 00000000 020200C0 0003 0 0 50 00000000 0 0 0\n\
        eth0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n\
        * 0000080A 00000000 0201 0 0 0 0000FFFF 0 0 0\n\
        * 0000090A 00000000 0001 0 0 0 0000FFFF 0 0 0\n\
        a 00000A0A 00000000 0001 0 0 0 0000FFFF 0 0 0\n\
        b 00000A0A 00000000 0001 0 0 0 0000FFFF 0 0 0\nnonsense\n";
    const ROUTE6: &str = "\
        fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\n\
        fd980000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000400 00000001 00000000 00200200 lo\n\
        fd950000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000400 00000001 00000000 80000001 lo\n\
        20000000000000000000000000000000 03 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000003 00000000 00000003 eth0\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo\n";

    fn fake(trie: &str) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = root.path().join("proc/7/net");
        fs::create_dir_all(&dir).expect("a fake process");
        let files =
            [("fib_trie", trie), ("if_inet6", INET6), ("route", ROUTE), ("ipv6_route", ROUTE6)];
        for (name, text) in files {
            fs::write(dir.join(name), text).expect("a fake table");
        }
        let host = Host::at(root.path());
        (root, host)
    }

    fn route(host: &Host, address: &str) -> RouteFact {
        let address = address.parse().expect("an address");
        host.read_route_to(Some(7), address).expect("a route")
    }

    fn out(interface: &str, gateway: Option<&str>) -> RouteFact {
        let gateway = gateway.map(|address| address.parse().expect("an address"));
        RouteFact::Via { interface: interface.into(), gateway }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_longest_prefix_and_then_the_lowest_metric_decide() {
        let (_root, host) = fake(TRIE);
        for (address, expected) in [
            ("127.0.0.1", RouteFact::Local),
            ("192.0.2.9", out("eth0", None)),
            ("9.9.9.9", out("eth1", Some("192.0.2.2"))),
            ("10.8.0.1", RouteFact::Rejected),
            ("10.9.0.1", RouteFact::Rejected),
            ("10.10.0.1", RouteFact::Several),
        ] {
            assert_eq!(route(&host, address), expected, "{address}");
        }
    }

    #[test]
    fn an_ipv6_route_tells_its_kind_by_its_flags() {
        let (_root, host) = fake(TRIE);
        for (address, expected) in [
            ("fd00::2", RouteFact::Local),
            ("fd00::3", out("eth0", None)),
            ("fd98::1", RouteFact::Rejected),
            ("fd95::1", RouteFact::Local),
            ("2001:db8::1", out("eth0", Some("fd00::1"))),
            ("fe80::1", RouteFact::None),
        ] {
            assert_eq!(route(&host, address), expected, "{address}");
        }
    }

    #[test]
    fn tables_that_only_rules_lead_to_make_it_unknown() {
        let (_root, host) = fake(&format!("Id 52:\n  |-- 0.0.0.0\n     /0 link UNICAST\n{TRIE}"));
        assert_eq!(route(&host, "127.0.0.1"), RouteFact::Local);
        assert_eq!(route(&host, "192.0.2.9"), RouteFact::Unknown);
        assert_eq!(route(&host, "2001:db8::1"), RouteFact::Unknown);
    }

    #[test]
    fn a_fresh_namespace_has_no_route_but_to_itself() {
        let route = |address: &str| {
            let address = address.parse().expect("an address");
            Host::default().read_route_to(None, address).expect("a route")
        };
        let found = super::super::in_scratch_namespace(|| {
            [route("127.0.0.1"), route("203.0.113.7"), route("2001:db8::1")]
        });
        let expected = [RouteFact::Local, RouteFact::None, RouteFact::None];
        assert_eq!(found.expect("a namespace, as root"), expected);
    }
}
