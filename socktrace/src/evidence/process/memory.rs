//! Memory and CPU of the process's cgroups and of the host's sockets.

use crate::{diagnose::process::MemoryFacts, host::Host};

/// All but what takes two looks.
pub(super) fn read(host: &Host, pid: u32) -> MemoryFacts {
    MemoryFacts {
        // Memory is the host's, in whatever namespace; the limits are those that this thread is shown.
        sockets: host.read_socket_memory(Some(pid)).ok(),
        page: rustix::param::page_size() as u64,
        cgroups: host.read_cgroup_memory(pid).ok(),
        pressures: host.read_cgroup_pressures(pid).unwrap_or_default(),
        host_pressures: host.read_pressures(),
        throttled: None,
    }
}

/// How often the CPU quota of its cgroup held it up; `None` without a quota.
pub(super) fn read_throttled(host: &Host, pid: u32) -> Option<u64> {
    host.read_cpu_quota(pid).ok()?.throttled
}
