//! Every listener of the host with every process that holds it, at one moment.
//!
//! Owns the join of a look with its holders, the order of the rows, and which of them a user wants.
//! Each process is kept once, however many listeners it holds.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
};

use super::{
    Look, NamespaceSighting, Unseen, read_own_sightings, read_sightings, units::UnitsByAddress,
};
use crate::{
    event::{Endpoint, Sighting},
    host::{Holder, Host, HostError},
};

/// Listeners and their holders.
#[derive(Debug, Default)]
pub struct Listing {
    /// A row for each listener.
    pub rows: Vec<Listed>,
    /// Who the holders are, by pid.
    pub processes: HashMap<u32, Holder>,
    /// The namespaces that were looked into, the own one first.
    pub namespaces: Vec<NamespaceSighting>,
    /// What the look could not see.
    pub unseen: Unseen,
    /// What of the holders could not be seen.
    pub unseen_holders: UnseenHolders,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Inode of its socket.
    pub inode: u64,
    /// How it was seen.
    pub seen: Sighting,
    /// `net.core.somaxconn` of its namespace.
    pub somaxconn: Option<u32>,
    /// Every process that holds it, ascending pids.
    pub holders: Vec<u32>,
    /// How long its oldest connection has waited; `None` without a tracer, or a queue.
    pub oldest: Option<Age>,
}

/// How long a connection has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// So long, nanoseconds.
    pub ns: u64,
    /// Or longer.
    pub is_lower_bound: bool,
}

/// What of namespaces and holders could not be seen.
#[derive(Debug, Default)]
pub struct UnseenHolders {
    /// Processes whose network namespace could not be read: one that is theirs alone is missing.
    pub namespaces_of: u32,
    /// Why namespaces could not be enumerated at all: only the own one was looked into.
    pub namespaces: Option<HostError>,
    /// Processes whose descriptors could not be read: they may hold any of the listeners.
    pub descriptors_of: u32,
    /// Holders that are missing in the rows, because there were too many.
    pub left_out: u64,
}

/// What a user wants to see; empty lists and `None` want everything.
#[derive(Debug, Default, Clone)]
pub struct HolderFilter {
    /// Pids.
    pub pids: Vec<u32>,
    /// Name, whole.
    pub comm: Option<Vec<u8>>,
    /// Real uid.
    pub uid: Option<u32>,
}

/// Reads the listeners of the namespaces in `netns` (of all, if it is empty) whose address is
/// wanted, and their holders.
pub fn read_listing(
    host: &Host,
    netns: &[u32],
    wants: impl Fn(&Endpoint) -> bool,
) -> Result<Listing, HostError> {
    let mut unseen_holders = UnseenHolders::default();
    let mut look = match host.read_network_namespaces() {
        Ok(found) => {
            unseen_holders.namespaces_of = found.unreadable;
            let wanted = |inode: &u32| netns.is_empty() || netns.contains(inode);
            read_sightings(host, found.all.iter().filter(|namespace| wanted(&namespace.inode)))
        }
        Err(error) => {
            unseen_holders.namespaces = Some(error);
            read_own_sightings(host)
        }
    };
    look.sightings.retain(|_, seen| wants(&seen.local));
    UnitsByAddress::read(host).note(&mut look);
    join(host, look, unseen_holders)
}

fn join(host: &Host, look: Look, mut unseen_holders: UnseenHolders) -> Result<Listing, HostError> {
    let Look { sightings, namespaces, unseen } = look;
    let inodes: HashSet<u64> = sightings.keys().copied().collect();
    let mut found = if inodes.is_empty() {
        crate::host::SocketOwners::default()
    } else {
        host.read_socket_owners(&inodes)?
    };
    unseen_holders.descriptors_of = found.unreadable;
    unseen_holders.left_out = found.left_out;
    let limits: HashMap<Option<u32>, Option<u32>> =
        namespaces.iter().map(|namespace| (namespace.inode, namespace.somaxconn)).collect();
    let rows = sightings.into_iter().map(|(inode, seen)| Listed {
        inode,
        somaxconn: limits.get(&seen.netns).copied().flatten(),
        seen,
        holders: found.owners.remove(&inode).unwrap_or_default(),
        oldest: None,
    });
    let rows = rows.collect();
    Ok(Listing { rows, processes: found.processes, namespaces, unseen, unseen_holders })
}

