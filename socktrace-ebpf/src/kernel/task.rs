//! `struct task_struct`: who runs.

use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task,
    bpf_get_current_uid_gid, bpf_ktime_get_ns,
};
use socktrace_common::{Actor, TaskKey};

use super::{Socket, read};
use crate::globals::offset;

/// `CLOCK_MONOTONIC`, nanoseconds.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: reads a clock.
    unsafe { bpf_ktime_get_ns() }
}

/// The current task's `tgid << 32 | tid`: the key of calls under way.
#[inline(always)]
pub(crate) fn pid_tgid() -> u64 {
    bpf_get_current_pid_tgid()
}

/// A `struct task_struct`.
#[derive(Clone, Copy)]
pub(crate) struct Task(u64);

impl Task {
    /// The task that runs on this CPU. In softirq context that is whoever was interrupted, so
    /// only hooks in process context may ask.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        // SAFETY: returns the current task's address.
        Self(unsafe { bpf_get_current_task() })
    }

    /// A task that a tracepoint handed over.
    #[inline(always)]
    pub(crate) fn from_raw(task: u64) -> Self {
        Self(task)
    }

    #[inline(always)]
    fn leader(self) -> u64 {
        read(self.0, offset!(task_group_leader))
    }

    /// The process of this task.
    #[inline(always)]
    pub(crate) fn key(self) -> TaskKey {
        TaskKey {
            start_ns: read(self.leader(), offset!(task_start_boottime)),
            tgid: read(self.0, offset!(task_tgid)),
            pad: 0,
        }
    }

    /// Whether this task leads its thread group.
    #[inline(always)]
    pub(crate) fn is_leader(self) -> bool {
        read::<u32>(self.0, offset!(task_pid)) == read::<u32>(self.0, offset!(task_tgid))
    }

    /// `comm` of the leader.
    #[inline(always)]
    pub(crate) fn comm(self) -> [u8; 16] {
        read(self.leader(), offset!(task_comm))
    }

    /// Everything known of the current task.
    #[inline(always)]
    pub(crate) fn actor() -> Actor {
        let task = Self::current();
        let ids = bpf_get_current_uid_gid();
        Actor {
            task: task.key(),
            tid: pid_tgid() as u32,
            uid: ids as u32,
            gid: (ids >> 32) as u32,
            pad: 0,
            // SAFETY: returns a number.
            cgroup: unsafe { bpf_get_current_cgroup_id() },
            comm: task.comm(),
        }
    }

    /// How often this task went to sleep of its own accord.
    #[inline(always)]
    pub(crate) fn voluntary_switches(self) -> u64 {
        read(self.0, offset!(task_nvcsw))
    }

    /// The socket behind descriptor `fd` of this task, if it is one.
    #[inline(always)]
    pub(crate) fn socket(self, fd: i32) -> Option<Socket> {
        let fdt = read(read(self.0, offset!(task_files)), offset!(files_fdt));
        // A negative descriptor is a huge one here.
        if fd as u32 >= read::<u32>(fdt, offset!(fdt_max_fds)) {
            return None;
        }
        let files: u64 = read(fdt, offset!(fdt_fd));
        Socket::of_file(read(files + u64::from(fd as u32) * 8, 0))
    }
}
