//! Which ids a user namespace knows, and what it calls them.
//!
//! Owns `/proc/PID/{uid_map,gid_map}`. Format: `user_namespaces(7)`; `uid_m_show()`. Whether a
//! capability reaches an inode hangs on it (`privileged_wrt_inode_uidgid()`); `diagnose` decides.

use super::error::{Malformed, read_with};
use super::{Host, HostError, decimal, numbered_lines, words};

/// Most ranges that a kernel takes (`UID_GID_MAP_MAX_EXTENTS`).
const MOST_RANGES: usize = 340;

/// Ids that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first one, as the namespace calls it.
    pub inside: u32,
    /// The first one, as the reader's user namespace calls it.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The users or the groups of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap(Vec<IdRange>);

/// The ids of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMaps {
    /// Its users.
    pub users: IdMap,
    /// Its groups.
    pub groups: IdMap,
}

impl IdMap {
    /// What the namespace calls an id that is seen here; `None` where it has no name for it.
    pub fn inside(&self, seen: u32) -> Option<u32> {
        self.0.iter().find_map(|range| {
            let offset = seen.checked_sub(range.outside).filter(|offset| *offset < range.count)?;
            range.inside.checked_add(offset)
        })
    }
}

impl IdMaps {
    /// Those of the initial user namespace: every id is what it is.
    pub fn initial() -> Self {
        let all = IdMap(vec![IdRange { inside: 0, outside: 0, count: u32::MAX }]);
        Self { users: all.clone(), groups: all }
    }

    /// Whether both ids of an inode are mapped: only then do capabilities in the namespace reach
    /// it (`privileged_wrt_inode_uidgid()`).
    pub fn know(&self, uid: u32, gid: u32) -> bool {
        self.users.inside(uid).is_some() && self.groups.inside(gid).is_some()
    }
}

impl Host {
    /// The ids of the task's user namespace, from those seen here to those seen inside.
    pub fn read_id_map(&self, pid: u32) -> Result<IdMaps, HostError> {
        // To a reader in the same namespace the kernel shows the ids of the parent namespace
        // instead of its own (`uid_m_show()`): what it sees then is what is inside.
        let same = self.read_namespace(pid, "user")? == self.read_own_namespace("user")?;
        let map = |file| {
            let ranges = read_with(&self.proc_path(pid, file), parse_ranges)?;
            let own = |range: IdRange| IdRange { outside: range.inside, ..range };
            let ranges = ranges.into_iter();
            Ok(IdMap(if same { ranges.map(own).collect() } else { ranges.collect() }))
        };
        Ok(IdMaps { users: map("uid_map")?, groups: map("gid_map")? })
    }
}

/// Lines of three numbers. A namespace that nobody has mapped yet has none.
fn parse_ranges(bytes: &[u8]) -> Result<Vec<IdRange>, Malformed> {
    let mut ranges = Vec::new();
    for (line, text) in numbered_lines(bytes).filter(|(_, text)| !text.is_empty()) {
        let malformed = |expected| Malformed { line, expected };
        if ranges.len() == MOST_RANGES {
            return Err(malformed("at most 340 ranges"));
        }
        let number = |word: &[u8]| decimal(word).and_then(|number| u32::try_from(number).ok());
        let numbers: Option<Vec<u32>> = words(text).map(number).collect();
        let Some([inside, outside, count]) = numbers.as_deref() else {
            return Err(malformed("three numbers"));
        };
        // The reader's namespace has no name for the range: `from_kuid()` gives -1.
        if *outside != u32::MAX {
            ranges.push(IdRange { inside: *inside, outside: *outside, count: *count });
        }
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &[u8]) -> IdMap {
        IdMap(parse_ranges(text).expect("ranges"))
    }

    #[test]
    fn an_id_is_called_what_its_range_says_and_nothing_else() {
        let map = map(b"         0     100000      65536\n     70000          5          1\n");
        assert_eq!(map.inside(100_000), Some(0));
        assert_eq!(map.inside(165_535), Some(65_535));
        assert_eq!(map.inside(5), Some(70_000));
        for unmapped in [0, 4, 6, 99_999, 165_536, u32::MAX] {
            assert_eq!(map.inside(unmapped), None, "{unmapped}");
        }
    }

    #[test]
    fn a_range_that_is_not_seen_here_is_none() {
        assert_eq!(map(b"0 4294967295 10\n"), IdMap(vec![]));
        assert_eq!(map(b""), IdMap(vec![]));
        assert!(parse_ranges(b"0 1\n").is_err() && parse_ranges(b"0 1 x\n").is_err());
        assert!(parse_ranges(b"0 1 2 3\n").is_err() && parse_ranges(b"0 1 4294967296\n").is_err());
        assert!(parse_ranges(&b"0 0 1\n".repeat(341)).is_err());
        assert_eq!(map(b"4294967290 4 4294967295\n").inside(4_000_000_000), None, "an overflow");
    }

    #[test]
    fn in_the_own_namespace_ids_are_what_they_are() {
        let own = Host::default().read_id_map(std::process::id()).expect("maps");
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        assert_eq!(own.users.inside(uid.as_raw()), Some(uid.as_raw()));
        assert!(own.know(uid.as_raw(), gid.as_raw()));
        assert!(IdMaps::initial().know(0, u32::MAX - 1) && !IdMaps::initial().know(0, u32::MAX));
    }
}
