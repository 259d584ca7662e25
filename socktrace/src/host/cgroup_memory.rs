//! What memory a process's cgroups have, may have, and were refused.
//!
//! Owns `memory.{current,high,max,events,stat}` of the v2 cgroup of a process and of those above it.
//! Of v1 nothing is read. Documentation: cgroup-v2.rst.
//!
//! A cgroup at `memory.max` has its allocations of socket buffers refused as well
//! (`mem_cgroup_charge_skmem()`), and one above `memory.high` makes its tasks wait on their way out
//! of system calls.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::bounded::read_bounded;
use super::cgroup_dirs::{UNIFIED, value_of};
use super::{Host, HostError, decimal};

/// `memory.stat` of today has some 60 lines.
const MOST_BYTES: u64 = 64 << 10;
/// Cgroups that are read, from the process's own upwards.
const MOST_LEVELS: usize = 32;

/// The memory of one cgroup, in bytes. `None` where the file is missing (the controller is not on,
/// or it is the top of the hierarchy) or could not be read; `u64::MAX` stands for `max`, no limit.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CgroupMemory {
    /// The cgroup, by the names from the top of the mount, without a leading slash; empty for that.
    pub path: Vec<u8>,
    /// In use, by it and those below.
    pub current: Option<u64>,
    /// Above it tasks are slowed down.
    pub high: Option<u64>,
    /// Above it allocations fail, or the OOM killer comes.
    pub max: Option<u64>,
    /// Network buffers in use (`sock` of `memory.stat`).
    pub sock: Option<u64>,
    /// What happened at the limits, in it and below.
    pub events: MemoryEvents,
}

/// Counters of `memory.events`, since the cgroup was made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEvents {
    /// Times that a task was slowed down at `memory.high`.
    pub high: Option<u64>,
    /// Times that use was about to pass `memory.max`.
    pub max: Option<u64>,
    /// Times that an allocation was about to fail.
    pub oom: Option<u64>,
    /// Processes that the OOM killer ended.
    pub oom_kill: Option<u64>,
}

impl Host {
    /// The cgroup of `pid` and those above it, innermost first: the limit of any of them holds.
    /// Empty where it is in no v2 cgroup that is mounted.
    pub fn read_cgroup_memory(&self, pid: u32) -> Result<Vec<CgroupMemory>, HostError> {
        let dirs = self.read_cgroup_dirs(pid, UNIFIED)?;
        let Some(dir) = dirs.first() else { return Ok(Vec::new()) };
        let levels = dir.below.ancestors().take(MOST_LEVELS);
        Ok(levels.map(|below| read_memory(&dir.top.join(below), below)).collect())
    }
}

fn read_memory(dir: &Path, below: &Path) -> CgroupMemory {
    let text = |name: &str| read_bounded(&dir.join(name), MOST_BYTES).ok().map(|read| read.bytes);
    let limit = |name: &str| text(name).and_then(|bytes| parse_limit(&bytes));
    CgroupMemory {
        path: OsString::from(below).into_vec(),
        current: limit("memory.current"),
        high: limit("memory.high"),
        max: limit("memory.max"),
        sock: text("memory.stat").and_then(|bytes| value_of(&bytes, b"sock")),
        events: text("memory.events")
            .map_or_else(MemoryEvents::default, |text| parse_events(&text)),
    }
}

fn parse_limit(bytes: &[u8]) -> Option<u64> {
    match bytes.trim_ascii() {
        b"max" => Some(u64::MAX),
        digits => decimal(digits),
    }
}

fn parse_events(bytes: &[u8]) -> MemoryEvents {
    MemoryEvents {
        high: value_of(bytes, b"high"),
        max: value_of(bytes, b"max"),
        oom: value_of(bytes, b"oom"),
        oom_kill: value_of(bytes, b"oom_kill"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn limits_are_read_from_the_innermost_cgroup_upwards() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
            fs::write(path, text).expect("a fake file");
        };
        write("proc/7/cgroup", "0::/a/b\n");
        write("proc/8/cgroup", "");
        write("proc/self/mountinfo", "1 1 0:1 / /cg rw - cgroup2 none rw\n");
        write("cg/a/b/memory.current", "4096\n");
        write("cg/a/b/memory.max", "max\n");
        write("cg/a/b/memory.stat", "anon 1\nsock 512\n");
        write("cg/a/b/memory.events", "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\n");
        write("cg/a/memory.max", "8192\n");
        write("cg/a/memory.high", "nonsense\n");
        let host = Host::at(root.path());
        let events = MemoryEvents { high: Some(1), max: Some(2), oom: Some(3), oom_kill: Some(4) };
        let inner = CgroupMemory {
            path: b"a/b".to_vec(),
            current: Some(4096),
            max: Some(u64::MAX),
            sock: Some(512),
            events,
            ..CgroupMemory::default()
        };
        let outer =
            CgroupMemory { path: b"a".to_vec(), max: Some(8192), ..CgroupMemory::default() };
        let found = host.read_cgroup_memory(7).expect("cgroups");
        assert_eq!(found, [inner, outer, CgroupMemory::default()]);
        assert_eq!(host.read_cgroup_memory(8).expect("none"), []);
        assert!(host.read_cgroup_memory(9).is_err_and(|error| error.is_gone()));
    }
}
