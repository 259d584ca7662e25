//! Fills [`Offsets`] from the kernel's BTF: one table, no version anywhere.

use socktrace_common::{ABSENT, Offsets};
use thiserror::Error;

use super::{KernelBtf, Symbols};

/// The BTF lacks something that socktrace cannot do without.
#[derive(Debug, Error)]
#[error(
    "this kernel's BTF has no {field}: socktrace does not know this kernel; \
     please report it with the output of `uname -r`"
)]
pub struct OffsetsError {
    /// The structure and its members.
    pub field: String,
}

/// A slot of [`Offsets`] and the field it is for.
type Row = (fn(&mut Offsets) -> &mut u32, &'static str, &'static [&'static str]);

/// Every field that every supported kernel has.
const FIELDS: &[Row] = &[
    (|o| &mut o.skc_daddr, "sock", &["__sk_common", "skc_daddr"]),
    (|o| &mut o.skc_rcv_saddr, "sock", &["__sk_common", "skc_rcv_saddr"]),
    (|o| &mut o.skc_dport, "sock", &["__sk_common", "skc_dport"]),
    (|o| &mut o.skc_num, "sock", &["__sk_common", "skc_num"]),
    (|o| &mut o.skc_family, "sock", &["__sk_common", "skc_family"]),
    (|o| &mut o.skc_state, "sock", &["__sk_common", "skc_state"]),
    (|o| &mut o.skc_net, "sock", &["__sk_common", "skc_net"]),
    (|o| &mut o.skc_v6_daddr, "sock", &["__sk_common", "skc_v6_daddr"]),
    (|o| &mut o.skc_v6_rcv_saddr, "sock", &["__sk_common", "skc_v6_rcv_saddr"]),
    (|o| &mut o.sk_err, "sock", &["sk_err"]),
    (|o| &mut o.sk_ack_backlog, "sock", &["sk_ack_backlog"]),
    (|o| &mut o.sk_max_ack_backlog, "sock", &["sk_max_ack_backlog"]),
    (|o| &mut o.sk_drops, "sock", &["sk_drops"]),
    (|o| &mut o.sk_socket, "sock", &["sk_socket"]),
    (|o| &mut o.sk_type, "sock", &["sk_type"]),
    (|o| &mut o.sk_protocol, "sock", &["sk_protocol"]),
    (|o| &mut o.tcp_packets_out, "tcp_sock", &["packets_out"]),
    (|o| &mut o.tcp_rcv_nxt, "tcp_sock", &["rcv_nxt"]),
    (|o| &mut o.unix_addr, "unix_sock", &["addr"]),
    (|o| &mut o.unix_peer, "unix_sock", &["peer"]),
    (|o| &mut o.unix_address_len, "unix_address", &["len"]),
    (|o| &mut o.unix_address_name, "unix_address", &["name"]),
    (|o| &mut o.socket_sk, "socket", &["sk"]),
    (|o| &mut o.socket_file, "socket", &["file"]),
    (|o| &mut o.socket_ino, "socket_alloc", &["vfs_inode", "i_ino"]),
    (|o| &mut o.net_inum, "net", &["ns", "inum"]),
    (|o| &mut o.net_statistics, "net", &["mib", "net_statistics"]),
    (|o| &mut o.task_files, "task_struct", &["files"]),
    (|o| &mut o.task_group_leader, "task_struct", &["group_leader"]),
    (|o| &mut o.task_start_boottime, "task_struct", &["start_boottime"]),
    (|o| &mut o.task_tgid, "task_struct", &["tgid"]),
    (|o| &mut o.task_pid, "task_struct", &["pid"]),
    (|o| &mut o.task_comm, "task_struct", &["comm"]),
    (|o| &mut o.task_nvcsw, "task_struct", &["nvcsw"]),
    (|o| &mut o.task_cred, "task_struct", &["cred"]),
    (|o| &mut o.task_fs, "task_struct", &["fs"]),
    (|o| &mut o.task_nsproxy, "task_struct", &["nsproxy"]),
    (|o| &mut o.cred_cap_effective, "cred", &["cap_effective"]),
    (|o| &mut o.cred_fsuid, "cred", &["fsuid"]),
    (|o| &mut o.cred_fsgid, "cred", &["fsgid"]),
    (|o| &mut o.cred_group_info, "cred", &["group_info"]),
    (|o| &mut o.cred_user_ns, "cred", &["user_ns"]),
    (|o| &mut o.group_info_ngroups, "group_info", &["ngroups"]),
    (|o| &mut o.user_ns_inum, "user_namespace", &["ns", "inum"]),
    (|o| &mut o.fs_root_dentry, "fs_struct", &["root", "dentry"]),
    (|o| &mut o.fs_pwd_dentry, "fs_struct", &["pwd", "dentry"]),
    (|o| &mut o.dentry_inode, "dentry", &["d_inode"]),
    (|o| &mut o.inode_ino, "inode", &["i_ino"]),
    (|o| &mut o.nsproxy_mnt_ns, "nsproxy", &["mnt_ns"]),
    (|o| &mut o.nsproxy_net_ns, "nsproxy", &["net_ns"]),
    (|o| &mut o.mnt_ns_inum, "mnt_namespace", &["ns", "inum"]),
    (|o| &mut o.files_fdt, "files_struct", &["fdt"]),
    (|o| &mut o.fdt_max_fds, "fdtable", &["max_fds"]),
    (|o| &mut o.fdt_fd, "fdtable", &["fd"]),
    (|o| &mut o.file_private_data, "file", &["private_data"]),
    (|o| &mut o.file_inode, "file", &["f_inode"]),
    (|o| &mut o.file_flags, "file", &["f_flags"]),
    (|o| &mut o.skb_head, "sk_buff", &["head"]),
    (|o| &mut o.skb_end, "sk_buff", &["end"]),
    (|o| &mut o.shinfo_gso_segs, "skb_shared_info", &["gso_segs"]),
    (|o| &mut o.skb_network_header, "sk_buff", &["network_header"]),
    (|o| &mut o.skb_transport_header, "sk_buff", &["transport_header"]),
];

/// `include/uapi/linux/snmp.h`: an anonymous enum that begins with `LINUX_MIB_NUM`.
const MIB: &[&str] = &[
    "LINUX_MIB_LISTENOVERFLOWS",
    "LINUX_MIB_LISTENDROPS",
    "LINUX_MIB_TCPREQQFULLDROP",
    "LINUX_MIB_TCPREQQFULLDOCOOKIES",
];

const IO_KIOCB: &str = "io_kiocb";
const IO_LISTEN: &str = "io_listen";
const MPTCP_SOCK: &str = "mptcp_sock";
const DROP_REASON: &str = "skb_drop_reason";

/// Every type that is asked for by its name.
pub(super) fn names<'a>() -> impl Iterator<Item = &'a str> {
    FIELDS.iter().map(|(_, structure, _)| *structure).chain([
        IO_KIOCB,
        IO_LISTEN,
        MPTCP_SOCK,
        DROP_REASON,
    ])
}

/// Resolves every offset, and takes over the symbols that are known.
pub fn resolve_offsets(btf: &KernelBtf, symbols: &Symbols) -> Result<Offsets, OffsetsError> {
    let mut offsets = empty();
    offsets.per_cpu_offset = symbols.per_cpu_offset.as_ref().copied().unwrap_or(0);
    if let Ok([v4, v6]) = symbols.tcp_rcv {
        offsets.tcp_v4_rcv = v4;
        offsets.tcp_v6_rcv = v6;
    }
    for (slot, structure, members) in FIELDS {
        *slot(&mut offsets) = btf
            .field_offset(structure, members)
            .ok_or_else(|| OffsetsError { field: format!("{structure}.{}", members.join(".")) })?;
    }
    let mib = btf
        .anonymous_enum("LINUX_MIB_NUM", MIB)
        .ok_or_else(|| OffsetsError { field: MIB.join(", ") })?;
    if let [overflows, drops, syn_queue, cookies] = mib[..] {
        offsets.mib_listen_overflows = overflows;
        offsets.mib_listen_drops = drops;
        offsets.mib_reqq_full_drop = syn_queue;
        offsets.mib_reqq_full_cookies = cookies;
    }
    offsets.io_kiocb_file = btf.field_offset(IO_KIOCB, &["file"]).unwrap_or(ABSENT);
    if let Some([_, result, backlog]) = listen_request(btf) {
        (offsets.io_kiocb_result, offsets.io_listen_backlog) = (result, backlog);
    }
    offsets.mptcp_first = btf.field_offset(MPTCP_SOCK, &["first"]).unwrap_or(ABSENT);
    offsets.reason_listen_overflow =
        btf.enum_value(DROP_REASON, "SKB_DROP_REASON_TCP_LISTEN_OVERFLOW").unwrap_or(ABSENT);
    Ok(offsets)
}

/// Where an io_uring request has its file, its result and the backlog of a `listen()`; `None` before 6.11.
pub fn listen_request(btf: &KernelBtf) -> Option<[u32; 3]> {
    Some([
        btf.field_offset(IO_KIOCB, &["file"])?,
        btf.field_offset(IO_KIOCB, &["cqe", "res"])?,
        btf.field_offset(IO_LISTEN, &["backlog"])?,
    ])
}

/// Every slot set to [`ABSENT`].
const fn empty() -> Offsets {
    Offsets {
        per_cpu_offset: 0,
        tcp_v4_rcv: [0; 2],
        tcp_v6_rcv: [0; 2],
        skc_daddr: ABSENT,
        skc_rcv_saddr: ABSENT,
        skc_dport: ABSENT,
        skc_num: ABSENT,
        skc_family: ABSENT,
        skc_state: ABSENT,
        skc_net: ABSENT,
        skc_v6_daddr: ABSENT,
        skc_v6_rcv_saddr: ABSENT,
        sk_err: ABSENT,
        sk_ack_backlog: ABSENT,
        sk_max_ack_backlog: ABSENT,
        sk_drops: ABSENT,
        sk_socket: ABSENT,
        sk_type: ABSENT,
        sk_protocol: ABSENT,
        tcp_packets_out: ABSENT,
        tcp_rcv_nxt: ABSENT,
        unix_addr: ABSENT,
        unix_peer: ABSENT,
        unix_address_len: ABSENT,
        unix_address_name: ABSENT,
        socket_sk: ABSENT,
        socket_file: ABSENT,
        socket_ino: ABSENT,
        net_inum: ABSENT,
        net_statistics: ABSENT,
        task_files: ABSENT,
        task_group_leader: ABSENT,
        task_start_boottime: ABSENT,
        task_tgid: ABSENT,
        task_pid: ABSENT,
        task_comm: ABSENT,
        task_nvcsw: ABSENT,
        task_cred: ABSENT,
        task_fs: ABSENT,
        task_nsproxy: ABSENT,
        cred_cap_effective: ABSENT,
        cred_fsuid: ABSENT,
        cred_fsgid: ABSENT,
        cred_group_info: ABSENT,
        cred_user_ns: ABSENT,
        group_info_ngroups: ABSENT,
        user_ns_inum: ABSENT,
        fs_root_dentry: ABSENT,
        fs_pwd_dentry: ABSENT,
        dentry_inode: ABSENT,
        inode_ino: ABSENT,
        nsproxy_mnt_ns: ABSENT,
        nsproxy_net_ns: ABSENT,
        mnt_ns_inum: ABSENT,
        files_fdt: ABSENT,
        fdt_max_fds: ABSENT,
        fdt_fd: ABSENT,
        file_private_data: ABSENT,
        file_inode: ABSENT,
        file_flags: ABSENT,
        mptcp_first: ABSENT,
        io_kiocb_file: ABSENT,
        io_kiocb_result: ABSENT,
        io_listen_backlog: ABSENT,
        skb_head: ABSENT,
        skb_end: ABSENT,
        shinfo_gso_segs: ABSENT,
        skb_network_header: ABSENT,
        skb_transport_header: ABSENT,
        mib_listen_overflows: ABSENT,
        mib_listen_drops: ABSENT,
        mib_reqq_full_drop: ABSENT,
        mib_reqq_full_cookies: ABSENT,
        reason_listen_overflow: ABSENT,
        pad: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_resolves() {
        let btf = KernelBtf::open(None).expect("the running kernel has BTF");
        let symbols = Symbols::read(std::path::Path::new("/no/such/file"));
        let offsets = resolve_offsets(&btf, &symbols).expect("the running kernel is supported");
        // The same on every kernel from 5.10 to 7.2.
        assert_eq!((offsets.skc_daddr, offsets.skc_family, offsets.skc_net), (0, 16, 48));
        assert_ne!(offsets.mib_listen_drops, ABSENT);
    }
}
