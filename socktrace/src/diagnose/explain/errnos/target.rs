//! What stands at the target, or in the way to it.

use super::{ACCEPT, CONNECT, NO_RULE, TCP, UNIX, place};
use crate::diagnose::explain::Entry;

pub(super) const TABLE: &[Entry] = &[
    Entry {
        name: "EACCES",
        also: &[],
        about: "somebody may not pass: on the way to a socket file, or by a security module",
        places: &[
            place(
                UNIX,
                "kern_path(), fs/namei.c: may_lookup()",
                "The client lacks search permission (x) on a directory of the path, those of symbolic \
                 links included. The filesystem ids (fsuid, fsgid, groups) decide, and \
                 CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH passes.",
            ),
            place(
                UNIX,
                "unix_find_bsd(), net/unix/af_unix.c: path_permission(MAY_WRITE)",
                "The client lacks write permission on the file at the end of the path. It is checked \
                 before the kernel looks whether that file is a socket at all, and read permission is \
                 not asked for.",
            ),
            place(
                UNIX,
                "may_follow_link(), fs/namei.c",
                "fs.protected_symlinks is on, and the path goes through a symbolic link in a sticky \
                 directory that everybody may write to, which belongs neither to the client nor to \
                 the directory's owner.",
            ),
            place(
                TCP,
                "ip_route_output_key_hash(), net/ipv4/route.c",
                "The route to the target is one of type prohibit.",
            ),
            place(
                CONNECT,
                "security_socket_connect(), net/socket.c; security_inode_permission(), fs/namei.c; \
                 security_unix_stream_connect(), net/unix/af_unix.c",
                "A security module (SELinux, AppArmor, Landlock, …) denies it; most answer EACCES.",
            ),
        ],
        sees: "connect() returns -1 at once; nothing was sent, and the server notices nothing.",
        differs: "A Unix socket file has an owner and a mode. A TCP port has none: there, only routes, \
                  BPF programs and security modules can forbid a connect.",
        rules: NO_RULE,
        commands: &[
            ("namei -l PATH", "owner, group and mode of every component"),
            ("getfacl PATH", "its ACL; a + behind the mode in ls -l says that there is one"),
            ("ausearch -m avc -ts recent", "what SELinux or AppArmor denied"),
        ],
    },
    Entry {
        name: "EPERM",
        also: &[],
        about: "it is forbidden whatever the mode says",
        places: &[
            place(
                UNIX,
                "unix_dgram_connect(), net/unix/af_unix.c: unix_may_send()",
                "The datagram socket there is connected to another socket than the client's.",
            ),
            place(
                UNIX,
                "inode_permission(), fs/namei.c",
                "The socket file is immutable (chattr +i): nobody may write to it, root neither.",
            ),
            place(
                TCP,
                "__inet_stream_connect(), net/ipv4/af_inet.c: pre_connect",
                "A BPF program of the cgroup (connect4, connect6) refuses the call.",
            ),
            place(
                CONNECT,
                "security_socket_connect(), net/socket.c; security_unix_stream_connect(), \
                 net/unix/af_unix.c",
                "A security module that answers EPERM denies it; so does Landlock for an abstract \
                 name outside of the client's domain (6.12 and later).",
            ),
            place(
                ACCEPT,
                "security_socket_accept(), net/socket.c",
                "A security module that answers EPERM denies it.",
            ),
        ],
        sees: "connect() or accept() returns -1 at once.",
        differs: "A packet filter that drops the first packet of a TCP connection is not told to \
                  connect(): tcp_connect() ignores that error, tries again, and ends in ETIMEDOUT.",
        rules: NO_RULE,
        commands: &[
            ("lsattr PATH", "whether the file is immutable"),
            ("bpftool cgroup tree", "which BPF programs decide over connects"),
        ],
    },
    Entry {
        name: "ENOENT",
        also: &[],
        about: "the path does not lead anywhere",
        places: &[place(
            UNIX,
            "unix_find_bsd(), net/unix/af_unix.c: kern_path()",
            "A component of the path does not exist in the client's own tree: below its root, in its \
             mount namespace, from its working directory where the path is relative. It may exist for \
             the server all the same.",
        )],
        sees: "connect() returns -1 at once.",
        differs: "Only Unix paths. An abstract name that does not exist, like a TCP port without a \
                  listener, answers ECONNREFUSED.",
        rules: NO_RULE,
        commands: &[
            ("namei -l PATH", "which component is missing"),
            ("ls -l /proc/PID/root/PATH", "the same as the client sees it"),
            ("ss -xlp", "who listens under which name"),
        ],
    },
    Entry {
        name: "ENOTDIR",
        also: &[],
        about: "the path goes through something that is no directory",
        places: &[place(
            UNIX,
            "link_path_walk(), fs/namei.c",
            "A component other than the last one is no directory.",
        )],
        sees: "connect() returns -1 at once.",
        differs: "Only Unix paths.",
        rules: NO_RULE,
        commands: &[("namei -l PATH", "which component it is")],
    },
    Entry {
        name: "ELOOP",
        also: &[],
        about: "the path has too many symbolic links",
        places: &[place(
            UNIX,
            "pick_link(), fs/namei.c",
            "More than 40 symbolic links (MAXSYMLINKS) were followed on the way, or one lies on a mount \
             with nosymfollow (5.10 and later).",
        )],
        sees: "connect() returns -1 at once.",
        differs: "Only Unix paths.",
        rules: NO_RULE,
        commands: &[("namei -l PATH", "the links, one by one")],
    },
    Entry {
        name: "ECONNREFUSED",
        also: &[],
        about: "the way is free, and nobody takes the connection",
        places: &[
            place(
                UNIX,
                "unix_find_bsd(), net/unix/af_unix.c: S_ISSOCK()",
                "The path leads to a file that is no socket.",
            ),
            place(
                UNIX,
                "unix_find_bsd(), net/unix/af_unix.c: unix_find_socket_byinode()",
                "No socket is bound to the inode of that file: its server is gone, or is bound to \
                 another file that once had this name. The name does not count, the inode does.",
            ),
            place(
                UNIX,
                "unix_find_abstract(), net/unix/af_unix.c",
                "No socket of the client's network namespace and of the same type has the abstract \
                 name; every byte of it counts, zeros at its end too.",
            ),
            place(
                UNIX,
                "unix_stream_connect(), net/unix/af_unix.c",
                "The socket there does not listen (its state is not TCP_LISTEN), or was shut down for \
                 reading.",
            ),
            place(
                TCP,
                "tcp_reset(), net/ipv4/tcp_input.c",
                "A reset came while the connection was in SYN-SENT: no listener of that network \
                 namespace fits address and port there, or something on the way rejects with a reset.",
            ),
            place(
                TCP,
                "tcp_v4_err(), net/ipv4/tcp_ipv4.c",
                "An ICMP port unreachable came: a firewall rejects it (REJECT, also of the own host).",
            ),
        ],
        sees: "A blocking connect() returns -1. A non-blocking TCP connect() returns EINPROGRESS, and the \
               error comes by poll() and SO_ERROR; a Unix connect() always tells at once.",
        differs: "Unix: the kernel decides in the call, and the file may exist all the same. TCP: a packet \
                  decided, and over the loopback it comes before connect() returns.",
        rules: NO_RULE,
        commands: &[
            ("ss -xlp", "who listens on which Unix socket"),
            ("ss -ltnp", "who listens on which TCP port"),
            ("lsns -t net", "the network namespaces, each with listeners of its own"),
        ],
    },
    Entry {
        name: "EPROTOTYPE",
        also: &[],
        about: "the Unix socket there is of another type",
        places: &[place(
            UNIX,
            "unix_find_bsd(), net/unix/af_unix.c",
            "The socket that is bound to the file is of another type (stream, datagram, seqpacket) than \
             the client's.",
        )],
        sees: "connect() returns -1 at once.",
        differs: "Only paths. Abstract names are looked up by type as well, so there another type is \
                  ECONNREFUSED. TCP and UDP have ports of their own, so TCP never answers this.",
        rules: NO_RULE,
        commands: &[("ss -xap", "the types of all Unix sockets: u_str, u_dgr, u_seq")],
    },
    Entry {
        name: "EADDRINUSE",
        also: &[],
        about: "somebody has that address already",
        places: &[
            place(
                "bind",
                "unix_bind_bsd(), net/unix/af_unix.c",
                "A file lies at the path, whether anybody listens there or not: the one that a server \
                 left behind has to be unlinked before bind().",
            ),
            place(
                "bind",
                "unix_bind_abstract(), net/unix/af_unix.c",
                "A socket of the same network namespace and type has the abstract name.",
            ),
            place(
                "bind, listen",
                "inet_csk_get_port(), net/ipv4/inet_connection_sock.c",
                "A socket holds the port, and not both allow it (SO_REUSEADDR while neither listens, \
                 SO_REUSEPORT of the same user).",
            ),
        ],
        sees: "bind() or listen() returns -1, and most servers end. It is no errno of a failed connect() as \
               such: a TCP connect() whose port is taken answers EADDRNOTAVAIL.",
        differs: "A TCP port is free again once its sockets are gone; a Unix path is not, as its file stays.",
        rules: &["unix-stale-socket", "unix-replaced-socket"],
        commands: &[
            ("ss -ltnp", "who listens on the port"),
            ("ss -xlp", "who listens on the path"),
        ],
    },
];
