//! Whether a process's cgroup keeps it from running: its CPU quota, or the freezer.
//!
//! Owns `cpu.stat` and `cgroup.freeze` of a process's cgroup, in the v2 hierarchy or (`cpu.stat`) the
//! v1 hierarchy of the `cpu` controller. Documentation: cgroup-v2.rst, sched-bwc.rst.

use super::cgroup_dirs::{CPU_V1, UNIFIED, value_of};
use super::error::read_with;
use super::{Host, HostError};

/// What a cgroup does to its processes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CpuQuota {
    /// Periods in which it was throttled, since it was made; `None` without a quota.
    pub throttled: Option<u64>,
    /// Whether it is frozen.
    pub frozen: bool,
}

impl Host {
    /// Reads what the cgroup of `pid` does to it. A cgroup above it may do it, too.
    pub fn read_cpu_quota(&self, pid: u32) -> Result<CpuQuota, HostError> {
        let mut quota = CpuQuota::default();
        for hierarchy in [UNIFIED, CPU_V1] {
            for dir in self.read_cgroup_dirs(pid, hierarchy)? {
                let dir = dir.path();
                // Absent at the root, and where the controller is not on.
                let stat = read_with(&dir.join("cpu.stat"), |bytes| Ok(parse_throttled(bytes)));
                quota.throttled = quota.throttled.or(stat.ok().flatten());
                let frozen = read_with(&dir.join("cgroup.events"), |bytes| Ok(parse_frozen(bytes)));
                quota.frozen |= frozen.unwrap_or(false);
            }
        }
        Ok(quota)
    }
}

/// `nr_throttled N`; the kernel shows it where there is a quota.
fn parse_throttled(bytes: &[u8]) -> Option<u64> {
    value_of(bytes, b"nr_throttled")
}

/// `frozen 1` of `cgroup.events`: it is, by whichever ancestor.
fn parse_frozen(bytes: &[u8]) -> bool {
    value_of(bytes, b"frozen") == Some(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn fake(cgroup: &str, mounts: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary directory");
        for process in ["7", "self"] {
            fs::create_dir_all(root.path().join("proc").join(process)).expect("a fake process");
        }
        fs::write(root.path().join("proc/7/cgroup"), cgroup).expect("a fake cgroup");
        fs::write(root.path().join("proc/self/mountinfo"), mounts).expect("fake mounts");
        root
    }

    fn write(root: &tempfile::TempDir, path: &str, text: &str) {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
        fs::write(path, text).expect("a fake file");
    }

    #[test]
    fn throttling_and_freezing_are_read_in_the_unified_hierarchy() {
        let root = fake("0::/a/b\n", "1 1 0:1 / /cg rw - cgroup2 none rw\n");
        write(&root, "cg/a/b/cpu.stat", "usage_usec 5\nnr_periods 9\nnr_throttled 4\n");
        write(&root, "cg/a/b/cgroup.events", "populated 1\nfrozen 1\n");
        let quota = Host::at(root.path()).read_cpu_quota(7).expect("a quota");
        assert_eq!(quota, CpuQuota { throttled: Some(4), frozen: true });
    }

    #[test]
    fn throttling_is_read_in_the_hierarchy_of_the_cpu_controller() {
        let mounts = "1 1 0:1 / /uni rw - cgroup2 none rw\n\
            2 1 0:2 / /cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
            3 1 0:3 / /mem rw - cgroup cgroup rw,memory\n";
        let root = fake("3:memory:/m\n2:cpu,cpuacct:/a\n0::/\n", mounts);
        write(&root, "cpu/a/cpu.stat", "nr_periods 9\nnr_throttled 2\nthrottled_time 3\n");
        let quota = Host::at(root.path()).read_cpu_quota(7).expect("a quota");
        assert_eq!(quota, CpuQuota { throttled: Some(2), frozen: false });
    }

    #[test]
    fn without_a_cgroup_nothing_holds_it() {
        let root = fake("", "");
        let quota = Host::at(root.path()).read_cpu_quota(7).expect("none");
        assert_eq!(quota, CpuQuota::default());
    }
}
