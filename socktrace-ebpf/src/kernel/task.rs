//! `struct task_struct`: who runs.

use core::{marker::PhantomData, mem::offset_of};

use aya_ebpf::{
    bindings::pt_regs,
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task,
        bpf_get_current_uid_gid, bpf_ktime_get_ns,
        generated::{bpf_get_current_task_btf, bpf_task_pt_regs},
    },
};
use socktrace_common::{Actor, Credentials, TaskKey};

use super::{
    Probed, Reach, Socket,
    reach::{Current, Details},
    read, read_user,
};
use crate::globals::offset;

/// The numbers of the system call on x86-64: of 64-bit programs (`asm/unistd_64.h`), of 32-bit ones (`asm/unistd_32.h`).
const SYS_CONNECT: u64 = 42;
const SYS_CONNECT_32: u64 = 362;
const SYS_SOCKETCALL_32: u64 = 102;
/// First argument of `socketcall()` (`linux/net.h`).
const SOCKETCALL_CONNECT: u32 = 3;
/// In the place of a result, while there is none.
const ENOSYS: i64 = 38;

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
pub(crate) struct Task<R = Current>(u64, PhantomData<R>);

impl Task<Probed> {
    /// A task that a tracepoint handed over.
    #[inline(always)]
    pub(crate) fn from_raw(task: u64) -> Self {
        Self(task, PhantomData)
    }
}

impl<R: Reach> Task<R> {
    #[inline(always)]
    fn leader(self) -> u64 {
        R::read(self.0, offset!(task_group_leader))
    }

    /// The process of this task.
    #[inline(always)]
    pub(crate) fn key(self) -> TaskKey {
        key::<R>(self.leader(), R::read(self.0, offset!(task_tgid)))
    }

    /// Whether this task leads its thread group.
    #[inline(always)]
    pub(crate) fn is_leader(self) -> bool {
        R::read::<u32>(self.0, offset!(task_pid)) == R::read::<u32>(self.0, offset!(task_tgid))
    }
}

