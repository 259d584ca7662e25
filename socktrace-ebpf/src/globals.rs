//! The two read-only statics that the loader fills before it loads the object.
//!
//! They are plain statics, not aya's `Global<T>`: that type puts an anonymous union into the
//! BTF, which every kernel refuses. Reads are volatile so that LLVM keeps them; the verifier
//! then sees a frozen map and folds them into constants.

use socktrace_common::{Offsets, Params, Signal, Tier, preempted};

/// Set by the loader: how this run is set up.
#[unsafe(no_mangle)]
pub(crate) static PARAMS: Params = Params {
    tier: [0; Signal::COUNT],
    budget: [0; Signal::COUNT],
    transport: 0,
    filters: 0,
    slow_ns: 0,
    wakeup_bytes: 0,
    errnos: [0; 3],
    uid: 0,
    families: 0,
    comm: [0; 16],
    tracer: 0,
    preempted: 0,
    loads: 0,
    pad: 0,
};

/// Set by the loader: where this kernel keeps what the programs read.
#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Offsets = Offsets {
    per_cpu_offset: 0,
    tcp_v4_rcv: [0; 2],
    tcp_v6_rcv: [0; 2],
    skc_daddr: 0,
    skc_rcv_saddr: 0,
    skc_dport: 0,
    skc_num: 0,
    skc_family: 0,
    skc_state: 0,
    skc_net: 0,
    skc_v6_daddr: 0,
    skc_v6_rcv_saddr: 0,
    sk_err: 0,
    sk_ack_backlog: 0,
    sk_max_ack_backlog: 0,
    sk_drops: 0,
    sk_socket: 0,
    sk_type: 0,
    sk_protocol: 0,
    tcp_packets_out: 0,
    tcp_rcv_nxt: 0,
    unix_addr: 0,
    unix_peer: 0,
    unix_address_len: 0,
    unix_address_name: 0,
    socket_sk: 0,
    socket_file: 0,
    socket_ino: 0,
    net_inum: 0,
    net_statistics: 0,
    task_files: 0,
    task_group_leader: 0,
    task_start_boottime: 0,
    task_tgid: 0,
    task_pid: 0,
    task_comm: 0,
    task_nvcsw: 0,
    task_cred: 0,
    task_fs: 0,
    task_nsproxy: 0,
    cred_cap_effective: 0,
    cred_fsuid: 0,
    cred_fsgid: 0,
    cred_group_info: 0,
    cred_user_ns: 0,
    group_info_ngroups: 0,
    user_ns_inum: 0,
    fs_root_dentry: 0,
    fs_pwd_dentry: 0,
    dentry_inode: 0,
    inode_ino: 0,
    nsproxy_mnt_ns: 0,
    nsproxy_net_ns: 0,
    mnt_ns_inum: 0,
    files_fdt: 0,
    fdt_max_fds: 0,
    fdt_fd: 0,
    file_private_data: 0,
    file_inode: 0,
    file_flags: 0,
    mptcp_first: 0,
    io_kiocb_file: 0,
    io_kiocb_result: 0,
    io_listen_backlog: 0,
    skb_head: 0,
    skb_end: 0,
    shinfo_gso_segs: 0,
    skb_network_header: 0,
    skb_transport_header: 0,
    mib_listen_overflows: 0,
    mib_listen_drops: 0,
    mib_reqq_full_drop: 0,
    mib_reqq_full_cookies: 0,
    reason_listen_overflow: 0,
    pad: 0,
};

/// Reads one field of [`PARAMS`], with an optional array index.
macro_rules! param {
    ($field:ident $([$index:expr])?) => {
        // SAFETY: an initialised static; volatile only keeps LLVM from folding its zero in.
        unsafe { (&raw const $crate::globals::PARAMS.$field $([$index])?).read_volatile() }
    };
}
/// Reads one field of [`OFFSETS`].
macro_rules! offset {
    ($field:ident $([$index:expr])?) => {
        // SAFETY: an initialised static; volatile only keeps LLVM from folding its zero in.
        unsafe { (&raw const $crate::globals::OFFSETS.$field $([$index])?).read_volatile() }
    };
}
pub(crate) use {offset, param};

/// Whether `signal` runs in `tier`.
#[inline(always)]
pub(crate) fn tier(signal: Signal, tier: Tier) -> bool {
    param!(tier[signal as usize]) == tier as u32
}

/// Whether `signal` is on at all.
#[inline(always)]
pub(crate) fn on(signal: Signal) -> bool {
    param!(tier[signal as usize]) != 0
}

/// Whether `signal` runs in the fentry tier, on a kernel that stops nobody inside its programs: then fewer hooks
/// are exact.
#[inline(always)]
pub(crate) fn lean(signal: Signal) -> bool {
    tier(signal, Tier::Fentry) && param!(preempted) == preempted::NOBODY
}
