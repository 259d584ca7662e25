//! Pseudonyms of addresses: in ranges that no host on the Internet has, with the family kept and two
//! addresses of one network (/24, or /64) still in one.
//!
//! Loopback, unspecified and broadcast addresses stay, and so does that an IPv6 address is link-local
//! or an IPv4 one in disguise. Ports stay, and with them what is spoken.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::keyed::{Key, Of};

/// Networks of 240.0.0.0/4, which is reserved; the last one has the broadcast address.
const NETWORKS: u32 = (1 << 20) - 1;
/// Networks that are kept apart: while half of them are free, a free one is near.
const APART: usize = 1 << 19;

/// The pseudonyms of IPv4 networks: there are too few for a hash to keep them apart.
#[derive(Default)]
pub(super) struct Addresses {
    networks: HashMap<u32, u32>,
    taken: HashSet<u32>,
}

impl Addresses {
    pub(super) fn socket(&mut self, key: &Key, mut address: SocketAddr) -> SocketAddr {
        address.set_ip(self.ip(key, address.ip()));
        address
    }

    pub(super) fn ip(&mut self, key: &Key, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(v4) => self.v4(key, v4).into(),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => self.v4(key, v4).to_ipv6_mapped().into(),
                None => v6_of(key, v6).into(),
            },
        }
    }

    fn v4(&mut self, key: &Key, ip: Ipv4Addr) -> Ipv4Addr {
        if ip.is_loopback() || ip.is_unspecified() || ip.is_broadcast() {
            return ip;
        }
        let [network @ .., host] = ip.octets();
        let network = u32::from_be_bytes([0, network[0], network[1], network[2]]);
        let host = key.permute(network.into(), 4, host.into());
        let [_, a, b, c] = (0xf0_0000 | self.network(key, network)).to_be_bytes();
        Ipv4Addr::new(a, b, c, u8::try_from(host).unwrap_or_default())
    }

    /// The pseudonym of a network: where its hash points, or the next free one.
    fn network(&mut self, key: &Key, network: u32) -> u32 {
        if let Some(known) = self.networks.get(&network) {
            return *known;
        }
        let hash = key.hash(Of::Network4, &network.to_be_bytes()) % u64::from(NETWORKS);
        let mut place = u32::try_from(hash).unwrap_or_default();
        if self.networks.len() >= APART {
            return place;
        }
        while !self.taken.insert(place) {
            place = (place + 1) % NETWORKS;
        }
        self.networks.insert(network, place);
        place
    }
}

/// In `fd00::/8`, whose networks everybody may choose for himself.
fn v6_of(key: &Key, ip: Ipv6Addr) -> Ipv6Addr {
    if ip.is_loopback() || ip.is_unspecified() {
        return ip;
    }
    let half = |of: &[u8]| of.iter().fold(0, |half: u64, byte| half << 8 | u64::from(*byte));
    let octets = ip.octets();
    let (network, host) = (half(&octets[..8]), half(&octets[8..]));
    let redacted = if ip.is_unicast_link_local() {
        network
    } else {
        0xfd << 56 | key.hash(Of::Network6, &network.to_be_bytes()) >> 8
    };
    let host = key.permute(network, 32, host);
    Ipv6Addr::from_bits(u128::from(redacted) << 64 | u128::from(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redact(addresses: &mut Addresses, text: &str) -> IpAddr {
        addresses.ip(&Key::new([3; 16]), text.parse().expect("an address"))
    }

    #[test]
    fn addresses_of_one_network_stay_in_one_and_apart() {
        let mut known = Addresses::default();
        let mut seen = HashSet::new();
        let mut networks = HashSet::new();
        for network in 0..2000u32 {
            for host in 0..=9 {
                let text = format!("10.{}.{}.{host}", network / 256, network % 256);
                let IpAddr::V4(ip) = redact(&mut known, &text) else {
                    unreachable!("it stays IPv4")
                };
                assert!(ip.octets()[0] >= 240 && seen.insert(ip), "{text} is {ip}");
                networks.insert(u32::from(ip) >> 8);
            }
        }
        assert_eq!(networks.len(), 2000);
        let again = redact(&mut known, "10.0.1.2");
        assert!(seen.iter().any(|ip| IpAddr::from(*ip) == again));
    }

    #[test]
    fn ipv6_keeps_networks_link_local_and_disguise() {
        let mut known = Addresses::default();
        let mut of = |text: &str| match redact(&mut known, text) {
            IpAddr::V6(ip) => ip,
            IpAddr::V4(ip) => unreachable!("it stays IPv6: {ip}"),
        };
        let (one, two) = (of("2001:db8:1:2::1"), of("2001:db8:1:2::2"));
        assert_eq!(one.segments()[..4], two.segments()[..4]);
        assert_ne!(one, two);
        assert!(one.is_unique_local() && one.octets()[0] == 0xfd);
        assert_ne!(one.segments()[..4], of("2001:db8:1:3::1").segments()[..4]);
        let local = of("fe80::5054:ff:fe12:3456");
        assert!(local.is_unicast_link_local() && !local.to_string().contains("3456"), "{local}");
        let mapped = of("::ffff:10.0.0.1").to_ipv4_mapped().expect("still mapped");
        assert_eq!(IpAddr::V4(mapped), redact(&mut known, "10.0.0.1"));
    }

    #[test]
    fn addresses_that_every_host_has_stay() {
        for text in ["127.0.0.1", "127.0.0.53", "0.0.0.0", "255.255.255.255", "::", "::1"] {
            assert_eq!(redact(&mut Addresses::default(), text).to_string(), text);
        }
    }

    #[test]
    fn more_networks_than_fit_still_get_a_pseudonym() {
        let key = Key::new([3; 16]);
        let mut known = Addresses::default();
        for network in 0..(1u32 << 19) + 1000 {
            let ip = known.v4(&key, Ipv4Addr::from((network + (1 << 16)) << 8 | 7));
            assert!(ip.octets()[0] >= 240 && !ip.is_broadcast());
        }
        assert_eq!(known.networks.len(), APART);
    }
}
