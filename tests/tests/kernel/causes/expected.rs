//! What must be said of each staged cause: by which rule, how sure, and in which words.

/// One incident.
pub(crate) struct Expected {
    /// Its name.
    pub(crate) name: &'static str,
    /// The rule whose finding comes first.
    pub(crate) rule: &'static str,
    /// `measured` where nothing but the staged cause can have been.
    pub(crate) certainty: &'static str,
    /// What the first finding names: words of its fact, consequence or fix.
    pub(crate) says: &'static [&'static str],
    /// A rule whose finding comes after, where a second cause stands behind the first.
    pub(crate) also: Option<&'static str>,
}

const fn measured(
    name: &'static str,
    rule: &'static str,
    says: &'static [&'static str],
) -> Expected {
    Expected { name, rule, certainty: "measured", says, also: None }
}

const fn inferred(
    name: &'static str,
    rule: &'static str,
    says: &'static [&'static str],
) -> Expected {
    Expected { name, rule, certainty: "inferred", says, also: None }
}

const MODE: &str = "unix-socket-mode";
const SEARCH: &str = "unix-parent-no-search";
const GONE: &str = "unix-no-such-path";

/// Every incident of `scenario staged causes`.
pub(crate) const ALL: &[Expected] = &[
    measured("mode_0600", MODE, &["mode 0600", "root (uid 0) may pass", "uid 61002"]),
    measured("mode_group", MODE, &["members of gid 62001", "a member of gid 62001"]),
    measured("mode_group_out", MODE, &["the bits of its group gid 62001 decide", "chmod g+w"]),
    measured("mode_owner_out", MODE, &["its owner's bits decide", "chmod u+w"]),
    measured("mode_read_only", MODE, &["mode 0644"]),
    measured("mode_datagram", MODE, &["mode 0600"]),
    measured("no_capabilities", MODE, &["root (uid 0) without CAP_DAC_OVERRIDE"]),
    measured("dir_0700", SEARCH, &["/dir_0700 (mode 0700"]),
    measured("dirs_two", SEARCH, &["/dirs_two (mode 0700", "/dirs_two, and", "/dirs_two/in"]),
    Expected {
        also: Some(MODE),
        ..measured("dir_and_socket", SEARCH, &["/dir_and_socket (mode 0700"])
    },
    measured("dir_read_only", SEARCH, &["/dir_read_only (mode 0744"]),
    measured("dir_dots", SEARCH, &["/dir_dots/shut (mode 0700"]),
    measured("acl_user", "unix-acl", &["the ACL entry of uid 61002 decides"]),
    measured("acl_mask", "unix-acl", &["limited by the ACL's mask", "setfacl -m m::rw"]),
    measured("acl_directory", "unix-acl", &["the directory", "/acl_directory (mode"]),
    measured("chroot_missing", GONE, &["chroot_outside.sock", "outside"]),
    measured("chroot_mode", MODE, &["/app.sock (mode 0600", "/proc/", "/root/app.sock"]),
    inferred("private_tmp", "unix-other-mount-namespace", &["mnt:["]),
    measured("userns_root", MODE, &["user namespace"]),
    measured("pidns_mode", MODE, &["/pidns_mode.sock (mode 0600"]),
    measured("relative_gone", GONE, &["gone.sock", "/relative_gone/cwd"]),
    inferred("relative_removed", "unix-file-removed", &["listens under that name"]),
    measured("relative_mode", MODE, &["/relative_mode/cwd/near.sock (mode 0600"]),
    measured("relative_cwd", SEARCH, &["/relative_cwd/cwd (mode 0700"]),
    measured("link_to_dir", SEARCH, &["/link_to_dir (mode 0700"]),
    measured("link_to_socket", MODE, &["/link_to_socket/app.sock (mode 0600"]),
    measured("link_circle", "unix-symlink-loop", &["circle.a"]),
    measured("link_chain", "unix-symlink-loop", &["more than 40", "/l40"]),
    measured("link_protected", "unix-protected-symlink", &["trap.sock", "protected_symlinks"]),
    measured("missing_file", GONE, &["there is no gone.sock in /"]),
    measured("missing_dir", GONE, &["there is no directory nowhere in /"]),
    measured("missing_dgram", GONE, &["there is no gone-datagram.sock in /"]),
    measured("missing_target", GONE, &["there is no link-target.sock in /"]),
    measured("no_directory", "unix-not-a-directory", &["/plain is a regular file"]),
    measured("too_long", "unix-path-too-long", &["118 bytes"]),
    inferred("removed", "unix-file-removed", &["scenario (pid", "removed or renamed"]),
    measured("regular_file", "unix-not-a-socket", &["a regular file"]),
    measured("fifo", "unix-not-a-socket", &["a FIFO"]),
    measured("directory", "unix-not-a-socket", &["a directory"]),
    measured("immutable", "unix-immutable", &["chattr -i"]),
    inferred("stale", "unix-stale-socket", &["left behind"]),
    inferred("replaced", "unix-replaced-socket", &["scenario (pid", "another"]),
    measured("wrong_dgram", "unix-wrong-type", &["a datagram socket", "a stream socket"]),
    measured("wrong_seqpacket", "unix-wrong-type", &["a stream socket", "a seqpacket socket"]),
    measured("wrong_stream", "unix-wrong-type", &["a stream socket", "a datagram socket"]),
    inferred("not_listening", "unix-not-listening", &["has not called listen()"]),
    inferred("not_listening_seq", "unix-not-listening", &["has not called listen()"]),
    inferred("shut_down", "unix-shut-down", &["shutdown()"]),
    Expected {
        also: Some("owner-held-up"),
        ..measured("full", "unix-backlog-full", &["full-server (pid", "backlog 1", "SIGSTOP"])
    },
    Expected {
        also: Some("owner-never-accepts"),
        ..measured("inherited", "unix-backlog-full", &["heir (pid", "asleep in"])
    },
    inferred("peer_taken", "unix-peer-taken", &["connected to another"]),
    inferred("abstract_nowhere", "abstract-not-bound", &["no socket has that abstract name"]),
    inferred("abstract_server", "abstract-other-network-namespace", &["abstract-server (pid"]),
    inferred("abstract_client", "abstract-other-network-namespace", &["scenario (pid"]),
    inferred("abstract_type", "unix-wrong-type", &["a datagram socket", "a stream socket"]),
    inferred("tcp_nobody", "tcp-nobody-listens", &["nobody listens on port"]),
    inferred("tcp6_nobody", "tcp-nobody-listens", &["nobody listens on port"]),
    inferred("tcp_other_addr", "tcp-listens-on-other-address", &["listens on 127.0.0.2:"]),
    inferred("tcp_v6_loopback", "tcp-listens-on-other-address", &["listens on [::1]:"]),
    inferred("tcp_v6_only", "tcp-listens-on-other-address", &["IPV6_V6ONLY", "connect to [::1]:"]),
    inferred("tcp_netns_server", "tcp-listens-in-other-namespace", &["netns-server (pid"]),
    inferred("tcp_netns_client", "tcp-listens-in-other-namespace", &["scenario (pid"]),
    Expected {
        also: Some("owner-held-up"),
        ..inferred("tcp_queue_full", "tcp-accept-queue-full", &["queue-server (pid", "SIGSTOP"])
    },
    Expected {
        certainty: "unknown",
        ..inferred("tcp_late", "tcp-refused-though-listening", &["tcp_late (pid", "listens on"])
    },
    Expected {
        also: Some("owner-held-up"),
        ..inferred("far_queue_full", "tcp-accept-queue-full", &["far-server (pid", "SIGSTOP"])
    },
    inferred(
        "far_other_address",
        "tcp-listens-on-other-address",
        &["far-server (pid", "listens on 127.0.0.1:8002 only", "the server listen on 198.51.100.2"],
    ),
    inferred(
        "far_nobody",
        "tcp-nobody-listens",
        &["nobody listens on port 8003 in net:[", "ports with listeners there: 8001"],
    ),
    Expected {
        certainty: "unknown",
        ..inferred("far_no_answer", "tcp-no-answer", &["198.51.100.3 did not answer", "tcpdump"])
    },
    inferred("sandboxed_tcp", "security-module", &["no route", "landlock"]),
    inferred("sandboxed_name", "security-module", &["an abstract name has no owner", "landlock"]),
    inferred("tcp_no_route", "tcp-no-route", &["no route to 192.0.2.1"]),
    inferred("tcp_no_ports", "tcp-ports-exhausted", &["4 of 4 local ports"]),
    measured(
        "accept_emfile",
        "accept-out-of-descriptors",
        &["accept_emfile (pid", "400 of 400 were open"],
    ),
];
