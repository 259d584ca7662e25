//! How listeners are set up and named, and what they run out of.

use super::place;
use crate::diagnose::explain::Entry;

pub(super) const TABLE: &[Entry] = &[
    Entry {
        name: "stale-socket",
        also: &["stale"],
        about: "a Unix socket file that no socket is bound to",
        places: &[
            place(
                "Unix connect",
                "unix_find_socket_byinode(), net/unix/af_unix.c",
                "The kernel looks for a socket that is bound to the inode of the file, and finds none: \
                 ECONNREFUSED. close() and exit() do not remove the file.",
            ),
            place(
                "bind",
                "unix_bind_bsd(), net/unix/af_unix.c",
                "A file is there already: EADDRINUSE, stale or not.",
            ),
        ],
        sees: "Clients get ECONNREFUSED though the file exists; a server that does not unlink it first cannot \
               start.",
        differs: "Only paths. Abstract names and TCP ports go with their sockets.",
        rules: &["unix-stale-socket", "unix-replaced-socket", "unix-file-removed"],
        commands: &[
            ("socktrace diagnose PATH", "whether a socket is bound to the file, and who had it"),
            ("ss -xlp", "who listens under that name"),
        ],
    },
    Entry {
        name: "fd-limit",
        also: &["nofile", "accept_error"],
        about: "the server has no descriptor left for the connections that it accepts",
        places: &[
            place(
                "accept",
                "alloc_fd(), fs/file.c",
                "Every descriptor below the soft limit RLIMIT_NOFILE is in use: EMFILE. It fails before \
                 the queue is looked at.",
            ),
            place(
                "accept",
                "alloc_empty_file(), fs/file_table.c",
                "The whole host has fs.file-max files open: ENFILE.",
            ),
        ],
        sees: "accept() fails, the connection stays in the queue, and poll() says at once that there is one: a \
               server that only tries again takes a whole CPU, and its clients wait.",
        differs: "",
        rules: &["accept-out-of-descriptors", "host-out-of-files", "owner-out-of-descriptors"],
        commands: &[
            (
                "socktrace record -e EMFILE,ENFILE -d 30s",
                "who, how often, and what its descriptors are",
            ),
            ("ls /proc/PID/fd | wc -l", "descriptors in use"),
            ("grep 'open files' /proc/PID/limits", "soft and hard limit"),
        ],
    },
    Entry {
        name: "time-wait",
        also: &["timewait", "ports-exhausted"],
        about: "closed TCP connections hold local ports for 60 seconds",
        places: &[
            place(
                "TCP",
                "tcp_time_wait(), net/ipv4/tcp_minisocks.c",
                "The side that closes first keeps the connection's four numbers for 60 s \
                 (TCP_TIMEWAIT_LEN, no setting; net.ipv4.tcp_fin_timeout is about FIN-WAIT-2).",
            ),
            place(
                "TCP connect",
                "__inet_hash_connect(), net/ipv4/inet_hashtables.c",
                "A port of net.ipv4.ip_local_port_range is free towards a target if no connection to that \
                 address and port has it. One in TIME-WAIT counts as taken, unless \
                 net.ipv4.tcp_tw_reuse lets it be taken over: 2, its default, over the loopback only; 1 \
                 everywhere, with timestamps and after a second. If none is free: EADDRNOTAVAIL.",
            ),
        ],
        sees: "A client that opens and closes many short connections to one target gets EADDRNOTAVAIL; other \
               targets work. A server is not hindered: its listener has the one port.",
        differs: "Only TCP.",
        rules: &["tcp-ports-exhausted"],
        commands: &[
            ("ss -tan state time-wait dst ADDRESS | wc -l", "how many there are towards it"),
            ("sysctl net.ipv4.ip_local_port_range net.ipv4.tcp_tw_reuse", "the two settings"),
        ],
    },
    Entry {
        name: "reuseport",
        also: &["so-reuseport", "handover"],
        about: "several listeners share a TCP port, each with an accept queue of its own",
        places: &[
            place(
                "TCP",
                "reuseport_select_sock(), net/core/sock_reuseport.c",
                "The hash of the four numbers (or a BPF program) decides which listener of the group gets \
                 a connection, however full its queue is: one that does not accept drops its share, \
                 while the others are idle.",
            ),
            place(
                "TCP",
                "inet_csk_listen_stop(), net/ipv4/inet_connection_sock.c: reuseport_migrate_sock()",
                "When a listener of the group is closed, connections in its queue are reset; with \
                 net.ipv4.tcp_migrate_req=1 (5.14 and later) another one gets them.",
            ),
        ],
        sees: "A part of the clients waits or fails, always the same part while ports and addresses stay. \
               Connections are reset at each restart of a worker.",
        differs: "Only TCP and UDP: Unix sockets have nothing like it.",
        rules: &["tcp-accept-queue-full"],
        commands: &[
            ("socktrace listeners -P PORT", "each listener of the port with its queue and owner"),
            ("sysctl net.ipv4.tcp_migrate_req", "whether connections outlive their listener"),
        ],
    },
    Entry {
        name: "abstract-names",
        also: &["abstract", "abstract-name"],
        about: "names of Unix sockets without a file",
        places: &[
            place(
                "Unix connect",
                "unix_find_abstract(), net/unix/af_unix.c",
                "A name that begins with a zero byte is looked up in the table of the client's network \
                 namespace, with the type of its socket, by all bytes that the length of the address \
                 covers: a name that is filled up with zeros is another name. If there is none: \
                 ECONNREFUSED.",
            ),
            place(
                "Unix connect",
                "security_unix_stream_connect(), net/unix/af_unix.c",
                "There is no mode and no owner: anybody in that network namespace may connect, unless a \
                 security module forbids it.",
            ),
        ],
        sees: "A container with a network namespace of its own does not see the host's abstract names, and \
               the other way round; one that shares the host's sees all of them.",
        differs: "A path is looked up in the mount namespace instead, and works across network namespaces.",
        rules: &["abstract-other-network-namespace", "abstract-not-bound"],
        commands: &[
            (
                "socktrace listeners --unix --path '@*'",
                "abstract names that listen, in every namespace",
            ),
            ("ss -xl | grep @NAME", "in this namespace"),
            ("lsns -t net", "the network namespaces"),
        ],
    },
    Entry {
        name: "socket-activation",
        also: &["systemd", "sd-listen-fds"],
        about: "systemd listens, and starts the service when somebody connects",
        places: &[
            place(
                "TCP, Unix",
                "inet_csk_reqsk_queue_add(), net/ipv4/inet_connection_sock.c; unix_stream_connect(), \
                 net/unix/af_unix.c",
                "The kernel queues connections from the moment on that systemd has called listen(), whether \
                 the service runs or not: clients connect, and wait.",
            ),
            place(
                "Unix",
                "path_permission(), net/unix/af_unix.c",
                "The socket file has the owner and mode that the socket unit gives it (SocketUser=, \
                 SocketGroup=, SocketMode=, which is 0666 unless set), whatever the service does.",
            ),
        ],
        sees: "While the service starts, connections wait in the queue. If it fails again and again, systemd \
               gives up and closes the listener: clients get ECONNREFUSED, or ECONNRESET if they waited. \
               If the service binds a socket of its own there, it replaces systemd's.",
        differs: "",
        rules: &[
            "unix-socket-mode",
            "unix-stale-socket",
            "unix-no-such-path",
            "unix-replaced-socket",
        ],
        commands: &[
            ("systemctl list-sockets --all", "socket units, their addresses and services"),
            ("systemctl status UNIT.socket", "whether it listens, and why not"),
        ],
    },
];
