//! What the loader writes into the object before it loads: a frozen read-only map, so that the
//! verifier folds every field into a constant and removes the code that it switches off.

use crate::{Signal, wire};

/// An offset or enum value that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Bits of [`Params::filters`]: which kinds of filter are set.
pub mod filter {
    /// `-p`: only the pids in the map `FILTER_PIDS`.
    pub const PIDS: u32 = 1;
    /// `-u`: only [`super::Params::uid`].
    pub const UID: u32 = 2;
    /// `-n`: only [`super::Params::comm`].
    pub const COMM: u32 = 4;
    /// `-P`: only the ports in the map `FILTER_PORTS`.
    pub const PORTS: u32 = 8;
    /// `-e`: only the errnos in [`super::Params::errnos`].
    pub const ERRNOS: u32 = 16;
    /// `-4 -6 --unix`: only the families in [`super::Params::families`].
    pub const FAMILIES: u32 = 32;
    /// `-- CMD`: only the processes in the map `FOLLOWED`.
    pub const FOLLOW: u32 = 64;
    /// Any filter that selects processes (and, through them, listeners).
    pub const PROCESS: u32 = PIDS | UID | COMM | FOLLOW;
}

/// Bits of [`Params::loads`]: what programs read with loads that the verifier checks, and not with a helper.
pub mod loads {
    /// What hooks of type tracing are given (fentry, fexit).
    pub const ARGUMENTS: u32 = 1;
    /// The current task (`bpf_get_current_task_btf`).
    pub const TASK: u32 = 2;
    /// What is gathered of the current task for an event or a new row: names and credentials.
    pub const DETAILS: u32 = 4;
}

/// Values of [`Params::preempted`], each with what the one before it has: who may be stopped inside a program, so
/// that the kernel skips it for others on that CPU.
pub mod preempted {
    /// Nobody; but softirqs interrupt.
    pub const NOBODY: u32 = 0;
    /// Whoever runs fentry and fexit programs outside of softirqs.
    pub const TRACING: u32 = 1;
    /// Whoever runs hooks of tracepoints, too.
    pub const TRACEPOINTS: u32 = 2;
}

/// The bit of an address family in [`Params::families`]; 0 for one that no filter names.
#[inline(always)]
pub const fn family_bit(family: u16) -> u32 {
    match family {
        1 => 1,
        2 => 2,
        10 => 4,
        _ => 0,
    }
}

wire! { 136,
/// How this run is set up.
pub struct Params {
    /// [`crate::Tier`] of each signal; 0 where the signal is off.
    pub tier: [u32; Signal::COUNT],
    /// Events per second and CPU that a signal may send besides the first of each key.
    pub budget: [u32; Signal::COUNT],
    /// 0: BPF ring buffer; 1: perf event array.
    pub transport: u32,
    /// Bits of [`filter`].
    pub filters: u32,
    /// Accepts that waited less send no event, nanoseconds.
    pub slow_ns: u64,
    /// Wake the reader when the ring buffer holds more, bytes.
    pub wakeup_bytes: u64,
    /// With [`filter::ERRNOS`]: bit n of the set is errno n.
    pub errnos: [u64; 3],
    /// With [`filter::UID`].
    pub uid: u32,
    /// With [`filter::FAMILIES`]: bits by [`family_bit`].
    pub families: u32,
    /// With [`filter::COMM`], NUL-padded.
    pub comm: [u8; 16],
    /// The tracer's own process: what it does is its self-test, and with [`filter::FOLLOW`] its
    /// children are followed.
    pub tracer: u32,
    /// One of [`preempted`]: which hooks have twins.
    pub preempted: u32,
    /// Bits of [`loads`].
    pub loads: u32,
    /// Always 0.
    pub pad: u32,
}}

