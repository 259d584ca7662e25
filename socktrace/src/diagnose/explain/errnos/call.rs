//! What is wrong with the call itself, or no failure at all.

use super::{ACCEPT, CONNECT, NO_COMMAND, NO_RULE, TCP, UNIX, place};
use crate::diagnose::explain::Entry;

pub(super) const TABLE: &[Entry] = &[
    Entry {
        name: "EINVAL",
        also: &[],
        about: "the call makes no sense as it is",
        places: &[
            place(
                UNIX,
                "unix_validate_addr(), net/unix/af_unix.c",
                "The address is not longer than its family (2 bytes), is longer than 110 bytes, or is of \
                 another family than AF_UNIX.",
            ),
            place(
                UNIX,
                "unix_stream_connect(), net/unix/af_unix.c",
                "The client's own socket listens.",
            ),
            place(
                TCP,
                "tcp_v4_connect(), net/ipv4/tcp_ipv4.c; tcp_v6_connect(), net/ipv6/tcp_ipv6.c",
                "The address is too short; or it is an IPv6 link-local one, and no interface is given \
                 for it.",
            ),
            place(
                TCP,
                "ip_route_output_key_hash(), net/ipv4/route.c",
                "The route to the target is one of type blackhole.",
            ),
            place(
                CONNECT,
                "move_addr_to_kernel(), net/socket.c",
                "The length of the address is negative or larger than 128.",
            ),
            place(
                ACCEPT,
                "inet_csk_accept(), net/ipv4/inet_connection_sock.c; unix_accept(), net/unix/af_unix.c",
                "The socket does not listen, or no longer does: shutdown() wakes those that sleep in \
                 accept() with it. Flags of accept4() that do not exist answer it too.",
            ),
        ],
        sees: "The call returns -1 at once; accept() may have slept before.",
        differs: "A TCP socket that listens answers EISCONN to connect(), a Unix one EINVAL.",
        rules: NO_RULE,
        commands: &[(
            "strace -e trace=connect,accept,accept4 -p PID",
            "the address as it is passed",
        )],
    },
    Entry {
        name: "EISCONN",
        also: &[],
        about: "the socket is connected already",
        places: &[
            place(
                UNIX,
                "unix_stream_connect(), net/unix/af_unix.c",
                "The client's socket is connected. The target is looked up first, so a bad one gives its \
                 own errno.",
            ),
            place(
                TCP,
                "__inet_stream_connect(), net/ipv4/af_inet.c",
                "The socket is connected, or listens. Once a non-blocking connect() has succeeded, the \
                 next call returns 0, and those after it EISCONN.",
            ),
        ],
        sees: "connect() returns -1 at once, and the connection that is there is as it was.",
        differs: "A datagram Unix socket may be connected again at any time.",
        rules: NO_RULE,
        commands: NO_COMMAND,
    },
    Entry {
        name: "EINTR",
        also: &["ERESTARTSYS"],
        about: "a signal came while the call slept",
        places: &[
            place(
                UNIX,
                "unix_stream_connect(), net/unix/af_unix.c: unix_wait_for_peer()",
                "A signal came while it waited for room in the backlog. Nothing is left of the attempt.",
            ),
            place(
                TCP,
                "__inet_stream_connect(), net/ipv4/af_inet.c: inet_wait_for_connect()",
                "A signal came while it waited for the handshake, which goes on: another connect() waits \
                 on, and poll() tells when it is done.",
            ),
            place(
                ACCEPT,
                "inet_csk_wait_for_connect(), net/ipv4/inet_connection_sock.c; unix_accept(), \
                 net/unix/af_unix.c",
                "A signal came while it waited for a connection.",
            ),
        ],
        sees: "With SA_RESTART the call begins again by itself (inside, the kernel answers ERESTARTSYS, \
               which a tracer may see). It is EINTR without SA_RESTART, or where SO_SNDTIMEO or \
               SO_RCVTIMEO is set.",
        differs: "",
        rules: NO_RULE,
        commands: &[(
            "strace -f -e trace=connect,accept4 -e signal=all -p PID",
            "which signal it is",
        )],
    },
    Entry {
        name: "EINPROGRESS",
        also: &[],
        about: "the handshake has begun; no failure",
        places: &[place(
            TCP,
            "__inet_stream_connect(), net/ipv4/af_inet.c",
            "The socket is non-blocking and the handshake is not done; or it blocks, and SO_SNDTIMEO is \
             over.",
        )],
        sees: "poll() for writing tells when it is decided, and SO_ERROR how. socktrace reports the attempt \
               when it fails, not when it begins.",
        differs: "A Unix connect never answers it: it connects, sleeps, or answers EAGAIN.",
        rules: NO_RULE,
        commands: &[("ss -tn state syn-sent", "handshakes that are not done")],
    },
    Entry {
        name: "EALREADY",
        also: &[],
        about: "an earlier connect() of this socket is not done; no failure",
        places: &[place(
            TCP,
            "__inet_stream_connect(), net/ipv4/af_inet.c",
            "connect() is called again on a non-blocking socket while its handshake lasts.",
        )],
        sees: "connect() returns -1, and the handshake goes on.",
        differs: "Only TCP.",
        rules: NO_RULE,
        commands: &[("ss -tn state syn-sent", "handshakes that are not done")],
    },
    Entry {
        name: "EBADF",
        also: &[],
        about: "the descriptor is not open",
        places: &[place(
            "connect, accept",
            "__sys_connect(), __sys_accept4(), net/socket.c",
            "The number is no open descriptor of the process, or was opened with O_PATH.",
        )],
        sees: "The call returns -1 at once. Often one thread has closed what another one uses.",
        differs: "Nothing: the protocol is not asked.",
        rules: NO_RULE,
        commands: &[("ls -l /proc/PID/fd", "what is open")],
    },
    Entry {
        name: "ENOTSOCK",
        also: &[],
        about: "the descriptor is no socket",
        places: &[place(
            "connect, accept",
            "__sys_connect(), __sys_accept4(), net/socket.c",
            "The descriptor is open, and is something else than a socket.",
        )],
        sees: "The call returns -1 at once. A service that expects its listener as descriptor 3 (socket \
               activation) and is started without one gets it, or EBADF.",
        differs: "Nothing: the protocol is not asked.",
        rules: NO_RULE,
        commands: &[("ls -l /proc/PID/fd", "what is open")],
    },
    Entry {
        name: "EFAULT",
        also: &[],
        about: "the address lies in memory that cannot be used",
        places: &[
            place(
                CONNECT,
                "move_addr_to_kernel(), net/socket.c",
                "The address that is passed cannot be read.",
            ),
            place(
                ACCEPT,
                "move_addr_to_user(), net/socket.c",
                "The buffer for the peer's address cannot be written. The connection has been taken out \
                 of the queue by then, and is closed.",
            ),
        ],
        sees: "The call returns -1: the program has a fault.",
        differs: "Nothing: the protocol is not asked.",
        rules: NO_RULE,
        commands: NO_COMMAND,
    },
    Entry {
        name: "EAFNOSUPPORT",
        also: &[],
        about: "the address is of another family than the socket",
        places: &[place(
            TCP,
            "tcp_v4_connect(), net/ipv4/tcp_ipv4.c; tcp_v6_connect(), net/ipv6/tcp_ipv6.c",
            "The address is neither of the socket's family nor AF_UNSPEC (which ends a connection).",
        )],
        sees: "connect() returns -1 at once. Often an IPv4 address is passed to an IPv6 socket, which takes \
               it as ::ffff:1.2.3.4 only.",
        differs: "A Unix socket answers EINVAL for an address of another family.",
        rules: NO_RULE,
        commands: NO_COMMAND,
    },
    Entry {
        name: "EOPNOTSUPP",
        also: &["ENOTSUP"],
        about: "this kind of socket cannot do that",
        places: &[
            place(
                ACCEPT,
                "unix_accept(), net/unix/af_unix.c; sock_no_accept(), net/core/sock.c",
                "The socket is a datagram socket: it has no connections to accept.",
            ),
            place(
                "listen",
                "unix_listen(), net/unix/af_unix.c; sock_no_listen(), net/core/sock.c",
                "The socket is a datagram socket.",
            ),
            place(TCP, "tcp_v4_err(), net/ipv4/tcp_ipv4.c", "ICMP source route failed came."),
        ],
        sees: "The call returns -1 at once.",
        differs: "",
        rules: NO_RULE,
        commands: NO_COMMAND,
    },
];