impl Listing {
    /// Keeps the listeners that a process holds which passes the filter.
    pub fn retain_held_by(&mut self, filter: &HolderFilter) {
        if filter.wants_all() {
            return;
        }
        let processes = &self.processes;
        let passes =
            |pid: &u32| processes.get(pid).is_some_and(|holder| filter.wants(*pid, holder));
        self.rows.retain(|row| row.holders.iter().any(passes));
    }

    /// The fullest queue first, in terms of what it holds; then by address and namespace.
    pub fn sort(&mut self) {
        self.rows.sort_unstable_by(|a, b| {
            let by_name = |row: &Listed| (row.seen.netns, row.inode);
            fullness(&b.seen, &a.seen)
                .then_with(|| a.seen.local.cmp(&b.seen.local))
                .then_with(|| by_name(a).cmp(&by_name(b)))
        });
    }
}

impl HolderFilter {
    fn wants_all(&self) -> bool {
        self.pids.is_empty() && self.comm.is_none() && self.uid.is_none()
    }

    /// An unknown uid passes only where none is asked for.
    fn wants(&self, pid: u32, holder: &Holder) -> bool {
        (self.pids.is_empty() || self.pids.contains(&pid))
            && self.comm.as_ref().is_none_or(|comm| *comm == holder.comm)
            && self.uid.is_none_or(|uid| holder.uid == Some(uid))
    }
}

