//! What `.socket` units listen on: systemd.socket(5).
//!
//! Owns the section `[Socket]` and the lookups by address. Does not own whether the unit is active.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::super::{Host, decimal};
use super::files::UnitText;
use super::syntax::{Assignment, assignments, expand, list, mode, normal_path, switch};

/// Addresses that are kept of one unit.
const MOST_LISTENS: usize = 4096;

/// The kind of socket that a unit makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenKind {
    /// `ListenStream=`: TCP or `SOCK_STREAM`.
    Stream,
    /// `ListenDatagram=`: UDP or `SOCK_DGRAM`.
    Datagram,
    /// `ListenSequentialPacket=`: `SOCK_SEQPACKET`, Unix only.
    SequentialPacket,
}

/// Where a unit listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A socket file, its path made normal.
    Path(Vec<u8>),
    /// An abstract name, without the leading `@` or NUL.
    Abstract(Vec<u8>),
    /// An IP address and port. A bare port stands for `[::]:PORT`.
    Inet(SocketAddr),
}

/// Whether an IPv6 socket on the unspecified address leaves IPv4 out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindIpv6Only {
    /// As `net.ipv6.bindv6only` says.
    Default,
    /// It takes both.
    Both,
    /// It does.
    Ipv6Only,
}

/// One address of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The kind of socket.
    pub kind: ListenKind,
    /// The address.
    pub address: ListenAddress,
}

/// A `.socket` unit. What it does not set has systemd's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketUnit {
    /// Its name, raw.
    pub name: Vec<u8>,
    /// It is masked and cannot be started; the rest is what it would be.
    pub masked: bool,
    /// Its addresses that are known here: not those of other families, nor a template's that depend
    /// on the instance.
    pub listens: Vec<Listen>,
    /// Addresses that are not in `listens`, because they are not understood here.
    pub other_listens: u32,
    /// Links that are made to a single socket file (`Symlinks=`).
    pub symlinks: Vec<Vec<u8>>,
    /// The mode of socket files.
    pub mode: u32,
    /// Their owner; `None`: root.
    pub user: Option<Vec<u8>>,
    /// Their group; `None`: the main one of `user`.
    pub group: Option<Vec<u8>>,
    /// The mode of directories that are made for them.
    pub directory_mode: u32,
    /// A service is started for each connection (`Accept=`).
    pub accept: bool,
    /// The service that is started; `NAME@.service` with `accept`.
    pub service: Vec<u8>,
    /// The backlog of listen(2); `None`: systemd's, as much as somaxconn allows.
    pub backlog: Option<u32>,
    /// Socket files are removed when the unit stops.
    pub remove_on_stop: bool,
    /// Whether `[::]` leaves IPv4 out (`BindIPv6Only=`).
    pub ipv6_only: BindIpv6Only,
}

/// Every `.socket` unit of the system's manager.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SocketUnits {
    /// By name.
    pub units: Vec<SocketUnit>,
    /// Files and directories that could not be read, or were too long or too many.
    pub unread: u32,
}

impl Host {
    /// Reads every `.socket` unit.
    pub fn read_socket_units(&self) -> SocketUnits {
        let (texts, unread) = self.read_unit_texts("socket");
        SocketUnits { units: texts.iter().map(parse_unit).collect(), unread }
    }
}

impl SocketUnits {
    /// The units that would listen on a socket file, or link to it by this path.
    pub fn by_path(&self, path: &[u8]) -> Vec<(&SocketUnit, &Listen)> {
        let Some(path) = normal_path(path) else { return Vec::new() };
        self.all(|unit, listen| match &listen.address {
            ListenAddress::Path(found) => *found == path || unit.symlinks.contains(&path),
            _ => false,
        })
    }

    /// The units that would listen on an abstract name, given without its leading NUL.
    pub fn by_abstract(&self, name: &[u8]) -> Vec<(&SocketUnit, &Listen)> {
        let is_it = |listen: &Listen| matches!(&listen.address, ListenAddress::Abstract(found) if found == name);
        self.all(|_, listen| is_it(listen))
    }

    /// The units that would take what is sent to an IP address and port, of any kind. A unit on
    /// `[::]` that does not say whether it takes IPv4 is among them.
    pub fn by_address(&self, address: SocketAddr) -> Vec<(&SocketUnit, &Listen)> {
        self.all(|unit, listen| match listen.address {
            ListenAddress::Inet(found) => takes(found, unit.ipv6_only, address),
            _ => false,
        })
    }

    fn all(&self, is_it: impl Fn(&SocketUnit, &Listen) -> bool) -> Vec<(&SocketUnit, &Listen)> {
        let pairs =
            self.units.iter().flat_map(|unit| unit.listens.iter().map(move |one| (unit, one)));
        pairs.filter(|(unit, listen)| is_it(unit, listen)).collect()
    }
}

