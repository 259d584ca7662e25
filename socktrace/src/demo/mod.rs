//! The incidents of `socktrace demo`: real sockets, a scratch directory, nothing left behind.
//!
//! Owns the table of them and their stories. How each is made is with its like: on the way to a path
//! (`unix_path`), by permissions (`unix_access`), at a Unix socket (`unix_socket`), for TCP (`tcp`), by a
//! server that is late (`late`); what they share is in `stage` and `cgroup`.

mod cgroup;
mod late;
mod stage;
mod tcp;
mod unix_access;
mod unix_path;
mod unix_socket;

use std::io;

pub use stage::{Kept, OwnDirectory, Scratch};

/// One incident.
#[derive(Clone, Copy, Debug)]
pub struct Incident {
    /// As the command line names it.
    pub name: &'static str,
    /// What it shows, for `--help`.
    pub about: &'static str,
    /// What is about to happen, in a sentence.
    pub story: &'static str,
    /// The rule that is to explain it; `None` where it is told by what was counted.
    pub rule: Option<&'static str>,
    /// The topic of `socktrace explain` that it shows besides.
    pub topic: Option<&'static str>,
    /// What has to be there before anything is traced.
    prepare: Option<fn() -> io::Result<Option<Kept>>>,
    play: fn(&Scratch) -> io::Result<()>,
}

impl Incident {
    /// Sets up what has to be there before anything is traced: a server or a cgroup, which goes when it is dropped, or
    /// a network namespace, which this process moves to. To be called while the process has one thread. An error of
    /// the kind `Unsupported` says what this host lacks.
    pub fn prepare(&self) -> io::Result<Option<Kept>> {
        self.prepare.map_or(Ok(None), |prepare| prepare())
    }

    /// Makes it happen, in this process, which has one thread.
    pub fn play(&self, scratch: &Scratch) -> io::Result<()> {
        (self.play)(scratch)
    }

    /// The incident of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        INCIDENTS.iter().copied().find(|incident| incident.name == name)
    }
}

