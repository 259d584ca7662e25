//! What is used up: queues, descriptors, memory, ports.

use super::{ACCEPT, NO_RULE, TCP, UNIX, place};
use crate::diagnose::explain::Entry;

pub(super) const TABLE: &[Entry] = &[
    Entry {
        name: "EAGAIN",
        also: &["EWOULDBLOCK"],
        about: "it would have to wait, and must not",
        places: &[
            place(
                UNIX,
                "unix_stream_connect(), net/unix/af_unix.c: unix_recvq_full()",
                "More connections than the backlog wait to be accepted (so backlog + 1 of them fit), and \
                 the client does not wait: its socket is non-blocking, or its SO_SNDTIMEO is over.",
            ),
            place(
                ACCEPT,
                "inet_csk_accept(), net/ipv4/inet_connection_sock.c; unix_accept(), net/unix/af_unix.c",
                "No connection waits, and the listener is non-blocking or its SO_RCVTIMEO is over. \
                 That is no error: it is how a loop over accept() ends.",
            ),
        ],
        sees: "connect(): the attempt is over, nothing is left in the kernel, and no poll() tells when there \
               is room: the program has to try again by itself. accept(): poll() tells when to call again.",
        differs: "A TCP connect() never answers it: a full accept queue drops packets instead, and the \
                  client only waits longer.",
        rules: NO_RULE,
        commands: &[("ss -xl", "Recv-Q (waiting now) and Send-Q (backlog) of Unix listeners")],
    },
    Entry {
        name: "EMFILE",
        also: &[],
        about: "the process has no descriptor left",
        places: &[place(
            ACCEPT,
            "__sys_accept4(), net/socket.c: get_unused_fd_flags(), fs/file.c: alloc_fd()",
            "Every descriptor below the soft limit (RLIMIT_NOFILE) is in use. The descriptor is taken \
             before the queue is looked at, so accept() fails at once even where nobody waits.",
        )],
        sees: "accept() returns -1 again and again. The connection stays in the queue, so poll() reports the \
               listener as ready again at once: a loop around it takes a whole CPU. Clients are connected, \
               and get no answer.",
        differs: "Nothing: the descriptor is taken before the protocol is asked.",
        rules: NO_RULE,
        commands: &[
            ("ls /proc/PID/fd | wc -l", "descriptors in use"),
            ("grep 'open files' /proc/PID/limits", "soft and hard limit"),
            ("prlimit --pid PID --nofile=N:N", "a new limit, while the process runs"),
        ],
    },
    Entry {
        name: "ENFILE",
        also: &[],
        about: "the host has no file or no Unix socket left",
        places: &[
            place(
                ACCEPT,
                "alloc_empty_file(), fs/file_table.c",
                "The host has fs.file-max files open, and the caller lacks CAP_SYS_ADMIN.",
            ),
            place(
                UNIX,
                "unix_create1(), net/unix/af_unix.c",
                "There are more than twice fs.file-max Unix sockets: connect() makes the server's end, \
                 too. So on 6.1 and later; 5.10 answers ENOMEM.",
            ),
            place(
                ACCEPT,
                "do_accept(), net/socket.c: sock_alloc()",
                "No inode could be made for the new socket.",
            ),
        ],
        sees: "The call returns -1; other processes fail to open files at the same time. A connection that \
               waits stays in its queue.",
        differs: "",
        rules: NO_RULE,
        commands: &[
            ("cat /proc/sys/fs/file-nr", "open files, unused ones, and the limit"),
            ("lsof -n | awk '{print $1}' | sort | uniq -c | sort -n", "who has them open"),
        ],
    },
    Entry {
        name: "ENOMEM",
        also: &[],
        about: "the kernel has no memory for it",
        places: &[
            place(
                UNIX,
                "unix_create1(), sock_wmalloc(), net/unix/af_unix.c",
                "The server's end of the connection could not be allocated; on 5.10 also where there \
                 are too many Unix sockets.",
            ),
            place(
                TCP,
                "tcp_v4_connect(), net/ipv4/tcp_ipv4.c",
                "Memory for the route or for the table of bound sockets could not be allocated.",
            ),
        ],
        sees: "The call returns -1. A memory limit of the cgroup counts: kernel memory of sockets is charged \
               to it.",
        differs: "",
        rules: NO_RULE,
        commands: &[
            ("cat /sys/fs/cgroup/PATH/memory.events", "whether the cgroup came to its limit"),
            ("dmesg", "failed allocations"),
        ],
    },
    Entry {
        name: "ENOBUFS",
        also: &[],
        about: "the kernel has no memory for a packet",
        places: &[place(
            TCP,
            "tcp_connect(), net/ipv4/tcp_output.c",
            "The buffer of the first packet could not be allocated.",
        )],
        sees: "connect() returns -1 at once.",
        differs: "A Unix connect answers ENOMEM instead.",
        rules: NO_RULE,
        commands: &[(
            "cat /proc/net/sockstat",
            "memory of TCP, in pages (net.ipv4.tcp_mem is its limit)",
        )],
    },
    Entry {
        name: "EADDRNOTAVAIL",
        also: &[],
        about: "no local address or port is left",
        places: &[
            place(
                TCP,
                "__inet_hash_connect(), net/ipv4/inet_hashtables.c",
                "Every port of net.ipv4.ip_local_port_range is in use towards that address and port \
                 (TIME-WAIT counts), or the socket is bound to a port that is.",
            ),
            place(
                TCP,
                "ip6_dst_lookup_flow(), net/ipv6/ip6_output.c",
                "No IPv6 source address of the host fits the target.",
            ),
        ],
        sees: "connect() returns -1 at once; connects to other targets go on working.",
        differs: "Only TCP.",
        rules: NO_RULE,
        commands: &[
            ("ss -tan dst ADDRESS", "connections towards it, with their states"),
            ("sysctl net.ipv4.ip_local_port_range", "the ports that the kernel may choose"),
        ],
    },
];