fn takes(listener: SocketAddr, ipv6_only: BindIpv6Only, wanted: SocketAddr) -> bool {
    let ip = wanted.ip().to_canonical();
    let takes_ip = match listener.ip() {
        IpAddr::V4(any) if any.is_unspecified() => ip.is_ipv4(),
        IpAddr::V6(any) if any.is_unspecified() => {
            ip.is_ipv6() || ipv6_only != BindIpv6Only::Ipv6Only
        }
        one => one.to_canonical() == ip,
    };
    takes_ip && listener.port() == wanted.port()
}

fn parse_unit(text: &UnitText) -> SocketUnit {
    let mut unit = SocketUnit {
        name: text.name.clone(),
        masked: text.masked,
        listens: Vec::new(),
        other_listens: 0,
        symlinks: Vec::new(),
        mode: 0o666,
        user: None,
        group: None,
        directory_mode: 0o755,
        accept: false,
        service: Vec::new(),
        backlog: None,
        remove_on_stop: false,
        ipv6_only: BindIpv6Only::Default,
    };
    let all = text.texts.iter().flat_map(|text| assignments(text));
    for assignment in all.filter(|one| one.section == b"Socket") {
        unit.assign(&assignment);
    }
    if unit.service.is_empty() {
        unit.service = default_service(&unit.name, unit.accept);
    }
    unit
}

impl SocketUnit {
    fn assign(&mut self, Assignment { key, value, .. }: &Assignment) {
        let text = || expand(value, &self.name).filter(|text| !text.is_empty());
        match key.as_slice() {
            b"ListenStream" => self.listen(ListenKind::Stream, value),
            b"ListenDatagram" => self.listen(ListenKind::Datagram, value),
            b"ListenSequentialPacket" => self.listen(ListenKind::SequentialPacket, value),
            // FIFOs, netlink and so on are no sockets that a connect meets, but an empty one
            // resets as well.
            key if key.starts_with(b"Listen") && value.is_empty() => self.reset_listens(),
            b"Symlinks" => self.link(value),
            b"SocketMode" => self.mode = mode(value).unwrap_or(self.mode),
            b"DirectoryMode" => self.directory_mode = mode(value).unwrap_or(self.directory_mode),
            b"SocketUser" => self.user = text(),
            b"SocketGroup" => self.group = text(),
            b"Accept" => self.accept = switch(value).unwrap_or(self.accept),
            b"RemoveOnStop" => self.remove_on_stop = switch(value).unwrap_or(self.remove_on_stop),
            b"Service" => self.service = text().unwrap_or_default(),
            b"Backlog" => self.backlog = parse_u32(value).or(self.backlog),
            b"BindIPv6Only" => self.ipv6_only = parse_ipv6_only(value).unwrap_or(self.ipv6_only),
            _ => {}
        }
    }

    /// An empty assignment forgets the addresses of all kinds (`config_parse_socket_listen()`).
    fn listen(&mut self, kind: ListenKind, value: &[u8]) {
        if value.is_empty() {
            return self.reset_listens();
        }
        let address = expand(value, &self.name).and_then(|value| parse_address(&value));
        match address {
            Some(address) if self.listens.len() < MOST_LISTENS => {
                self.listens.push(Listen { kind, address });
            }
            _ => self.other_listens = self.other_listens.saturating_add(1),
        }
    }

    fn reset_listens(&mut self) {
        self.listens.clear();
        self.other_listens = 0;
    }

    fn link(&mut self, value: &[u8]) {
        if value.is_empty() {
            self.symlinks.clear();
        }
        let links = list(value).filter_map(|word| normal_path(&expand(word, &self.name)?));
        let links: Vec<_> = links.take(MOST_LISTENS.saturating_sub(self.symlinks.len())).collect();
        self.symlinks.extend(links);
    }
}

fn parse_u32(value: &[u8]) -> Option<u32> {
    decimal(value)?.try_into().ok()
}

fn parse_ipv6_only(value: &[u8]) -> Option<BindIpv6Only> {
    match value {
        b"default" => Some(BindIpv6Only::Default),
        b"both" => Some(BindIpv6Only::Both),
        b"ipv6-only" => Some(BindIpv6Only::Ipv6Only),
        _ => None,
    }
}

/// `socket_address_parse()`: a path, `@NAME`, a port, or an address with a port. `vsock:` and what
/// names an interface that only the host can resolve are not understood; an interface is cut off.
fn parse_address(value: &[u8]) -> Option<ListenAddress> {
    match value {
        [b'/', ..] => normal_path(value).map(ListenAddress::Path),
        [b'@', name @ ..] => Some(ListenAddress::Abstract(name.to_vec())),
        _ => {
            let any = |port: u64| {
                let port = u16::try_from(port).ok().filter(|&port| port != 0)?;
                Some(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))
            };
            let text = value.split(|&byte| byte == b'%').next().unwrap_or(value);
            let address = match decimal(text) {
                Some(port) => any(port)?,
                None => str::from_utf8(text).ok()?.parse().ok()?,
            };
            Some(ListenAddress::Inet(address))
        }
    }
}