/// Every incident.
pub const INCIDENTS: &[Incident] = &[
    Incident {
        name: "eacces",
        about: "A client without permission on a Unix socket",
        story: "A server listens on a Unix socket of mode 0600; a client of uid 65534 tries three \
                times to connect.",
        rule: Some("unix-socket-mode"),
        topic: None,
        prepare: None,
        play: unix_access::eacces,
    },
    Incident {
        name: "no-search",
        about: "A client that may not enter a directory above the socket",
        story: "A server listens on a Unix socket of mode 0666 in a directory of mode 0700; a client \
                of uid 65534 tries three times to connect.",
        rule: Some("unix-parent-no-search"),
        topic: None,
        prepare: None,
        play: unix_access::no_search,
    },
    Incident {
        name: "acl",
        about: "A client that an ACL keeps out",
        story: "A server listens on a Unix socket of mode 0666 with an ACL entry that gives uid 65534 \
                nothing; a client of that uid tries three times to connect.",
        rule: Some("unix-acl"),
        topic: None,
        prepare: None,
        play: unix_access::acl,
    },
    Incident {
        name: "protected-symlink",
        about: "A link of somebody else in a directory like /tmp",
        story: "A server listens on a Unix socket of mode 0666; a link to it, of uid 65533, \
                lies in a sticky directory that everybody may write to; a client of uid 65534 \
                tries twice to connect through it.",
        rule: Some("unix-protected-symlink"),
        topic: None,
        prepare: Some(unix_access::guards_links),
        play: unix_access::protected_symlink,
    },
    Incident {
        name: "immutable",
        about: "A file that nobody may change",
        story: "A client tries twice to connect to a path where a file lies that is immutable, \
                even for root.",
        rule: Some("unix-immutable"),
        topic: None,
        prepare: Some(unix_access::keeps_flags),
        play: unix_access::immutable,
    },
    Incident {
        name: "path-too-long",
        about: "A path that is longer than a Unix address",
        story: "A client tries twice to connect to a path of 128 bytes, where a Unix address \
                has room for 108.",
        rule: Some("unix-path-too-long"),
        topic: None,
        prepare: None,
        play: |_| unix_path::too_long(),
    },
    Incident {
        name: "missing-directory",
        about: "A path through a directory that nobody made",
        story: "A client tries twice to connect to a path in a directory that does not exist.",
        rule: Some("unix-no-such-path"),
        topic: None,
        prepare: None,
        play: unix_path::missing_directory,
    },
    Incident {
        name: "not-a-socket",
        about: "A path that leads to a regular file",
        story: "A client tries twice to connect to a path where a regular file lies.",
        rule: Some("unix-not-a-socket"),
        topic: None,
        prepare: None,
        play: unix_path::not_a_socket,
    },
    Incident {
        name: "not-a-directory",
        about: "A path through something that is no directory",
        story: "A client tries twice to connect to a path that leads through a regular file.",
        rule: Some("unix-not-a-directory"),
        topic: None,
        prepare: None,
        play: unix_path::not_a_directory,
    },
    Incident {
        name: "stale-socket",
        about: "A socket file that a server left behind",
        story: "A server ended and left its socket file behind; a client tries twice to connect.",
        rule: Some("unix-stale-socket"),
        topic: Some("stale-socket"),
        prepare: None,
        play: unix_path::stale_socket,
    },
    Incident {
        name: "removed-socket",
        about: "A server whose socket file was removed",
        story: "A server listens on a Unix socket, and somebody removes its file; a client tries twice to \
                connect.",
        rule: Some("unix-file-removed"),
        topic: None,
        prepare: None,
        play: unix_path::removed_socket,
    },
    Incident {
        name: "symlink-loop",
        about: "A path whose symbolic links lead in a circle",
        story: "Two symbolic links lead to each other; a client tries twice to connect through them.",
        rule: Some("unix-symlink-loop"),
        topic: None,
        prepare: None,
        play: unix_path::symlink_loop,
    },
    Incident {
        name: "replaced-socket",
        about: "A server whose socket file another one replaced",
        story: "A server listens; a second one put its own file in place of the first one's and ended; \
                a client tries twice to connect.",
        rule: Some("unix-replaced-socket"),
        topic: None,
        prepare: None,
        play: unix_path::replaced_socket,
    },
    Incident {
        name: "mount-namespace",
        about: "A path that is another one in another mount namespace",
        story: "A server listens on a Unix socket in a mount namespace of its own, as in a \
                container; a client outside of it tries twice to connect to the same path.",
        rule: Some("unix-other-mount-namespace"),
        topic: None,
        prepare: None,
        play: unix_path::mount_namespace,
    },
    Incident {
        name: "wrong-type",
        about: "A stream client at a datagram socket",
        story: "A server has a datagram socket; a client with a stream socket tries twice to connect.",
        rule: Some("unix-wrong-type"),
        topic: None,
        prepare: None,
        play: unix_socket::wrong_type,
    },
    Incident {
        name: "not-listening",
        about: "A server between bind() and listen()",
        story: "A server has bound its Unix socket and has not called listen() yet; a client tries \
                twice to connect.",
        rule: Some("unix-not-listening"),
        topic: None,
        prepare: None,
        play: unix_socket::not_listening,
    },
    Incident {
        name: "shut-down",
        about: "A server that has called shutdown() on its listener",
        story: "A server shuts its Unix listener down and does not close it; a client tries \
                twice to connect.",
        rule: Some("unix-shut-down"),
        topic: None,
        prepare: None,
        play: unix_socket::shut_down,
    },
    Incident {
        name: "peer-taken",
        about: "A datagram socket that is connected to somebody else",
        story: "A server has connected its datagram socket to one client; another client tries \
                twice to connect to it.",
        rule: Some("unix-peer-taken"),
        topic: None,
        prepare: None,
        play: unix_socket::peer_taken,
    },
    Incident {
        name: "unix-backlog",
        about: "A Unix listener whose backlog is full, and clients that do not wait",
        story: "A server asks for a backlog of 1 and accepts nothing; two clients fill it, and another \
                one, which does not wait, tries three times to connect.",
        rule: Some("unix-backlog-full"),
        topic: Some("unix-backlog-full"),
        prepare: None,
        play: unix_socket::backlog,
    },
    Incident {
        name: "stopped-unix-server",
        about: "Clients that a stopped server turns away",
        story: "A server with a backlog of 1 is stopped by a signal, and two clients fill it; \
                after 1.5 s another one, which does not wait, tries three times to connect.",
        rule: Some("unix-backlog-full"),
        topic: Some("unix-backlog-full"),
        prepare: None,
        play: unix_socket::stopped_server,
    },
    Incident {
        name: "inherited-unix-listener",
        about: "Clients turned away before a listener that only an heir holds",
        story: "A server starts another process, which inherits its listener with a backlog of \
                1, and closes its own copy; two clients fill the backlog, nobody accepts, and \
                another client, which does not wait, tries three times to connect.",
        rule: Some("unix-backlog-full"),
        topic: Some("unix-backlog-full"),
        prepare: None,
        play: unix_socket::inherited_listener,
    },
    Incident {
        name: "blocked-connect",
        about: "A Unix client that sleeps in connect()",
        story: "A server asks for a backlog of 1 and accepts nothing for 300 ms; a third client sleeps \
                in connect() until there is room.",
        rule: None,
        topic: Some("connect-blocked"),
        prepare: None,
        play: unix_socket::blocked_connect,
    },
    Incident {
        name: "abstract-namespace",
        about: "An abstract name in another network namespace",
        story: "A server listens on an abstract name in a network namespace of its own; a client \
                outside of it tries twice to connect.",
        rule: Some("abstract-other-network-namespace"),
        topic: Some("abstract-names"),
        prepare: Some(unix_socket::in_another_namespace),
        play: |_| unix_socket::abstract_namespace(),
    },
    Incident {
        name: "abstract-missing",
        about: "An abstract name that no socket has",
        story: "A client tries twice to connect to an abstract name that no socket has.",
        rule: Some("abstract-not-bound"),
        topic: Some("abstract-names"),
        prepare: None,
        play: |_| unix_socket::abstract_missing(),
    },
    Incident {
        name: "tcp-refused",
        about: "A TCP port on which nobody listens",
        story: "A client tries twice to connect to a port of 127.0.0.1 on which nobody listens.",
        rule: Some("tcp-nobody-listens"),
        topic: None,
        prepare: None,
        play: |_| tcp::refused(),
    },
    Incident {
        name: "tcp-other-address",
        about: "A TCP server on another address of the host",
        story: "A server listens on 127.0.0.2; a client tries twice to connect to the same port of \
                127.0.0.1.",
        rule: Some("tcp-listens-on-other-address"),
        topic: None,
        prepare: None,
        play: |_| tcp::other_address(),
    },
    Incident {
        name: "tcp-namespace",
        about: "A TCP server in another network namespace",
        story: "A server listens on port 4 of 127.0.0.1 in a network namespace of its own, as \
                in a container; a client outside of it tries twice to connect to that address.",
        rule: Some("tcp-listens-in-other-namespace"),
        topic: None,
        prepare: Some(tcp::in_another_namespace),
        play: |_| tcp::other_namespace(),
    },
    Incident {
        name: "tcp-no-route",
        about: "A TCP target to which no route leads",
        story: "A client in a network namespace without any route tries twice to connect to \
                192.0.2.1.",
        rule: Some("tcp-no-route"),
        topic: None,
        prepare: None,
        play: |_| tcp::no_route(),
    },
    Incident {
        name: "tcp-no-ports",
        about: "A TCP client without a local port",
        story: "In a network namespace with four local ports, four connections to a server \
                hold them; a client tries twice to make another one.",
        rule: Some("tcp-ports-exhausted"),
        topic: None,
        prepare: Some(tcp::with_few_ports),
        play: |_| tcp::no_ports(),
    },
    Incident {
        name: "tcp-timeout",
        about: "A TCP client that gives up before a full listener",
        story: "A server asks for a backlog of 0 and accepts nothing; one client fills it, and \
                another one, which repeats its SYN once, gives up after 3 s.",
        rule: Some("tcp-accept-queue-full"),
        topic: Some("listen-overflow"),
        prepare: None,
        play: |_| tcp::timeout(),
    },
    Incident {
        name: "backlog",
        about: "A listener whose accept queue overflows",
        story: "A server asks for a backlog of 2 and accepts nothing while 12 clients connect.",
        rule: None,
        topic: Some("listen-overflow"),
        prepare: None,
        play: |_| tcp::backlog(),
    },
    Incident {
        name: "syn-queue",
        about: "A listener whose SYN queue is full",
        story: "In a network namespace without syncookies, four clients of a server with a \
                backlog of 4 complete no handshake (it waits for their data, and they send \
                none); three more try to connect.",
        rule: Some("syn-queue-full"),
        topic: Some("syn-queue-full"),
        prepare: Some(tcp::without_syncookies),
        play: |_| tcp::full_syn_queue(),
    },
    Incident {
        name: "syncookies",
        about: "A listener that answers with syncookies (not at the tracepoint tier)",
        story: "In a network namespace with syncookies, four clients of a server with a backlog of 4 complete no \
                handshake (it waits for their data, and they send none); three more get cookies, which the \
                tracepoint tier cannot see.",
        rule: Some("syncookies"),
        topic: Some("syncookies"),
        prepare: Some(tcp::with_syncookies),
        play: |_| tcp::full_syn_queue(),
    },
    Incident {
        name: "stall",
        about: "A server that accepts late",
        story: "A server leaves five connections waiting for 300 ms before it accepts them.",
        rule: None,
        topic: Some("accept-stall"),
        prepare: None,
        play: |_| late::stall(),
    },
    Incident {
        name: "busy-server",
        about: "A server that computes while connections wait",
        story: "A server computes for two seconds while three connections wait to be accepted.",
        rule: Some("owner-busy"),
        topic: Some("accept-stall"),
        prepare: None,
        play: |_| late::busy_server(),
    },
    Incident {
        name: "sleeping-server",
        about: "A server that sleeps while connections wait",
        story: "A server sleeps for two seconds while three connections wait to be accepted.",
        rule: Some("owner-asleep"),
        topic: Some("accept-stall"),
        prepare: None,
        play: |_| late::sleeping_server(),
    },
    Incident {
        name: "stopped-server",
        about: "A server that is stopped while connections wait",
        story: "A server is stopped by a signal for two seconds while three connections wait to be \
                accepted.",
        rule: Some("owner-stopped"),
        topic: Some("accept-stall"),
        prepare: None,
        play: |_| late::stopped_server(),
    },
    Incident {
        name: "frozen-server",
        about: "A server whose cgroup is frozen while connections wait",
        story: "The cgroup of a server is frozen for two seconds while three connections wait to be accepted.",
        rule: Some("owner-frozen"),
        topic: Some("accept-stall"),
        prepare: Some(cgroup::plain),
        play: late::frozen_server,
    },
    Incident {
        name: "throttled-server",
        about: "A server whose CPU quota is used up while connections wait",
        story: "A server computes in a cgroup that may have a twentieth of a CPU; three connections wait for \
                two seconds.",
        rule: Some("owner-throttled"),
        topic: Some("accept-stall"),
        prepare: Some(cgroup::with_quota),
        play: late::throttled_server,
    },
    Incident {
        name: "memory-pressure",
        about: "A server whose cgroup is short of memory while connections wait",
        story: "A server wants more memory than the 8 MB above which its cgroup is slowed down; three connections \
                wait for two seconds.",
        rule: Some("owner-short-of-memory"),
        topic: Some("accept-stall"),
        prepare: Some(cgroup::with_little_memory),
        play: late::memory_pressure,
    },
    Incident {
        name: "no-descriptors",
        about: "A server that has no descriptor left while connections wait",
        story: "A server with a limit of 16 descriptors has all of them open; three connections wait for two \
                seconds.",
        rule: Some("owner-out-of-descriptors"),
        topic: Some("fd-limit"),
        prepare: None,
        play: |_| late::no_descriptors(),
    },
    Incident {
        name: "inherited-listener",
        about: "A listener that only a process holds which never accepts",
        story: "A server starts another process, which inherits its listener, and closes its own copy; three \
                connections wait for two seconds, and nobody accepts.",
        rule: Some("owner-never-accepted"),
        topic: Some("accept-stall"),
        prepare: None,
        play: |_| late::inherited_listener(),
    },
    Incident {
        name: "closed-listener",
        about: "A listener that is closed with connections in its queue",
        story: "A server closes its listener while three connections wait in its queue.",
        rule: Some("listener-closed"),
        topic: Some("listener-closed"),
        prepare: None,
        play: |_| late::closed_listener(),
    },
    Incident {
        name: "fd-limit",
        about: "A server that runs out of descriptors",
        story: "A server with a limit of 16 descriptors goes on accepting until it has none left.",
        rule: Some("accept-out-of-descriptors"),
        topic: Some("fd-limit"),
        prepare: None,
        play: |_| late::fd_limit(),
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_incident_has_a_name_of_its_own_and_a_story_that_is_a_sentence() {
        let names: BTreeSet<&str> = INCIDENTS.iter().map(|incident| incident.name).collect();
        assert_eq!(names.len(), INCIDENTS.len());
        for incident in INCIDENTS {
            assert!(incident.story.ends_with('.'), "{}", incident.name);
            assert!(!incident.about.ends_with('.'), "{}", incident.name);
        }
    }
}