/// Compares queues by the share of their limit that is used. A queue is full at one more than its
/// backlog; an unknown one comes behind every known one.
fn fullness(a: &Sighting, b: &Sighting) -> Ordering {
    let parts = |seen: &Sighting| Some((u64::from(seen.queue?), u64::from(seen.effective?) + 1));
    match (parts(a), parts(b)) {
        (Some((queue_a, limit_a)), Some((queue_b, limit_b))) => {
            (queue_a * limit_b).cmp(&(queue_b * limit_a))
        }
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Address, SocketKind};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn sighting(port: u16, queue: Option<u32>, effective: u32) -> Sighting {
        let local = Endpoint {
            address: Some(Address::Inet(([127, 0, 0, 1], port).into())),
            kind: Some(SocketKind::Stream),
        };
        Sighting {
            local,
            netns: Some(7),
            queue,
            effective: Some(effective),
            drops: Some(0),
            socket_unit: None,
            clients: None,
        }
    }

    fn listed(inode: u64, seen: Sighting, holders: Vec<u32>) -> Listed {
        Listed { inode, seen, somaxconn: None, holders, oldest: None }
    }

    #[test]
    fn the_fullest_queue_comes_first_and_then_the_address_decides() {
        let rows = vec![
            listed(1, sighting(80, None, 9), vec![]),
            listed(2, sighting(82, Some(0), 9), vec![]),
            listed(3, sighting(81, Some(0), 999), vec![]),
            listed(4, sighting(83, Some(4), 9), vec![]),
            listed(5, sighting(84, Some(1), 0), vec![]),
        ];
        let mut listing = Listing { rows, ..Listing::default() };
        listing.sort();
        let order: Vec<u64> = listing.rows.iter().map(|row| row.inode).collect();
        assert_eq!(order, [5, 4, 3, 2, 1]);
    }

    #[test]
    fn all_that_a_filter_asks_must_be_true_of_one_holder() {
        let holder = |comm: &[u8], uid| Holder { comm: comm.to_vec(), uid, cgroup: None };
        let processes = HashMap::from([
            (4, holder(b"a", Some(0))),
            (5, holder(b"b", Some(33))),
            (6, holder(b"b", None)),
        ]);
        let kept = |filter: HolderFilter| {
            let rows = vec![
                listed(1, sighting(80, None, 1), vec![4, 5]),
                listed(2, sighting(80, None, 1), vec![6]),
                listed(3, sighting(80, None, 1), vec![]),
            ];
            let mut listing = Listing { rows, processes: processes.clone(), ..Listing::default() };
            listing.retain_held_by(&filter);
            listing.rows.iter().map(|row| row.inode).collect::<Vec<_>>()
        };
        let comm = Some(b"b".to_vec());
        let any = HolderFilter::default();
        assert_eq!(kept(any.clone()), [1, 2, 3]);
        assert_eq!(kept(HolderFilter { comm: comm.clone(), ..any.clone() }), [1, 2]);
        assert_eq!(kept(HolderFilter { comm, uid: Some(33), ..any.clone() }), [1]);
        assert_eq!(
            kept(HolderFilter { pids: vec![4], uid: Some(33), ..any.clone() }),
            [] as [u64; 0]
        );
        assert_eq!(kept(HolderFilter { pids: vec![6, 9], ..any }), [2]);
    }

    /// Processes of the large host; each holds three listeners: two of its own, and the one that
    /// all of them hold.
    const PROCESSES: u32 = 50_000;
    const LISTENERS: u64 = 100_000;
    const SHARED: u64 = LISTENERS;

    /// A fake `/proc` on a filesystem in memory, where there is one.
    fn large_host() -> tempfile::TempDir {
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let root = root.expect("a temporary directory");
        let files = [("comm", "server\n"), ("status", "Uid:\t33\t33\t33\t33\n")];
        for (name, text) in files {
            fs::write(root.path().join(name), text).expect("a fake file");
        }
        for pid in 1..=PROCESSES {
            large_process(root.path(), pid).expect("a fake process");
        }
        root
    }

    fn large_process(root: &Path, pid: u32) -> std::io::Result<()> {
        let dir = root.join(format!("proc/{pid}"));
        let fd = dir.join("fd");
        fs::create_dir_all(&fd)?;
        for name in ["comm", "status"] {
            fs::hard_link(root.join(name), dir.join(name))?;
        }
        let first = u64::from(pid - 1) * 2;
        for (number, inode) in [first, first + 1, SHARED].into_iter().enumerate() {
            symlink(format!("socket:[{inode}]"), fd.join(number.to_string()))?;
        }
        symlink("/dev/null", fd.join("3"))
    }

    /// What this process has in memory now, in bytes.
    fn resident() -> u64 {
        let statm = fs::read_to_string("/proc/self/statm").expect("statm");
        let pages: u64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
        pages * rustix::param::page_size() as u64
    }

    /// Set where the test has its process for itself.
    const ALONE: &str = "SOCKTRACE_TEST_ALONE";

    #[test]
    fn a_host_of_50_000_processes_and_100_000_listeners_is_joined_whole_in_bounded_memory() {
        if std::env::var_os(ALONE).is_some() {
            return join_a_large_host();
        }
        // Tests beside it take memory, too.
        let name = "listener::listing::tests::a_host_of_50_000_processes_and_100_000_listeners_is_joined_whole_in_bounded_memory";
        let mut alone = std::process::Command::new(std::env::current_exe().expect("this program"));
        let ran =
            alone.args([name, "--exact"]).env(ALONE, "1").output().expect("this program runs");
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    }

    fn join_a_large_host() {
        let root = large_host();
        let before = resident();
        let sightings = (0..=LISTENERS).map(|inode| (inode, sighting(80, Some(0), 1)));
        let look = Look { sightings: sightings.collect(), ..Look::default() };
        let begin = std::time::Instant::now();
        let listing = join(&Host::at(root.path()), look, UnseenHolders::default());
        let mut listing = listing.expect("a listing");
        listing.sort();
        let (time, grown) = (begin.elapsed(), resident().saturating_sub(before));
        println!("joined in {time:?}, with {} MiB", grown >> 20);

        assert_eq!(listing.unseen_holders.descriptors_of, 0);
        assert_eq!(listing.processes.len(), PROCESSES as usize);
        assert_eq!(listing.rows.len() as u64, LISTENERS + 1);
        for row in &listing.rows {
            if row.inode == SHARED {
                assert!(row.holders.iter().copied().eq(1..=PROCESSES));
            } else {
                let only = u32::try_from(row.inode / 2 + 1).expect("a pid");
                assert_eq!(row.holders, [only], "of {}", row.inode);
            }
        }
        // About 500 bytes for each listener and each process.
        assert!(grown < 96 << 20, "{grown} bytes");
    }
}