fn default_service(name: &[u8], accept: bool) -> Vec<u8> {
    let stem = name.strip_suffix(b".socket").unwrap_or(name);
    [stem, if accept { b"@" } else { b"" }, b".service"].concat()
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    fn names<'a>(found: &[(&'a SocketUnit, &Listen)]) -> Vec<&'a str> {
        let name = |unit: &'a SocketUnit| str::from_utf8(&unit.name).expect("a fake name");
        found.iter().map(|(unit, _)| name(unit)).collect()
    }

    #[test]
    fn a_unit_is_read_with_its_drop_ins_and_defaults() {
        let (_root, host) = fake::host(&[
            (
                "usr/lib/systemd/system/a.socket",
                "[Unit]\nListenStream=/no\n[Socket]\nListenStream=/old\nListenDatagram=53\n\
                 SocketMode=0660\nSocketUser=www\nSocketGroup=%p\nDirectoryMode=0700\nBacklog=5\n\
                 Accept=yes\nRemoveOnStop=true\nSymlinks=/run/l1 /run/l2\n",
            ),
            (
                "etc/systemd/system/a.socket.d/o.conf",
                "[Socket]\nListenStream=\nListenStream=%t/a.sock\nListenSequentialPacket=@x\n\
                 ListenStream=vsock::1\nSocketMode=nonsense\n",
            ),
            ("usr/lib/systemd/system/d.socket", "[Socket]\nListenStream=/d\n"),
        ]);
        let found = host.read_socket_units();
        let (a, d) = (&found.units[0], &found.units[1]);
        let expected = SocketUnit {
            name: b"a.socket".to_vec(),
            masked: false,
            listens: vec![
                Listen {
                    kind: ListenKind::Stream,
                    address: ListenAddress::Path(b"/run/a.sock".to_vec()),
                },
                Listen {
                    kind: ListenKind::SequentialPacket,
                    address: ListenAddress::Abstract(b"x".to_vec()),
                },
            ],
            other_listens: 1,
            symlinks: vec![b"/run/l1".to_vec(), b"/run/l2".to_vec()],
            mode: 0o660,
            user: Some(b"www".to_vec()),
            group: Some(b"a".to_vec()),
            directory_mode: 0o700,
            accept: true,
            service: b"a@.service".to_vec(),
            backlog: Some(5),
            remove_on_stop: true,
            ipv6_only: BindIpv6Only::Default,
        };
        assert_eq!(*a, expected);
        assert_eq!(
            (d.mode, d.directory_mode, d.service.as_slice()),
            (0o666, 0o755, b"d.service".as_slice())
        );
        assert_eq!(names(&found.by_path(b"/var/run/a.sock")), ["a.socket"]);
        assert_eq!(names(&found.by_path(b"/run/l2")), ["a.socket"]);
        assert_eq!(names(&found.by_abstract(b"x")), ["a.socket"]);
        assert!(found.by_path(b"/old").is_empty() && found.by_path(b"relative").is_empty());
    }

    #[test]
    fn an_address_is_met_by_its_own_unit_and_by_wildcards() {
        let unit = |name: &str, text: &str| {
            let path = format!("etc/systemd/system/{name}.socket");
            (path, format!("[Socket]\n{text}\n"))
        };
        let files = [
            unit("dual", "ListenStream=80"),
            unit("v6", "ListenStream=80\nBindIPv6Only=ipv6-only"),
            unit("any4", "ListenStream=0.0.0.0:80"),
            unit("one", "ListenStream=10.0.0.1:80%%eth0"),
            unit("six", "ListenDatagram=[::1]:80"),
            unit("odd", "ListenStream=70000\nListenStream=0\nListenStream=\nListenStream=a:b"),
        ];
        let files: Vec<_> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let (_root, host) = fake::host(&files);
        let found = host.read_socket_units();
        for (address, expected) in [
            ("10.0.0.1:80", vec!["any4.socket", "dual.socket", "one.socket"]),
            ("[::ffff:10.0.0.2]:80", vec!["any4.socket", "dual.socket"]),
            ("[::1]:80", vec!["dual.socket", "six.socket", "v6.socket"]),
            ("10.0.0.1:81", vec![]),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(names(&found.by_address(address)), expected, "{address}");
        }
    }

    #[test]
    fn this_hosts_units_can_be_read() {
        let found = Host::default().read_socket_units();
        assert!(found.units.iter().all(|unit| unit.name.ends_with(b".socket")));
    }
}
