//! Who acted and on which address: the identities inside keys and events.

use crate::wire;

wire! { 16,
/// A process: its pid alone would name a later process, too, once the pid is used again.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "loader", derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema))]
pub struct TaskKey {
    /// Start of the thread group's leader, nanoseconds since boot (`task_struct.start_boottime`);
    /// 0 where no process is known.
    pub start_ns: u64,
    /// Thread group id in the initial pid namespace; 0 where no process is known.
    #[cfg_attr(feature = "loader", serde(rename = "pid"))]
    pub tgid: u32,
    /// Always 0.
    #[cfg_attr(feature = "loader", serde(skip))]
    pub pad: u32,
}}

impl TaskKey {
    /// No process: a softirq did it, or nobody knows.
    pub const NONE: Self = Self { start_ns: 0, tgid: 0, pad: 0 };
}

wire! { 56,
/// The task on whose behalf something happened, as it was at that moment.
pub struct Actor {
    /// The process.
    pub task: TaskKey,
    /// Thread id; 0 where no process is known.
    pub tid: u32,
    /// Real uid in the initial user namespace.
    pub uid: u32,
    /// Real gid in the initial user namespace.
    pub gid: u32,
    /// Always 0.
    pub pad: u32,
    /// Inode of the task's cgroup v2 directory; 0 without one.
    pub cgroup: u64,
    /// `comm` of the thread group's leader, NUL-padded.
    pub comm: [u8; 16],
}}

impl Actor {
    /// No task at all.
    pub const NONE: Self =
        Self { task: TaskKey::NONE, tid: 0, uid: 0, gid: 0, pad: 0, cgroup: 0, comm: [0; 16] };
}

wire! { 56,
/// What decides over a path, of the task that called `connect()`, as it was when the call returned.
#[derive(PartialEq, Eq, Hash)]
#[cfg_attr(feature = "loader", derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema))]
pub struct Credentials {
    /// `cred.cap_effective`, bit n is capability n.
    pub cap_effective: u64,
    /// Inode number of its root directory; 0 where nothing was captured.
    pub root: u64,
    /// Inode number of its working directory.
    pub cwd: u64,
    /// `cred.fsuid` in the initial user namespace.
    pub fsuid: u32,
    /// `cred.fsgid` in the initial user namespace.
    pub fsgid: u32,
    /// How many supplementary groups it has.
    pub groups: u32,
    /// Inode of its user namespace.
    pub user_namespace: u32,
    /// Inode of its mount namespace.
    pub mount_namespace: u32,
    /// Inode of its network namespace, which need not be the socket's.
    pub net_namespace: u32,
    /// Length of the address that it passed; 0 where that is unknown.
    pub address_len: u32,
    /// Always 0.
    #[cfg_attr(feature = "loader", serde(skip))]
    pub pad: u32,
}}

impl Credentials {
    /// Nothing was captured.
    pub const NONE: Self = Self {
        cap_effective: 0,
        root: 0,
        cwd: 0,
        fsuid: 0,
        fsgid: 0,
        groups: 0,
        user_namespace: 0,
        mount_namespace: 0,
        net_namespace: 0,
        address_len: 0,
        pad: 0,
    };
}

wire! { 120,
/// A socket address of any family that socktrace knows.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// `AF_UNIX`, `AF_INET` or `AF_INET6`; 0 where unknown.
    pub family: u16,
    /// `SOCK_STREAM`, `SOCK_DGRAM` or `SOCK_SEQPACKET`; 0 where unknown.
    pub kind: u16,
    /// TCP port in host order; 0 for Unix.
    pub port: u16,
    /// Bytes used in `addr`; 0 where the address is unknown or (Unix) unnamed.
    pub len: u16,
    /// IPv4 (4), IPv6 (16), or `sun_path` (up to 108; a leading NUL is an abstract name).
    pub addr: [u8; 112],
}}

impl Endpoint {
    /// No address.
    pub const NONE: Self = Self { family: 0, kind: 0, port: 0, len: 0, addr: [0; 112] };
}
