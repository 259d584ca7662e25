//! Queues: of half-open connections, and of those that wait for `accept()`.

use super::{LISTENERS, NSTAT, SS_TCP, SS_UNIX, STALLS, place};
use crate::diagnose::explain::Entry;

pub(super) const TABLE: &[Entry] = &[
    Entry {
        name: "listen-overflow",
        also: &["accept_queue_full", "listen-overflows", "listen-drops", "backlog_drop"],
        about: "a TCP connection is dropped because the accept queue is longer than the backlog",
        places: &[
            place(
                "TCP, first packet",
                "tcp_conn_request(), net/ipv4/tcp_input.c: sk_acceptq_is_full()",
                "sk_ack_backlog > sk_max_ack_backlog: the queue holds backlog + 1, and the SYN that \
                 comes then is dropped. ListenOverflows and ListenDrops count it.",
            ),
            place(
                "TCP, last packet",
                "tcp_check_req(), net/ipv4/tcp_minisocks.c: tcp_v4_syn_recv_sock()",
                "The same when the handshake ends: the ACK is dropped and the half-open connection \
                 stays, or with net.ipv4.tcp_abort_on_overflow=1 the client gets a reset. Both count \
                 in ListenOverflows and ListenDrops.",
            ),
            place(
                "TCP, syncookie",
                "tcp_get_cookie_sock(), net/ipv4/syncookies.c",
                "The same for the ACK that answers a syncookie; nothing is left of that connection.",
            ),
        ],
        sees: "The server sees nothing. A client whose SYN is dropped sends it again, after 1 s at first, and \
               ends in ETIMEDOUT. One whose ACK is dropped believes that it is connected: it writes, gets no \
               answer, and gets a reset in the end if the queue stays full.",
        differs: "A Unix listener drops nothing: the client sleeps in connect(), or gets EAGAIN.",
        rules: &[
            "tcp-accept-queue-full",
            "accept-out-of-descriptors",
            "host-out-of-files",
            "accept-queue-full",
        ],
        commands: &[LISTENERS, NSTAT, SS_TCP],
    },
    Entry {
        name: "syn-queue-full",
        also: &["syn_queue_full", "syn-flood"],
        about: "a TCP listener has as many half-open connections as its backlog, and syncookies are off",
        places: &[
            place(
                "TCP, first packet",
                "tcp_conn_request(), net/ipv4/tcp_input.c: inet_csk_reqsk_queue_is_full()",
                "The half-open connections are as many as the backlog (>=), and \
                 net.ipv4.tcp_syncookies=0: the SYN is dropped. TCPReqQFullDrop and ListenDrops count \
                 it. With syncookies it is answered instead.",
            ),
            place(
                "TCP, first packet",
                "tcp_conn_request(), net/ipv4/tcp_input.c",
                "Also without syncookies: less than a quarter of net.ipv4.tcp_max_syn_backlog is left, \
                 and the client's host is not known from earlier connections. Only ListenDrops counts \
                 it, so reports say other.",
            ),
        ],
        sees: "The server sees nothing. The client sends its SYN again, and ends in ETIMEDOUT.",
        differs: "Only TCP: a Unix connection is never half open.",
        rules: &["syn-queue-full"],
        commands: &[
            NSTAT,
            ("ss -tn state syn-recv", "half-open connections, and from whom"),
            ("sysctl net.ipv4.tcp_syncookies net.ipv4.tcp_max_syn_backlog", "the two settings"),
        ],
    },
    Entry {
        name: "syncookies",
        also: &["syncookie_sent", "syncookie"],
        about: "a SYN is answered with a cookie instead of being remembered: no drop",
        places: &[
            place(
                "TCP, first packet",
                "tcp_conn_request(), net/ipv4/tcp_input.c: tcp_syn_flood_action()",
                "The half-open connections are as many as the backlog, and net.ipv4.tcp_syncookies is 1 \
                 (its default); or it is 2, which sends a cookie to everybody. TCPReqQFullDoCookies \
                 counts it, and the kernel logs \"Possible SYN flooding\" once per listener. A full \
                 accept queue still drops the SYN.",
            ),
            place(
                "TCP, last packet",
                "cookie_v4_check(), net/ipv4/syncookies.c; cookie_v6_check(), net/ipv6/syncookies.c",
                "The connection is made from the number in the ACK. If that ACK is lost, or the accept \
                 queue is full, nothing remembers the connection.",
            ),
        ],
        sees: "Nothing, mostly. Options of the SYN are lost unless TCP timestamps carry them.",
        differs: "Only TCP.",
        rules: &["syncookies"],
        commands: &[
            NSTAT,
            ("sysctl net.ipv4.tcp_syncookies", "0 never, 1 when full, 2 always"),
            ("ss -tn state syn-recv", "half-open connections, and from whom"),
        ],
    },
    Entry {
        name: "accept-queue",
        also: &["acceptq", "accept"],
        about: "where connections wait until accept() takes them",
        places: &[
            place(
                "TCP",
                "inet_csk_complete_hashdance(), inet_csk_reqsk_queue_add(), \
                 net/ipv4/inet_connection_sock.c",
                "The kernel finishes the handshake by itself and puts the connection at the end of the \
                 queue; with TCP_DEFER_ACCEPT only when data has come. accept() takes the oldest.",
            ),
            place(
                "Unix",
                "unix_stream_connect(), net/unix/af_unix.c",
                "connect() makes both ends and puts the server's end into the listener's receive queue; \
                 it returns without waiting for accept().",
            ),
        ],
        sees: "The client is connected and may write as soon as its connection is in the queue: how long it \
               waits there, only its missing answer shows.",
        differs: "TCP: drops when the queue is longer than the backlog. Unix: connect() sleeps, or answers \
                  EAGAIN.",
        rules: &["tcp-accept-queue-full", "unix-backlog-full", "accept-queue-full", "slow-accepts"],
        commands: &[
            (
                "socktrace listeners --for 2s",
                "each queue, its limit, and how long its oldest has waited",
            ),
            SS_TCP,
            SS_UNIX,
        ],
    },
    Entry {
        name: "backlog",
        also: &["somaxconn", "listen"],
        about: "the limit of the accept queue, as listen() was given it",
        places: &[
            place(
                "listen",
                "__sys_listen(), net/socket.c",
                "The smaller of what was asked for and net.core.somaxconn of the network namespace: 4096 \
                 since 5.4, 128 before. A negative number asks for the most. somaxconn counts at the \
                 time of the call: who changes it has to call listen() again, which may be done on a \
                 socket that listens.",
            ),
            place(
                "TCP",
                "sk_acceptq_is_full(), include/net/sock.h",
                "queue > backlog, so backlog + 1 connections fit; the half-open ones are counted apart, \
                 against the same number.",
            ),
            place(
                "Unix",
                "unix_recvq_full(), net/unix/af_unix.c",
                "queue > backlog, so backlog + 1 connections fit here, too.",
            ),
        ],
        sees: "listen() does not tell that it was given less. ss shows what applies as Send-Q.",
        differs: "TCP and Unix have the same limit, and do different things beyond it.",
        rules: &[
            "tcp-accept-queue-full",
            "unix-backlog-full",
            "accept-queue-full",
            "unix-clients-turned-away",
        ],
        commands: &[SS_TCP, SS_UNIX, ("sysctl net.core.somaxconn", "the upper limit here")],
    },
    Entry {
        name: "unix-backlog-full",
        also: &["unix-backlog"],
        about: "a Unix client got EAGAIN because the listener's backlog was full",
        places: &[place(
            "Unix",
            "unix_stream_connect(), net/unix/af_unix.c: unix_recvq_full()",
            "More connections than the backlog are in the listener's queue, and the client's socket is \
             non-blocking or its SO_SNDTIMEO is over.",
        )],
        sees: "connect() returns -1 (EAGAIN) at once. Nothing waits in the kernel for it, and poll() does not \
               tell when there is room: the client has to try again.",
        differs: "A TCP client is not told: its packets are dropped, and it waits.",
        rules: &["unix-backlog-full", "unix-clients-turned-away"],
        commands: &[LISTENERS, SS_UNIX, ("socktrace explain EAGAIN", "the errno")],
    },
    Entry {
        name: "connect-blocked",
        also: &["connect_blocked"],
        about: "a Unix client sleeps in connect() because the listener's backlog is full",
        places: &[place(
            "Unix",
            "unix_wait_for_peer(), net/unix/af_unix.c",
            "More connections than the backlog are in the listener's queue, and the client's socket blocks. \
             It is woken when accept() takes one, and then tries again from the start, so it may have to \
             sleep more than once.",
        )],
        sees: "connect() does not return: the process hangs, without a timeout unless SO_SNDTIMEO is set \
               (then EAGAIN). If the listener closes meanwhile, it is ECONNREFUSED.",
        differs: "Only Unix. A TCP client in the same place sleeps in connect(), too, but its SYN is dropped \
                  and repeated, and it gives up in the end.",
        rules: &["unix-backlog-full", "owner-held-up"],
        commands: &[
            LISTENERS,
            STALLS,
            ("cat /proc/PID/wchan", "unix_wait_for_peer where the kernel shows it"),
        ],
    },
    Entry {
        name: "listener-closed",
        also: &["listener_closed"],
        about: "a listener is closed with connections in its queue",
        places: &[
            place(
                "TCP",
                "inet_csk_listen_stop(), net/ipv4/inet_connection_sock.c",
                "The last descriptor of the listener is closed (or it is shut down): every connection in \
                 the queue is reset. With SO_REUSEPORT and net.ipv4.tcp_migrate_req=1 (5.14 and later) \
                 another listener of the group inherits them.",
            ),
            place(
                "Unix",
                "unix_release_sock(), net/unix/af_unix.c: embrion",
                "The same: the client's end gets ECONNRESET.",
            ),
        ],
        sees: "Clients that were connected get ECONNRESET at their next read() or write(). The server that \
               closed is not told.",
        differs: "A Unix socket file stays where it is, and the next connect() is refused; clients that sleep \
                  in connect() are refused, too.",
        rules: &["unix-stale-socket", "listener-closed"],
        commands: &[
            ("socktrace watch", "who closed, and how many were in the queue"),
            ("socktrace explain reuseport", "how a listener is handed over"),
        ],
    },
    Entry {
        name: "accept-stall",
        also: &["stall", "stalled"],
        about: "connections wait, and nobody accepts, or not fast enough",
        places: &[
            place(
                "TCP",
                "inet_csk_accept(), net/ipv4/inet_connection_sock.c",
                "It is not called: the kernel puts connections into the queue without the server's help, \
                 and nothing but accept() takes them out.",
            ),
            place("Unix", "unix_accept(), net/unix/af_unix.c", "The same."),
        ],
        sees: "Clients are connected, write, and get no answer. Once the queue is full, TCP clients are \
               dropped and Unix clients sleep. The usual reasons: the server is stopped or frozen, is \
               throttled by its cgroup, computes, waits for a disk or a lock, has no descriptor left, or \
               all its workers are taken.",
        differs: "",
        rules: &[
            "accept-out-of-descriptors",
            "host-out-of-files",
            "owner-stopped",
            "owner-frozen",
            "owner-out-of-descriptors",
            "owner-throttled",
            "owner-busy",
            "owner-asleep",
            "accept-stall",
        ],
        commands: &[
            STALLS,
            ("cat /proc/PID/stat /proc/PID/wchan", "its state (T stopped, D waits for a device)"),
            ("cat /sys/fs/cgroup/PATH/cpu.stat", "whether it is throttled (nr_throttled)"),
        ],
    },
];
