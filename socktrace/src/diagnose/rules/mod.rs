//! The rules, in the order in which the kernel comes to decide: the first that finds something explains
//! the incident, what comes after stands in the way, too.

mod accept;
mod listener;
mod owner;
mod security;
mod tcp;
mod unix_access;
mod unix_path;
mod unix_socket;
pub(super) mod words;

#[cfg(test)]
mod told_apart;

pub(super) use listener::stood;
use nix::errno::Errno;
pub(super) use tcp::met_alone;

use super::{
    case::Case,
    listener::ListenerCase,
    rule::{Described, Rule, Step},
};

/// A rule to whose findings a report adds for how long the queue has stood.
pub(super) const BACKLOG_FULL: &str = "unix-backlog-full";
/// Another one.
pub(super) const ACCEPT_QUEUE_FULL: &str = "tcp-accept-queue-full";

/// Every rule of reports, those of failures first.
pub fn all() -> impl Iterator<Item = Described> {
    TABLE.iter().map(Rule::describe).chain(LISTENER_TABLE.iter().map(Rule::describe))
}

/// Of failures.
pub const TABLE: &[Rule<Case>] = &[
    Rule {
        name: "unix-path-too-long",
        about: "the address is longer than a Unix address can be",
        errnos: &[Errno::EINVAL],
        step: Step::Path,
        source: "unix_validate_addr(), sockaddr_un: 108 bytes of path",
        decide: unix_path::too_long,
    },
    Rule {
        name: "unix-not-a-directory",
        about: "a component that the path goes through is no directory",
        errnos: &[Errno::ENOTDIR],
        step: Step::Path,
        source: "link_path_walk()",
        decide: unix_path::not_a_directory,
    },
    Rule {
        name: "unix-symlink-loop",
        about: "the path has more than 40 symbolic links, or they lead in a circle",
        errnos: &[Errno::ELOOP],
        step: Step::Path,
        source: "pick_link(), MAXSYMLINKS",
        decide: unix_path::symlink_loop,
    },
    Rule {
        name: "unix-parent-no-search",
        about: "the client may not search a directory on the path",
        errnos: &[Errno::EACCES],
        step: Step::Path,
        source: "may_lookup()",
        decide: unix_access::parent_no_search,
    },
    Rule {
        name: "unix-protected-symlink",
        about: "a symbolic link of somebody else in a sticky directory that everybody may write to",
        errnos: &[Errno::EACCES],
        step: Step::Path,
        source: "may_follow_link(), fs.protected_symlinks",
        decide: unix_access::protected_symlink,
    },
    Rule {
        name: "unix-socket-mode",
        about: "the socket file's mode does not let the client write",
        errnos: &[Errno::EACCES],
        step: Step::Path,
        source: "unix_find_bsd(): path_permission(MAY_WRITE)",
        decide: unix_access::socket_mode,
    },
    Rule {
        name: "unix-acl",
        about: "a POSIX ACL denies the client, on the socket file or on a directory of the path",
        errnos: &[Errno::EACCES],
        step: Step::Path,
        source: "posix_acl_permission()",
        decide: unix_access::acl,
    },
    Rule {
        name: "unix-immutable",
        about: "the socket file is immutable, so nobody may connect",
        errnos: &[Errno::EPERM],
        step: Step::Path,
        source: "inode_permission()",
        decide: unix_access::immutable,
    },
    Rule {
        name: "unix-no-such-path",
        about: "a component of the path does not exist, and nobody listens under that name elsewhere",
        errnos: &[Errno::ENOENT],
        step: Step::Path,
        source: "unix_find_bsd(): kern_path()",
        decide: unix_path::missing,
    },
    Rule {
        name: "unix-file-removed",
        about: "somebody listens under that name, but the file is gone",
        errnos: &[Errno::ENOENT],
        step: Step::Sockets,
        source: "unix_find_bsd(): kern_path()",
        decide: unix_socket::file_removed,
    },
    Rule {
        name: "unix-not-a-socket",
        about: "the path leads to something that is no socket",
        errnos: &[Errno::ECONNREFUSED],
        step: Step::Path,
        source: "unix_find_bsd(): S_ISSOCK()",
        decide: unix_path::not_a_socket,
    },
    Rule {
        name: "unix-replaced-socket",
        about: "somebody listens under that name, but the file there is another",
        errnos: &[Errno::ECONNREFUSED],
        step: Step::Sockets,
        source: "unix_find_socket_byinode()",
        decide: unix_socket::replaced,
    },
    Rule {
        name: "unix-other-mount-namespace",
        about: "somebody listens on that path in another mount namespace",
        errnos: &[Errno::ENOENT, Errno::ECONNREFUSED],
        step: Step::Sockets,
        source: "unix_find_bsd(): kern_path() in the client's own tree",
        decide: unix_socket::other_mount_namespace,
    },
    Rule {
        name: "unix-stale-socket",
        about: "the socket file was left behind: no socket is bound to it",
        errnos: &[Errno::ECONNREFUSED],
        step: Step::Sockets,
        source: "unix_find_socket_byinode()",
        decide: unix_socket::stale,
    },
    Rule {
        name: "unix-wrong-type",
        about: "the socket there is of another type",
        errnos: &[Errno::EPROTOTYPE, Errno::ECONNREFUSED],
        step: Step::Sockets,
        source: "unix_find_bsd(); unix_abstract_hash(), which the type goes into",
        decide: unix_socket::wrong_type,
    },
    Rule {
        name: "unix-not-listening",
        about: "the socket there is bound, and does not listen",
        errnos: &[Errno::ECONNREFUSED],
        step: Step::Sockets,
        source: "unix_stream_connect(): TCP_LISTEN",
        decide: unix_socket::not_listening,
    },
    Rule {
        name: "unix-shut-down",
        about: "the listener there was shut down",
        errnos: &[Errno::ECONNREFUSED],
        step: Step::Sockets,
        source: "unix_stream_connect(): RCV_SHUTDOWN",
        decide: unix_socket::shut_down,
    },
    Rule {
        name: BACKLOG_FULL,
        about: "the listener's backlog is full, and the client does not wait, or no longer (SO_SNDTIMEO)",
        errnos: &[Errno::EAGAIN],
        step: Step::Queue,
        source: "unix_stream_connect(): unix_recvq_full()",
        decide: unix_socket::backlog_full,
    },
    Rule {
        name: "abstract-other-network-namespace",
        about: "the abstract name is bound in another network namespace",
        errnos: &[Errno::ECONNREFUSED],
        step: Step::Sockets,
        source: "unix_find_abstract(): one table per network namespace",
        decide: unix_socket::abstract_elsewhere,
    },
    Rule {
        name: "abstract-not-bound",
        about: "no socket has that abstract name",
        errnos: &[Errno::ECONNREFUSED],
        step: Step::Sockets,
        source: "unix_find_abstract()",
        decide: unix_socket::abstract_unbound,
    },
    Rule {
        name: "security-module",
        about: "nothing else would deny it (mode, owner and ACLs of a path, routes): a security module does",
        errnos: &[Errno::EACCES, Errno::EPERM],
        step: Step::Security,
        source: "security_inode_permission(), security_unix_stream_connect(), security_unix_may_send(), \
                 security_socket_connect()",
        decide: security::security_module,
    },
    Rule {
        name: "unix-peer-taken",
        about: "the datagram socket there is connected to somebody else",
        errnos: &[Errno::EPERM],
        step: Step::Sockets,
        source: "unix_dgram_connect(): unix_may_send()",
        decide: unix_socket::peer_taken,
    },
    Rule {
        name: "tcp-listens-in-other-namespace",
        about: "nobody listens there in the client's network namespace, but somebody does in another",
        errnos: &[Errno::ECONNREFUSED],
        step: Step::Sockets,
        source: "tcp_v4_rcv(), tcp_v6_rcv(): no socket, tcp_v4_send_reset()",
        decide: tcp::other_namespace,
    },
    Rule {
        name: "tcp-listens-on-other-address",
        about: "nobody listens on that address, but somebody does there on another with the same port",
        errnos: &[Errno::ECONNREFUSED],
        step: Step::Sockets,
        source: "inet_lookup_listener(), inet6_lookup_listener()",
        decide: tcp::other_address,
    },
    Rule {
        name: "tcp-nobody-listens",
        about: "nobody listens on that port of this host, or of its network namespace that has the address",
        errnos: &[Errno::ECONNREFUSED],
        step: Step::Sockets,
        source: "inet_lookup_listener(), inet6_lookup_listener()",
        decide: tcp::nobody,
    },
    Rule {
        name: "tcp-refused-though-listening",
        about: "somebody listens there now: a firewall rejected it, or it began to listen later",
        errnos: &[Errno::ECONNREFUSED],
        step: Step::Sockets,
        source: "icmp_unreach(): ICMP_PORT_UNREACH",
        decide: tcp::refused_though_listening,
    },
    Rule {
        name: "tcp-refused-by-peer",
        about: "the target is another host, which answered with a reset",
        errnos: &[Errno::ECONNREFUSED],
        step: Step::Route,
        source: "tcp_reset()",
        decide: tcp::refused_by_peer,
    },
    Rule {
        name: ACCEPT_QUEUE_FULL,
        about: "the listener is on this host, and its accept queue is full",
        errnos: &[Errno::ETIMEDOUT, Errno::ECONNRESET],
        step: Step::Queue,
        source: "tcp_conn_request(): sk_acceptq_is_full()",
        decide: tcp::accept_queue_full,
    },
    Rule {
        name: "tcp-no-route",
        about: "the client's namespace has no route to the target",
        errnos: &[Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::EACCES, Errno::EINVAL],
        step: Step::Route,
        source: "ip_route_output_key()",
        decide: tcp::no_route,
    },
    Rule {
        name: "tcp-no-answer",
        about: "nothing answered, and no listener of this host is known to be the reason",
        errnos: &[Errno::ETIMEDOUT, Errno::EHOSTUNREACH],
        step: Step::Route,
        source: "tcp_write_timeout(), icmp_unreach()",
        decide: tcp::no_answer,
    },
    Rule {
        name: "tcp-ports-exhausted",
        about: "every local port towards the target is in use",
        errnos: &[Errno::EADDRNOTAVAIL],
        step: Step::Ports,
        source: "__inet_hash_connect(), net.ipv4.ip_local_port_range",
        decide: tcp::ports_exhausted,
    },
    Rule {
        name: "owner-held-up",
        about: "the listener's owner is stopped, frozen, throttled, short of memory or out of descriptors",
        errnos: &[Errno::EAGAIN, Errno::ETIMEDOUT, Errno::ECONNRESET],
        step: Step::Owners,
        source: "do_task_stat(), cgroup.freeze, cpu.stat, memory.pressure, RLIMIT_NOFILE",
        decide: owner::held_up,
    },
    Rule {
        name: "owner-not-activated",
        about: "connections wait at a socket of systemd, and the service that is to accept them does not run",
        errnos: &[Errno::EAGAIN, Errno::ETIMEDOUT, Errno::ECONNRESET],
        step: Step::Owners,
        source: "systemd.socket(5): Service=; sk_ack_backlog",
        decide: owner::not_activated,
    },
    Rule {
        name: "owner-never-accepts",
        about: "connections wait, and those who hold the listener, inherited or passed, do not accept",
        errnos: &[Errno::EAGAIN, Errno::ETIMEDOUT, Errno::ECONNRESET],
        step: Step::Owners,
        source: "proc_pid_syscall(), inet_csk_accept(), unix_accept()",
        decide: owner::never_accepts,
    },
    Rule {
        name: "accept-out-of-descriptors",
        about: "the process has no descriptor left for a connection",
        errnos: &[Errno::EMFILE],
        step: Step::Descriptors,
        source: "alloc_fd(), RLIMIT_NOFILE",
        decide: accept::out_of_descriptors,
    },
    Rule {
        name: "host-out-of-files",
        about: "the host has as many files open as fs.file-max allows",
        errnos: &[Errno::ENFILE],
        step: Step::Descriptors,
        source: "alloc_empty_file(), fs.file-max",
        decide: accept::out_of_files,
    },
];

