//! What `/proc` says of listeners: which sockets listen at a place, and which processes hold them.
//!
//! The truth that a report's owners are compared with; nothing of socktrace's own readers is used.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};

use super::place::Place;

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Its address, as the report names it.
    pub local: String,
    /// Its inode number.
    pub inode: u64,
    /// Everybody with a descriptor of it, in order.
    pub pids: Vec<u32>,
}

/// The listeners at these places, and who holds them. More than one at a place share a port.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn holdings(proc: &Path, places: &[Place]) -> Result<Vec<Holding>> {
    let mut listeners = listeners(proc)?;
    listeners.retain(|(local, _)| places.iter().any(|place| place.is(local)));
    let holding = |(local, inode)| Holding { local, inode, pids: holders(proc, inode) };
    Ok(listeners.into_iter().map(holding).collect())
}

/// Whether somebody listens there.
pub(super) fn is_listening(place: &Place) -> bool {
    let found = listeners(Path::new("/proc"));
    found.is_ok_and(|found| found.iter().any(|(local, _)| place.is(local)))
}

/// Children, their children, and so on.
pub(super) fn descendants(proc: &Path, of: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> =
        pids(proc).into_iter().filter_map(|pid| Some((pid, parent(proc, pid)?))).collect();
    let mut family = vec![of];
    let mut next = 0;
    while let Some(&pid) = family.get(next) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| child));
        next += 1;
    }
    family.split_off(1)
}

fn listeners(proc: &Path) -> Result<Vec<(String, u64)>> {
    let read = |name: &str| {
        // This thread's network namespace; `net` is that of the process's first one.
        let file = proc.join("thread-self/net").join(name);
        fs::read_to_string(&file).with_context(|| file.display().to_string())
    };
    let mut found: Vec<_> = read("tcp")?.lines().filter_map(parse_tcp).collect();
    found.extend(read("unix")?.lines().filter_map(parse_unix));
    Ok(found)
}

/// Address and inode in a line of `/proc/net/tcp`; none unless it listens.
fn parse_tcp(line: &str) -> Option<(String, u64)> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    if *fields.get(3)? != LISTEN {
        return None;
    }
    // The address is printed as the number that its bytes in memory are.
    let address = Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_ne_bytes());
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((format!("{address}:{port}"), fields.get(9)?.parse().ok()?))
}

/// Path and inode in a line of `/proc/net/unix`; none unless it listens and has a name.
fn parse_unix(line: &str) -> Option<(String, u64)> {
    /// `__SO_ACCEPTCON`.
    const LISTEN: &str = "00010000";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let listens = fields.get(3) == Some(&LISTEN);
    let found = (listens, fields.get(7)?, fields.get(6)?.parse().ok()?);
    found.0.then(|| ((*found.1).to_owned(), found.2))
}

fn holders(proc: &Path, inode: u64) -> Vec<u32> {
    let link = format!("socket:[{inode}]");
    let holds = |pid: &u32| {
        let descriptors = fs::read_dir(proc.join(pid.to_string()).join("fd"));
        let mut links = descriptors.into_iter().flatten().filter_map(Result::ok);
        links.any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == link.as_str()))
    };
    pids(proc).into_iter().filter(holds).collect()
}

fn pids(proc: &Path) -> BTreeSet<u32> {
    let entries = fs::read_dir(proc).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn parent(proc: &Path, pid: u32) -> Option<u32> {
    let status = fs::read_to_string(proc.join(pid.to_string()).join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 71 1 0 100 0 0 10 0\n\
        1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 72 1 0 100 0 0 10 0\n";
    const UNIX: &str = "Num       RefCount Protocol Flags    Type St Inode Path\n\
        0: 00000002 00000000 00010000 0001 01 73 /run/a.sock\n\
        0: 00000003 00000000 00000000 0001 03 74 /run/a.sock\n";

    fn fake() -> Result<tempfile::TempDir> {
        let dir = tempfile::tempdir()?;
        let (net, holder) = (dir.path().join("thread-self/net"), dir.path().join("12"));
        fs::create_dir_all(&net)?;
        fs::create_dir_all(holder.join("fd"))?;
        fs::write(net.join("tcp"), TCP)?;
        fs::write(net.join("unix"), UNIX)?;
        fs::write(holder.join("status"), "Name:\tserver\nPPid:\t11\n")?;
        symlink("socket:[73]", holder.join("fd/5"))?;
        Ok(dir)
    }

    #[test]
    fn listeners_are_told_from_connections_and_have_their_holders() -> Result<()> {
        let dir = fake()?;
        let found = holdings(dir.path(), &[Place::Tcp(8080), Place::Unix("/run/a.sock".into())])?;
        let tcp = Holding { local: "127.0.0.1:8080".to_owned(), inode: 71, pids: vec![] };
        let unix = Holding { local: "/run/a.sock".to_owned(), inode: 73, pids: vec![12] };
        assert_eq!(found, [tcp, unix]);
        Ok(())
    }

    #[test]
    fn a_child_is_a_descendant() -> Result<()> {
        let dir = fake()?;
        assert_eq!(descendants(dir.path(), 11), [12]);
        assert_eq!(descendants(dir.path(), 12), [0; 0]);
        Ok(())
    }
}