wire! { 328,
/// Where this kernel keeps what the programs read, from its BTF and symbols. Offsets in bytes.
#[derive(PartialEq, Eq)]
pub struct Offsets {
    /// Address of the array `__per_cpu_offset`; 0 where the kernel does not tell.
    pub per_cpu_offset: u64,
    /// First and past-the-last address of `tcp_v4_rcv`; 0 where the kernel does not tell.
    pub tcp_v4_rcv: [u64; 2],
    /// Of `tcp_v6_rcv`.
    pub tcp_v6_rcv: [u64; 2],
    /// `sock.__sk_common.skc_daddr`
    pub skc_daddr: u32,
    /// `sock.__sk_common.skc_rcv_saddr`
    pub skc_rcv_saddr: u32,
    /// `sock.__sk_common.skc_dport`
    pub skc_dport: u32,
    /// `sock.__sk_common.skc_num`
    pub skc_num: u32,
    /// `sock.__sk_common.skc_family`
    pub skc_family: u32,
    /// `sock.__sk_common.skc_state`
    pub skc_state: u32,
    /// `sock.__sk_common.skc_net`
    pub skc_net: u32,
    /// `sock.__sk_common.skc_v6_daddr`
    pub skc_v6_daddr: u32,
    /// `sock.__sk_common.skc_v6_rcv_saddr`
    pub skc_v6_rcv_saddr: u32,
    /// `sock.sk_err`
    pub sk_err: u32,
    /// `sock.sk_ack_backlog`
    pub sk_ack_backlog: u32,
    /// `sock.sk_max_ack_backlog`
    pub sk_max_ack_backlog: u32,
    /// `sock.sk_drops`
    pub sk_drops: u32,
    /// `sock.sk_socket`
    pub sk_socket: u32,
    /// `sock.sk_type`
    pub sk_type: u32,
    /// `sock.sk_protocol`
    pub sk_protocol: u32,
    /// `tcp_sock.packets_out`
    pub tcp_packets_out: u32,
    /// `tcp_sock.rcv_nxt`
    pub tcp_rcv_nxt: u32,
    /// `unix_sock.addr`
    pub unix_addr: u32,
    /// `unix_sock.peer`
    pub unix_peer: u32,
    /// `unix_address.len`
    pub unix_address_len: u32,
    /// `unix_address.name`
    pub unix_address_name: u32,
    /// `socket.sk`
    pub socket_sk: u32,
    /// `socket.file`
    pub socket_file: u32,
    /// `socket_alloc.vfs_inode.i_ino`, counted from the `struct socket`
    pub socket_ino: u32,
    /// `net.ns.inum`
    pub net_inum: u32,
    /// `net.mib.net_statistics`
    pub net_statistics: u32,
    /// `task_struct.files`
    pub task_files: u32,
    /// `task_struct.group_leader`
    pub task_group_leader: u32,
    /// `task_struct.start_boottime`
    pub task_start_boottime: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.comm`
    pub task_comm: u32,
    /// `task_struct.nvcsw`
    pub task_nvcsw: u32,
    /// `task_struct.cred`
    pub task_cred: u32,
    /// `task_struct.fs`
    pub task_fs: u32,
    /// `task_struct.nsproxy`
    pub task_nsproxy: u32,
    /// `cred.cap_effective`
    pub cred_cap_effective: u32,
    /// `cred.fsuid`
    pub cred_fsuid: u32,
    /// `cred.fsgid`
    pub cred_fsgid: u32,
    /// `cred.group_info`
    pub cred_group_info: u32,
    /// `cred.user_ns`
    pub cred_user_ns: u32,
    /// `group_info.ngroups`
    pub group_info_ngroups: u32,
    /// `user_namespace.ns.inum`
    pub user_ns_inum: u32,
    /// `fs_struct.root.dentry`
    pub fs_root_dentry: u32,
    /// `fs_struct.pwd.dentry`
    pub fs_pwd_dentry: u32,
    /// `dentry.d_inode`
    pub dentry_inode: u32,
    /// `inode.i_ino`
    pub inode_ino: u32,
    /// `nsproxy.mnt_ns`
    pub nsproxy_mnt_ns: u32,
    /// `nsproxy.net_ns`
    pub nsproxy_net_ns: u32,
    /// `mnt_namespace.ns.inum`
    pub mnt_ns_inum: u32,
    /// `files_struct.fdt`
    pub files_fdt: u32,
    /// `fdtable.max_fds`
    pub fdt_max_fds: u32,
    /// `fdtable.fd`
    pub fdt_fd: u32,
    /// `file.private_data`
    pub file_private_data: u32,
    /// `file.f_inode`
    pub file_inode: u32,
    /// `file.f_flags`
    pub file_flags: u32,
    /// `mptcp_sock.first`; [`ABSENT`] without MPTCP
    pub mptcp_first: u32,
    /// `io_kiocb.file`; [`ABSENT`] before 5.19
    pub io_kiocb_file: u32,
    /// `io_kiocb.cqe.res`; [`ABSENT`] before 6.11, where nothing needs it
    pub io_kiocb_result: u32,
    /// `io_listen.backlog`, in an `io_kiocb`; [`ABSENT`] before 6.11
    pub io_listen_backlog: u32,
    /// `sk_buff.head`
    pub skb_head: u32,
    /// `sk_buff.end`
    pub skb_end: u32,
    /// `skb_shared_info.gso_segs`
    pub shinfo_gso_segs: u32,
    /// `sk_buff.network_header`
    pub skb_network_header: u32,
    /// `sk_buff.transport_header`
    pub skb_transport_header: u32,
    /// `LINUX_MIB_LISTENOVERFLOWS`
    pub mib_listen_overflows: u32,
    /// `LINUX_MIB_LISTENDROPS`
    pub mib_listen_drops: u32,
    /// `LINUX_MIB_TCPREQQFULLDROP`
    pub mib_reqq_full_drop: u32,
    /// `LINUX_MIB_TCPREQQFULLDOCOOKIES`
    pub mib_reqq_full_cookies: u32,
    /// `SKB_DROP_REASON_TCP_LISTEN_OVERFLOW`; [`ABSENT`] before 6.15
    pub reason_listen_overflow: u32,
    /// Always 0.
    pub pad: u32,
}}