impl Task {
    /// The task that runs on this CPU. In softirq context that is whoever was interrupted, so
    /// only hooks in process context may ask.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        // SAFETY: both return the current task's address; the first one is there since 5.11, and only
        // called where the loader has seen it.
        let task = unsafe {
            if Current::typed() {
                bpf_get_current_task_btf() as u64
            } else {
                bpf_get_current_task()
            }
        };
        Self(task, PhantomData)
    }

    /// The process that runs on this CPU: as [`Task::key`], with one read less.
    #[inline(always)]
    pub(crate) fn current_key() -> TaskKey {
        key::<Current>(Self::current().leader(), (pid_tgid() >> 32) as u32)
    }

    /// `comm` of the leader, with zeros behind its end: before 5.17, a name that replaces a longer one
    /// leaves the rest of that there.
    #[inline(always)]
    pub(crate) fn comm(self) -> [u8; 16] {
        comm(detail(self.0, offset!(task_group_leader)))
    }

    /// The user that runs on this CPU.
    #[inline(always)]
    pub(crate) fn current_uid() -> u32 {
        bpf_get_current_uid_gid() as u32
    }

    /// Everything known of the current task.
    #[inline(always)]
    pub(crate) fn actor() -> Actor {
        let leader = detail(Self::current().0, offset!(task_group_leader));
        let (ids, threads) = (bpf_get_current_uid_gid(), pid_tgid());
        Actor {
            task: key::<Details>(leader, (threads >> 32) as u32),
            tid: threads as u32,
            uid: ids as u32,
            gid: (ids >> 32) as u32,
            pad: 0,
            // SAFETY: returns a number.
            cgroup: unsafe { bpf_get_current_cgroup_id() },
            comm: comm(leader),
        }
    }

    /// What decides over a path that this task passes.
    #[inline(always)]
    pub(crate) fn credentials(self, into: &mut Credentials) {
        let cred: u64 = detail(self.0, offset!(task_cred));
        into.cap_effective = detail(cred, offset!(cred_cap_effective));
        into.fsuid = detail(cred, offset!(cred_fsuid));
        into.fsgid = detail(cred, offset!(cred_fsgid));
        into.groups = detail(detail(cred, offset!(cred_group_info)), offset!(group_info_ngroups));
        into.user_namespace = detail(detail(cred, offset!(cred_user_ns)), offset!(user_ns_inum));
        let fs: u64 = detail(self.0, offset!(task_fs));
        into.root = inode_number(detail(fs, offset!(fs_root_dentry)));
        into.cwd = inode_number(detail(fs, offset!(fs_pwd_dentry)));
        let namespaces: u64 = detail(self.0, offset!(task_nsproxy));
        into.mount_namespace =
            detail(detail(namespaces, offset!(nsproxy_mnt_ns)), offset!(mnt_ns_inum));
        into.net_namespace = detail(detail(namespaces, offset!(nsproxy_net_ns)), offset!(net_inum));
    }

    /// What the system call was given that the current task is in, if that is `connect()`: descriptor, address in user memory,
    /// its length. Needs 5.15.
    #[inline(always)]
    pub(crate) fn connect_call() -> Option<(i32, u64, i32)> {
        // SAFETY: the task is the current one; what it entered the kernel with is on its stack.
        let registers = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as u64;
        let register = |at: usize| read::<u64>(registers, at as u32);
        // What io_uring does on the way out of a system call, or in a thread of its own, has its result there, or 0.
        if register(offset_of!(pt_regs, rax)) != -ENOSYS as u64 {
            return None;
        }
        let len = register(offset_of!(pt_regs, rdx)) as u32;
        let (fd, address, len) = match register(offset_of!(pt_regs, orig_rax)) {
            SYS_CONNECT => {
                let address = register(offset_of!(pt_regs, rsi));
                (register(offset_of!(pt_regs, rdi)) as u32, address, len)
            }
            number @ (SYS_CONNECT_32 | SYS_SOCKETCALL_32) => {
                let first = register(offset_of!(pt_regs, rbx)) as u32;
                let second = u64::from(register(offset_of!(pt_regs, rcx)) as u32);
                if number == SYS_CONNECT_32 {
                    (first, second, len)
                } else if first == SOCKETCALL_CONNECT {
                    let [fd, address, len] = read_user::<[u32; 3]>(second);
                    (fd, u64::from(address), len)
                } else {
                    return None;
                }
            }
            _ => return None,
        };
        Some((fd.cast_signed(), address, len.cast_signed()))
    }

    /// How often this task went to sleep of its own accord.
    #[inline(always)]
    pub(crate) fn voluntary_switches(self) -> u64 {
        follow(self.0, offset!(task_nvcsw))
    }

    /// The socket behind descriptor `fd` of this task, if it is one.
    #[inline(always)]
    pub(crate) fn socket(self, fd: i32) -> Option<Socket> {
        let fdt = follow(follow(self.0, offset!(task_files)), offset!(files_fdt));
        // A negative descriptor is a huge one here.
        if fd as u32 >= follow::<u32>(fdt, offset!(fdt_max_fds)) {
            return None;
        }
        // The elements of an array behind a pointer have no type.
        let files: u64 = follow(fdt, offset!(fdt_fd));
        Socket::of_file(read(files + u64::from(fd as u32) * 8, 0))
    }
}

/// A field of the current task, or of what its fields point to.
#[inline(always)]
fn follow<T: Copy>(base: u64, offset: u32) -> T {
    Current::read(base, offset)
}

/// The key of a process, from its `leader`.
#[inline(always)]
fn key<R: Reach>(leader: u64, tgid: u32) -> TaskKey {
    TaskKey { start_ns: R::read(leader, offset!(task_start_boottime)), tgid, pad: 0 }
}

/// The name of a process, from its `leader`.
#[inline(always)]
fn comm(leader: u64) -> [u8; 16] {
    let [first, second]: [u64; 2] = detail(leader, offset!(task_comm));
    let kept = kept_bytes(first);
    let second = if kept == u64::MAX { second & kept_bytes(second) } else { 0 };
    let comm = u128::from(first & kept) | u128::from(second) << 64;
    comm.to_le_bytes()
}

/// As [`follow`], of what is read of few calls only.
#[inline(always)]
fn detail<T: Copy>(base: u64, offset: u32) -> T {
    Details::read(base, offset)
}

/// The inode number behind a `struct dentry`.
#[inline(always)]
fn inode_number(dentry: u64) -> u64 {
    detail(detail(dentry, offset!(dentry_inode)), offset!(inode_ino))
}

/// A mask of the bytes before the first zero byte, where the lowest is the first. Without a loop, which
/// would take the stack that the events need.
#[inline(always)]
fn kept_bytes(bytes: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    let zeros = bytes.wrapping_sub(ONES) & !bytes & (ONES << 7);
    let first = zeros & zeros.wrapping_neg();
    (first >> 7).wrapping_sub(1)
}
