//! The TCP sockets of any network namespace, by a process that is in it: no way in is needed.
//!
//! Owns `/proc/PID/net/{tcp,tcp6}`. Does not own what only `sock_diag` tells (the backlog in effect,
//! whether an IPv6 listener takes IPv4, the cookie), nor who holds a socket (`sockets`). Format:
//! `get_tcp4_sock()`, `get_tcp6_sock()`, `proc_net_tcp.rst`.
//!
//! A read walks the kernel's table and is no snapshot: a socket that moves meanwhile is listed twice
//! or not at all. The kernel takes the walk for the namespace that was there when the file was
//! opened, whatever becomes of the process.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::bounded::read_lines;
use super::{Host, HostError, decimal, words};

/// Bytes that are read of each table: 400 000 rows.
const MOST_BYTES: u64 = 64 << 20;
/// Listeners that are kept.
const MOST_LISTENERS: usize = 1 << 16;

/// The state of a TCP socket (`include/net/tcp_states.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TcpState {
    /// 1
    Established,
    /// 2: the SYN has no answer yet.
    SynSent,
    /// 3: the SYN was answered, and the final ACK is missing.
    SynRecv,
    /// 4
    FinWait1,
    /// 5
    FinWait2,
    /// 6: closed, and the pair of addresses is kept for a minute.
    TimeWait,
    /// 7
    Close,
    /// 8: the peer closed, this side did not.
    CloseWait,
    /// 9
    LastAck,
    /// 10
    Listen,
    /// 11
    Closing,
}

/// A TCP socket in `LISTEN`, as `/proc` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerRow {
    /// What it is bound to.
    pub address: SocketAddr,
    /// The socket's inode; its `st_ino`.
    pub inode: u64,
    /// Who made it, as seen from the user namespace of the reader.
    pub uid: u32,
    /// Connections in the accept queue now: `sk_ack_backlog`.
    pub queue: u32,
}

/// The TCP sockets of a network namespace, IPv4 and IPv6.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TcpTable {
    /// Its listeners, in the kernel's order.
    pub listeners: Vec<ListenerRow>,
    /// Sockets by state; a state without any is not in here.
    pub counts: BTreeMap<TcpState, u64>,
    /// Rows that could not be understood.
    pub malformed: u64,
    /// Whether there was more than is read or kept: then the rest is unknown.
    pub cut: bool,
}

/// One row of either table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    local: SocketAddr,
    remote: SocketAddr,
    state: TcpState,
    queue: u32,
    uid: u32,
    inode: u64,
}

impl Host {
    /// The TCP sockets of the network namespace of `pid`, or of the calling thread.
    pub fn read_tcp_table(&self, pid: Option<u32>) -> Result<TcpTable, HostError> {
        let mut table = TcpTable::default();
        let mut left_out = false;
        let (malformed, whole) = self.read_tcp_rows(pid, |row| {
            *table.counts.entry(row.state).or_default() += 1;
            if row.state == TcpState::Listen {
                left_out |= table.listeners.len() >= MOST_LISTENERS;
                if !left_out {
                    table.listeners.push(row.listener());
                }
            }
        })?;
        table.malformed = malformed;
        table.cut = left_out || !whole;
        Ok(table)
    }

    /// How many sockets, by state, the namespace has for one remote address: a connect finds no
    /// local port (EADDRNOTAVAIL) when those to its destination use up the range. The listeners of
    /// the answer are none.
    pub fn read_tcp_connections_to(
        &self,
        pid: Option<u32>,
        remote: SocketAddr,
    ) -> Result<TcpTable, HostError> {
        let remote = plain(remote);
        let mut table = TcpTable::default();
        let (malformed, whole) = self.read_tcp_rows(pid, |row| {
            if row.state != TcpState::Listen && plain(row.remote) == remote {
                *table.counts.entry(row.state).or_default() += 1;
            }
        })?;
        table.malformed = malformed;
        table.cut = !whole;
        Ok(table)
    }

