//! Reads what a process does instead of accepting. Thin; what that means is with `activity` and `shortage`.

use super::{activity::Activity, shortage::Memory};
use crate::host::Host;

/// What a process does now. Whether its CPU quota holds it up shows against how often it had
/// `throttled_before`.
pub fn read_activity(host: &Host, pid: u32, throttled_before: Option<u64>) -> Activity {
    let (threads, thread_count) = host.read_threads(pid).unwrap_or_default();
    let quota = host.read_cpu_quota(pid).unwrap_or_default();
    let open = host.read_open_fds(pid).ok().and_then(|open| u64::try_from(open).ok());
    let limit = host.read_nofile_limits(pid).ok().map(|limits| limits.soft);
    Activity {
        threads,
        thread_count,
        frozen: quota.frozen,
        throttled: quota.throttled.zip(throttled_before).map(|(now, before)| now > before),
        throttled_times: quota.throttled,
        descriptors: open.zip(limit),
        shortage: read_memory(host, pid).shortage(),
    }
}

/// What cannot be read is unknown, and no shortage.
fn read_memory(host: &Host, pid: u32) -> Memory {
    Memory {
        cgroups: host.read_cgroup_memory(pid).unwrap_or_default(),
        pressure: host.read_cgroup_pressures(pid).unwrap_or_default().memory,
        tcp: host.read_socket_memory(Some(pid)).unwrap_or_default().tcp,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::event::Hold;

    #[test]
    fn a_process_whose_cgroup_waits_for_memory_is_held_up_by_that() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
            fs::write(path, text).expect("a fake file");
        };
        write("proc/7/cgroup", "0::/a\n");
        write("proc/7/task/7/stat", "7 (a) D 1\n");
        write("proc/self/mountinfo", "1 1 0:1 / /cg rw - cgroup2 none rw\n");
        write("cg/a/cgroup.events", "populated 1\nfrozen 0\n");
        let pressure = |percent| {
            let line = format!("some avg10={percent}.00 avg60=0.00 avg300=0.00 total=9\n");
            write("cg/a/memory.pressure", &line);
            read_activity(&Host::at(root.path()), 7, None)
        };
        assert_eq!(pressure(9).hold(), Some(Hold::Asleep));
        let short = pressure(40);
        assert_eq!(short.hold(), Some(Hold::ShortOfMemory));
        let words = short.describe().expect("words");
        assert!(words.contains("waited for it in 40.00 % of the last 10 s"), "{words}");
    }
}