/// Of listeners.
pub const LISTENER_TABLE: &[Rule<ListenerCase>] = &[
    Rule {
        name: "owner-stopped",
        about: "connections wait, and a signal or a debugger has stopped the owner",
        errnos: &[],
        step: Step::Owners,
        source: "do_signal_stop(), ptrace_stop()",
        decide: listener::owner_stopped,
    },
    Rule {
        name: "owner-frozen",
        about: "connections wait, and the owner's cgroup is frozen",
        errnos: &[],
        step: Step::Owners,
        source: "cgroup_freeze()",
        decide: listener::owner_frozen,
    },
    Rule {
        name: "owner-out-of-descriptors",
        about: "connections wait, and the owner has no descriptor left for them",
        errnos: &[],
        step: Step::Owners,
        source: "alloc_fd(), RLIMIT_NOFILE",
        decide: listener::owner_out_of_descriptors,
    },
    Rule {
        name: "owner-throttled",
        about: "connections wait, and the CPU quota of the owner's cgroup holds it up",
        errnos: &[],
        step: Step::Owners,
        source: "throttle_cfs_rq(), cpu.stat",
        decide: listener::owner_throttled,
    },
    Rule {
        name: "owner-short-of-memory",
        about: "connections wait, and the owner's cgroup, or TCP on the whole host, is short of memory",
        errnos: &[],
        step: Step::Owners,
        source: "psi_memstall_enter(), mem_cgroup_handle_over_high(), sk_stream_wait_memory()",
        decide: listener::owner_short_of_memory,
    },
    Rule {
        name: "owner-busy",
        about: "connections wait, and the owner runs something else",
        errnos: &[],
        step: Step::Owners,
        source: "do_task_stat()",
        decide: listener::owner_busy,
    },
    Rule {
        name: "owner-asleep",
        about: "connections wait, and the owner sleeps elsewhere",
        errnos: &[],
        step: Step::Owners,
        source: "proc_pid_syscall(), proc_pid_wchan()",
        decide: listener::owner_asleep,
    },
    Rule {
        name: "owner-never-accepted",
        about: "connections wait, nobody has accepted since listen(), and who called it holds the listener no more",
        errnos: &[],
        step: Step::Owners,
        source: "inet_csk_listen_start(), unix_listen(), inet_csk_accept(), unix_accept()",
        decide: listener::never_accepted,
    },
    Rule {
        name: "accept-stall",
        about: "connections wait, and nothing is known of the owner",
        errnos: &[],
        step: Step::Queue,
        source: "sk_ack_backlog",
        decide: listener::stalled,
    },
    Rule {
        name: "accept-queue-full",
        about: "connections were thrown away because the accept queue was full: slow acceptor, small backlog or somaxconn",
        errnos: &[],
        step: Step::Queue,
        source: "tcp_conn_request(), tcp_v4_syn_recv_sock(): sk_acceptq_is_full()",
        decide: listener::accept_queue_full,
    },
    Rule {
        name: "unix-clients-turned-away",
        about: "clients that do not wait, or no longer, found the backlog full",
        errnos: &[],
        step: Step::Queue,
        source: "unix_stream_connect(): unix_recvq_full()",
        decide: listener::unix_backlog_full,
    },
    Rule {
        name: "syn-queue-full",
        about: "requests were thrown away because the SYN queue was full: SYN flood or slow acceptor",
        errnos: &[],
        step: Step::Queue,
        source: "tcp_conn_request(): inet_csk_reqsk_queue_is_full()",
        decide: listener::syn_queue_full,
    },
    Rule {
        name: "thrown-away-otherwise",
        about: "connections were thrown away for another reason than room",
        errnos: &[],
        step: Step::Queue,
        source: "tcp_conn_request(), tcp_check_req()",
        decide: listener::thrown_otherwise,
    },
    Rule {
        name: "listener-closed",
        about: "it was closed with connections in its queue",
        errnos: &[],
        step: Step::Queue,
        source: "inet_csk_listen_stop(), unix_release_sock()",
        decide: listener::closed,
    },
    Rule {
        name: "syncookies",
        about: "requests were answered with syncookies",
        errnos: &[],
        step: Step::Queue,
        source: "tcp_conn_request(): cookie_init_sequence()",
        decide: listener::syncookies,
    },
    Rule {
        name: "slow-accepts",
        about: "connections waited long before they were accepted",
        errnos: &[],
        step: Step::Queue,
        source: "inet_csk_accept(), unix_accept()",
        decide: listener::slow,
    },
];
