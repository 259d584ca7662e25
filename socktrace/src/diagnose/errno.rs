//! What the errno of a failed connect means, from where the kernel sets it.
//!
//! One errno can have several causes. Where the kernel has only one place for it, the cause is
//! measured; where it has several, they are listed and the certainty is unknown. Sources:
//! `unix_find_bsd`, `unix_find_other`, `unix_stream_connect`, `unix_dgram_connect` in
//! `net/unix/af_unix.c`; `tcp_reset`, `tcp_write_err`, `tcp_v4_err`, `__inet_hash_connect`; connect(2).

use nix::errno::Errno;

use crate::event::Certainty;

/// Why a connect failed and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Completes "the connect failed because …".
    pub cause: &'static str,
    /// An imperative sentence without its full stop.
    pub fix: &'static str,
    /// How sure that is.
    pub certainty: Certainty,
}

const fn measured(cause: &'static str, fix: &'static str) -> Cause {
    Cause { cause, fix, certainty: Certainty::Measured }
}

const fn unknown(cause: &'static str, fix: &'static str) -> Cause {
    Cause { cause, fix, certainty: Certainty::Unknown }
}

/// What `errno` tells of a connect to a target of this family (`unix`, `inet`, `inet6`).
pub fn cause(family: &str, errno: u32) -> Option<Cause> {
    let errno = Errno::from_raw(i32::try_from(errno).ok()?);
    if family == "unix" { unix(errno) } else { inet(errno) }
}

fn unix(errno: Errno) -> Option<Cause> {
    Some(match errno {
        Errno::EACCES => unknown(
            "the client may not write to the socket file, or may not search a directory on its \
             path, or a security module forbids it",
            "look at owner, group and mode of the socket file and of every directory above it \
             (namei -l PATH), and at the audit log",
        ),
        Errno::EPERM => unknown(
            "a security module or a BPF program of its cgroup forbids it, the file is immutable, or the \
             datagram socket there talks to somebody else",
            "look at the audit log",
        ),
        Errno::ENOENT => {
            measured("nothing exists at that path", "start the server, or correct the path")
        }
        Errno::ENOTDIR => measured("a part of the path is no directory", "correct the path"),
        Errno::ELOOP => measured(
            "the path has too many symbolic links, or one on a mount with nosymfollow",
            "correct the links",
        ),
        Errno::ECONNREFUSED => unknown(
            "nobody listens there: the file was left behind by a server that is gone, or is no \
             socket, or its socket does not listen; an abstract name is not bound",
            "start the server; one that is gone leaves its file behind, and a new one must \
             unlink it before bind()",
        ),
        Errno::EPROTOTYPE => measured(
            "the socket there is of another type (stream, datagram, seqpacket)",
            "use the type that the server uses",
        ),
        Errno::EAGAIN => measured(
            "the listener's backlog is full, and the client does not wait, or has waited as long as its \
             SO_SNDTIMEO lets it",
            "accept faster, or raise the backlog of listen() and net.core.somaxconn",
        ),
        Errno::EINVAL => unknown(
            "the address is malformed (its length), or the socket itself listens",
            "correct the address",
        ),
        Errno::EISCONN => measured("the socket is connected already", "connect only once"),
        Errno::ENFILE | Errno::ENOMEM => unknown(
            "the kernel could not make the connection's socket (limit of open files or memory)",
            "look at fs.file-max and at free memory",
        ),
        _ => return common(errno),
    })
}

fn inet(errno: Errno) -> Option<Cause> {
    Some(match errno {
        Errno::ECONNREFUSED => unknown(
            "nobody listens on that address and port there, or a firewall rejects it",
            "start the server, or correct address and port",
        ),
        Errno::ETIMEDOUT => unknown(
            "no answer came: the packets are dropped on the way, the host is down, or the \
             listener's queue is full",
            "look for drops of that listener, then at routes and firewalls",
        ),
        Errno::ENETUNREACH => unknown(
            "there is no route to that network",
            "look at the routes (ip route get ADDRESS)",
        ),
        Errno::EHOSTUNREACH => unknown(
            "the host does not answer, or a router says so",
            "look at the routes and at the neighbour (ip neigh)",
        ),
        Errno::EADDRNOTAVAIL => unknown(
            "no local address or port is left for it",
            "look at net.ipv4.ip_local_port_range and at sockets in TIME-WAIT",
        ),
        Errno::ECONNRESET => {
            unknown("the other side broke the handshake off", "look at the server's log")
        }
        // tcp_connect() ignores that a filter dropped its packet; only a route's type reaches it.
        Errno::EACCES => unknown(
            "a security module forbids it, or the route to the target is one of type prohibit",
            "look at the audit log, and at the route (ip route get ADDRESS)",
        ),
        Errno::EPERM => unknown(
            "a BPF program of the client's cgroup or a security module forbids it",
            "look at those programs (bpftool cgroup tree), and at the audit log",
        ),
        _ => return common(errno),
    })
}

fn common(errno: Errno) -> Option<Cause> {
    Some(match errno {
        Errno::EBADF => measured(
            "the descriptor is not open, or only as a path (O_PATH)",
            "correct the program",
        ),
        Errno::ENOTSOCK => measured("the descriptor is no socket", "correct the program"),
        Errno::EFAULT => {
            measured("the address lies in memory that cannot be read", "correct the program")
        }
        Errno::EAFNOSUPPORT => measured(
            "the address is of another family than the socket",
            "use a socket of the address's family",
        ),
        Errno::EINVAL => unknown("the address is malformed", "correct the address"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_with_several_causes_is_never_called_measured() {
        let certainty = |family, errno: Errno| cause(family, errno as u32).map(|it| it.certainty);
        assert_eq!(certainty("unix", Errno::EACCES), Some(Certainty::Unknown));
        assert_eq!(certainty("unix", Errno::ECONNREFUSED), Some(Certainty::Unknown));
        assert_eq!(certainty("unix", Errno::EAGAIN), Some(Certainty::Measured));
        assert_eq!(certainty("inet", Errno::ETIMEDOUT), Some(Certainty::Unknown));
        assert_eq!(certainty("inet", Errno::EXDEV), None);
    }
}