    /// Hands over each row; how many could not be understood, and whether these were all.
    fn read_tcp_rows(
        &self,
        pid: Option<u32>,
        mut each: impl FnMut(Row),
    ) -> Result<(u64, bool), HostError> {
        let (mut malformed, mut all) = (0, true);
        for name in ["tcp", "tcp6"] {
            let mut is_heading = true;
            let read = read_lines(&self.net_path(pid, name), MOST_BYTES, |line| {
                if std::mem::take(&mut is_heading) {
                    return;
                }
                match parse_row(line) {
                    Some(row) => each(row),
                    None => malformed += 1,
                }
            });
            match read {
                Ok(whole) => all &= whole,
                // Without IPv6 there is no second file.
                Err(error) if name == "tcp6" && error.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
        Ok((malformed, all))
    }

    /// `/proc/PID/net/name`, or that of the calling thread.
    pub(super) fn net_path(&self, pid: Option<u32>, name: &str) -> PathBuf {
        match pid {
            Some(pid) => self.proc_path(pid, "net").join(name),
            None => self.below("proc/thread-self/net").join(name),
        }
    }
}

impl Row {
    fn listener(self) -> ListenerRow {
        let Self { local: address, inode, uid, queue, .. } = self;
        ListenerRow { address, inode, uid, queue }
    }
}

/// An IPv4 address that an IPv6 socket uses is the same address.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `sl: local remote st tx:rx tr:when retrnsmt uid timeout inode …`.
fn parse_row(line: &[u8]) -> Option<Row> {
    let mut fields = words(line).skip(1);
    let (local, remote) = (parse_address(fields.next()?)?, parse_address(fields.next()?)?);
    let state = parse_state(fields.next()?)?;
    let mut queues = fields.next()?.splitn(2, |&byte| byte == b':');
    let queue = u32::try_from(hexadecimal(queues.nth(1)?)?).ok()?;
    let mut rest = fields.skip(2).map(decimal);
    let uid = u32::try_from(rest.next()??).ok()?;
    let inode = rest.nth(1)??;
    Some(Row { local, remote, state, queue, uid, inode })
}

/// `ADDRESS:PORT` in hexadecimal: the address as 32-bit words of this machine's byte order, the port
/// as a number.
fn parse_address(field: &[u8]) -> Option<SocketAddr> {
    let mut parts = field.splitn(2, |&byte| byte == b':');
    let ip = parse_words_ip(parts.next()?)?;
    let port = u16::try_from(hexadecimal(parts.next()?)?).ok()?;
    Some(SocketAddr::new(ip, port))
}

/// One word of 8 digits, or four.
fn parse_words_ip(digits: &[u8]) -> Option<IpAddr> {
    let word = |digits: &[u8]| {
        let number = u32::try_from(hexadecimal(digits)?).ok()?;
        Some(number.to_ne_bytes())
    };
    match digits.len() {
        8 => Some(Ipv4Addr::from(word(digits)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (to, from) in bytes.chunks_exact_mut(4).zip(digits.chunks_exact(8)) {
                to.copy_from_slice(&word(from)?);
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

fn parse_state(word: &[u8]) -> Option<TcpState> {
    Some(match hexadecimal(word)? {
        1 => TcpState::Established,
        2 => TcpState::SynSent,
        3 => TcpState::SynRecv,
        4 => TcpState::FinWait1,
        5 => TcpState::FinWait2,
        6 => TcpState::TimeWait,
        7 => TcpState::Close,
        8 => TcpState::CloseWait,
        9 => TcpState::LastAck,
        10 => TcpState::Listen,
        11 => TcpState::Closing,
        _ => return None,
    })
}

/// A number of at most 16 hexadecimal digits and nothing else.
pub(super) fn hexadecimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::process;

    const HEADING: &str = "  sl  local_address rem_address   st tx_queue rx_queue\n";

    fn inode(socket: &impl AsFd) -> u64 {
        rustix::fs::fstat(socket).expect("fstat").st_ino
    }

    #[test]
    fn a_real_listener_has_its_row_with_its_queue() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).expect("a listener");
            let address = listener.local_addr().expect("an address");
            let _client = TcpStream::connect(address).expect("a connection");
            let table = Host::default().read_tcp_table(Some(process::id())).expect("a table");
            let row = table.listeners.iter().find(|row| row.inode == inode(&listener));
            let uid = rustix::process::getuid().as_raw();
            let expected = ListenerRow { address, inode: inode(&listener), uid, queue: 1 };
            assert_eq!(row, Some(&expected));
            assert_eq!((table.malformed, table.cut), (0, false));
            let to = Host::default().read_tcp_connections_to(None, address).expect("a table");
            assert_eq!(to.counts, BTreeMap::from([(TcpState::Established, 1)]));
        }
    }

    #[test]
    fn states_are_counted_and_rows_that_are_none_as_well() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = root.path().join("proc/7/net");
        fs::create_dir_all(&dir).expect("a fake process");
        let rows = "0: 0100007F:1F90 00000000:0000 0A 00000000:00000005 00:00000000 00000000 33 0 77 1\n\
            1: 0100007F:1F90 0100007F:0050 06 00000000:00000000 03:00000B5A 00000000 0 0 0 3 0\n\
            2: 0100007F:1F90 0100007F:0050 06 00000000:00000000 03:00000B5A 00000000 0 0 0 3 0\n\
            3: 0100007F:1F90 0100007F:0050 FF 00000000:00000000 00:0 0 0 0 0\n\
            4: 0100007F\n\n";
        fs::write(dir.join("tcp"), format!("{HEADING}{rows}")).expect("a fake table");
        let host = Host::at(root.path());
        let table = host.read_tcp_table(Some(7)).expect("no IPv6 is no error");
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        let expected = TcpTable {
            listeners: vec![ListenerRow { address, inode: 77, uid: 33, queue: 5 }],
            counts: BTreeMap::from([(TcpState::Listen, 1), (TcpState::TimeWait, 2)]),
            malformed: 3,
            cut: false,
        };
        assert_eq!(table, expected);
        let remote = "[::ffff:127.0.0.1]:80".parse().expect("an address");
        let to = host.read_tcp_connections_to(Some(7), remote).expect("a table");
        assert_eq!(to.counts, BTreeMap::from([(TcpState::TimeWait, 2)]));
        assert!(host.read_tcp_table(Some(8)).is_err_and(|error| error.is_gone()));
    }

    #[test]
    fn another_namespace_is_read_by_a_process_in_it() {
        let outside = Host::default().read_tcp_table(Some(process::id())).expect("a table");
        let inside = super::super::in_scratch_namespace(|| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
            let table = Host::default().read_tcp_table(None).expect("a table");
            (table.listeners.iter().map(|row| row.inode).collect::<Vec<_>>(), inode(&listener))
        });
        let (found, listener) = inside.expect("a namespace, as root");
        assert_eq!(found, [listener]);
        assert!(outside.listeners.iter().all(|row| row.inode != listener));
    }

    #[test]
    fn an_address_is_whole_or_none() {
        for bad in ["", ":", "0100007F", "0100007F:", "0100007F:12345", "100007F:1", "+100007F:1"] {
            assert_eq!(parse_address(bad.as_bytes()), None, "{bad}");
        }
    }
}
