//! What the other side, or the network, answers or does not.

use super::{ACCEPT, NO_COMMAND, NO_RULE, TCP, place};
use crate::diagnose::explain::Entry;

pub(super) const TABLE: &[Entry] = &[
    Entry {
        name: "ETIMEDOUT",
        also: &[],
        about: "no answer came",
        places: &[
            place(
                TCP,
                "tcp_write_timeout(), net/ipv4/tcp_timer.c",
                "The first packet (SYN) was repeated net.ipv4.tcp_syn_retries times (6 unless set), and \
                 nothing came back, or TCP_USER_TIMEOUT is over. If an ICMP error came meanwhile that \
                 was not final, that error is reported instead.",
            ),
            place(
                TCP,
                "tcp_conn_request(), net/ipv4/tcp_input.c",
                "On the listener's host: its accept queue is longer than the backlog, so each SYN is \
                 dropped without an answer.",
            ),
        ],
        sees: "A blocking connect() returns -1 after minutes; a non-blocking one tells by poll() and \
               SO_ERROR. Programs with a timeout of their own give up earlier, and the kernel tells nothing.",
        differs: "A Unix connect never answers it: it sleeps as long as the backlog is full, or answers \
                  EAGAIN.",
        rules: NO_RULE,
        commands: &[
            ("ss -tn state syn-sent", "connects that wait for an answer now"),
            (
                "nstat -az TcpExtListenOverflows TcpExtListenDrops",
                "drops by full queues on this host",
            ),
            ("tcpdump -ni any 'tcp[tcpflags] & tcp-syn != 0'", "whether an answer comes"),
        ],
    },
    Entry {
        name: "ENETUNREACH",
        also: &[],
        about: "there is no route to that network",
        places: &[
            place(
                TCP,
                "ip_route_output_key_hash(), net/ipv4/route.c; ip6_route_output_flags(), net/ipv6/route.c",
                "No route of the client's network namespace fits the target; no packet is sent.",
            ),
            place(
                TCP,
                "tcp_v4_connect(), net/ipv4/tcp_ipv4.c; tcp_v6_connect(), net/ipv6/tcp_ipv6.c",
                "The target is a multicast or (IPv4) broadcast address; or it is IPv4 and the socket is \
                 for IPv6 only.",
            ),
            place(
                TCP,
                "tcp_v4_err(), net/ipv4/tcp_ipv4.c",
                "A router answered with ICMP network unreachable.",
            ),
        ],
        sees: "connect() returns -1 at once, or later if a router answered.",
        differs: "Only TCP.",
        rules: NO_RULE,
        commands: &[
            ("ip route get ADDRESS", "the route that applies"),
            ("nsenter -t PID -n ip route get ADDRESS", "the same in the client's namespace"),
        ],
    },
    Entry {
        name: "EHOSTUNREACH",
        also: &[],
        about: "the host cannot be reached",
        places: &[
            place(
                TCP,
                "ipv4_link_failure(), net/ipv4/route.c",
                "The neighbour (the host, or the gateway to it) answers no ARP.",
            ),
            place(
                TCP,
                "tcp_v4_err(), net/ipv4/tcp_ipv4.c",
                "A router or firewall answered with ICMP host unreachable, or that it is prohibited, or \
                 with time exceeded.",
            ),
            place(
                TCP,
                "ip_route_output_key_hash(), net/ipv4/route.c",
                "The route to the target is one of type unreachable.",
            ),
        ],
        sees: "connect() returns -1: at once for a route, after some seconds for a neighbour.",
        differs: "Only TCP.",
        rules: NO_RULE,
        commands: &[
            ("ip neigh", "neighbours that FAILED"),
            ("ip route get ADDRESS", "the route that applies"),
        ],
    },
    Entry {
        name: "ECONNRESET",
        also: &[],
        about: "the other side broke it off",
        places: &[
            place(
                TCP,
                "tcp_reset(), net/ipv4/tcp_input.c",
                "A reset came after the handshake, before a blocking connect() returned: the listener's \
                 queue was full and net.ipv4.tcp_abort_on_overflow is on, or the listener was closed.",
            ),
            place(
                "read, write",
                "tcp_reset(), net/ipv4/tcp_input.c",
                "The same later: the peer closed with data unread, or a listener was closed with the \
                 connection in its queue.",
            ),
            place(
                "read, write",
                "unix_release_sock(), net/unix/af_unix.c",
                "A Unix listener was closed with the connection in its queue, or the peer closed with \
                 data unread.",
            ),
        ],
        sees: "Mostly not connect() but the first read() or write() fails: the client was connected, and \
               nobody had accepted.",
        differs: "A Unix connect() never answers it. A reset in the first step of TCP is ECONNREFUSED.",
        rules: NO_RULE,
        commands: &[
            ("nstat -az TcpExtTCPAbortOnClose TcpExtListenOverflows", "resets and overflows here"),
            ("sysctl net.ipv4.tcp_abort_on_overflow", "whether a full queue answers with a reset"),
        ],
    },
    Entry {
        name: "ECONNABORTED",
        also: &[],
        about: "the connection is gone, and no error says why",
        places: &[
            place(
                TCP,
                "__inet_stream_connect(), net/ipv4/af_inet.c",
                "The attempt failed while connect() slept, and its error was fetched elsewhere \
                 (SO_ERROR in another thread).",
            ),
            place(
                TCP,
                "tcp_abort(), net/ipv4/tcp.c",
                "An administrator ended the connection (ss -K).",
            ),
            place(
                ACCEPT,
                "do_accept(), net/socket.c",
                "The peer's address was asked for, and the new socket has none any more. A connection \
                 that the client reset while it waited is not refused: accept() returns it, and its \
                 first read() fails.",
            ),
        ],
        sees: "The call returns -1; a server goes on with its next accept().",
        differs: "A Unix connect never answers it.",
        rules: NO_RULE,
        commands: NO_COMMAND,
    },
    Entry {
        name: "EPROTO",
        also: &[],
        about: "the other side, or a router, found the packet malformed",
        places: &[place(
            TCP,
            "tcp_v4_err(), net/ipv4/tcp_ipv4.c; icmpv6_err_convert(), net/ipv6/icmp.c",
            "An ICMP parameter problem came.",
        )],
        sees: "connect() returns -1. It is rare; accept(2) names it, and accept() does not answer it for TCP \
               and Unix on Linux.",
        differs: "Only TCP.",
        rules: NO_RULE,
        commands: &[("tcpdump -ni any icmp or icmp6", "who sends it")],
    },
    Entry {
        name: "EPIPE",
        also: &[],
        about: "nobody reads there any more",
        places: &[
            place(
                "write",
                "tcp_sendmsg(), net/ipv4/tcp.c; unix_stream_sendmsg(), net/unix/af_unix.c",
                "The socket, or its peer, was shut down or closed; SIGPIPE comes with it unless \
                 MSG_NOSIGNAL is given.",
            ),
            place(
                TCP,
                "__inet_stream_connect(), net/ipv4/af_inet.c",
                "Another thread disconnected the socket while connect() slept (6.7 and later, and \
                 back-ports).",
            ),
        ],
        sees: "A write() fails, mostly, and not connect(): the connection was there before.",
        differs: "",
        rules: NO_RULE,
        commands: NO_COMMAND,
    },
];
