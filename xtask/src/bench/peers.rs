//! Other tracers, doing what comes nearest to socktrace's job: their command lines and packages.

use super::plan::Subject;

/// The Debian packages that have them; one that the machine's suites lack is left out, by name.
pub(crate) const PACKAGES: &[&str] = &["bpftrace", "libbpf-tools", "linux-perf", "strace"];

/// How long TCP connections waited for `accept()`, and which `connect()` calls failed.
const BY_KPROBES: &str = "\
    BEGIN { printf(\"attached\\n\"); } \
    kprobe:inet_csk_reqsk_queue_add { @start[arg2] = nsecs; } \
    kretprobe:inet_csk_accept /@start[retval]/ { @wait = hist(nsecs - @start[retval]); delete(@start[retval]); } \
    tracepoint:syscalls:sys_exit_connect /args->ret < 0/ { @failed[pid, comm, args->ret] = count(); }";

/// The same where there are no kprobes: how long `accept4()` took, and which `connect()` calls failed.
const BY_TRACEPOINTS: &str = "\
    BEGIN { printf(\"attached\\n\"); } \
    tracepoint:syscalls:sys_enter_accept4 { @start[tid] = nsecs; } \
    tracepoint:syscalls:sys_exit_accept4 /@start[tid]/ { @took = hist(nsecs - @start[tid]); delete(@start[tid]); } \
    tracepoint:syscalls:sys_exit_connect /args->ret < 0/ { @failed[pid, comm, args->ret] = count(); }";

/// A tracer, and the package that has it.
pub(super) struct Peer {
    /// What tables call it.
    pub(super) name: &'static str,
    /// The executable.
    pub(super) program: &'static str,
    /// The package.
    pub(super) package: &'static str,
    arguments: &'static [&'static str],
    ready: Option<&'static str>,
}

/// All of them.
pub(super) const PEERS: &[Peer] = &[
    peer("tcptracer", "libbpf-tools", &[]),
    peer("tcpconnlat", "libbpf-tools", &[]),
    peer("tcpsynbl", "libbpf-tools", &[]),
    Peer {
        name: "bpftrace, kprobes",
        program: "bpftrace",
        package: "bpftrace",
        arguments: &["-e", BY_KPROBES],
        ready: Some("attached"),
    },
    Peer {
        name: "bpftrace, tracepoints",
        program: "bpftrace",
        package: "bpftrace",
        arguments: &["-e", BY_TRACEPOINTS],
        ready: Some("attached"),
    },
    Peer {
        name: "perf trace",
        program: "perf",
        package: "linux-perf",
        arguments: &["trace", "-p", "{worker}", "-e", "connect,accept4"],
        ready: None,
    },
    Peer {
        name: "strace",
        program: "strace",
        package: "strace",
        arguments: &["-f", "-e", "trace=%network", "-p", "{worker}"],
        ready: None,
    },
];

/// A tool of which one knows no more than its name.
const fn peer(
    name: &'static str,
    package: &'static str,
    arguments: &'static [&'static str],
) -> Peer {
    Peer { name, program: name, package, arguments, ready: None }
}

impl Peer {
    /// It, where its executable is at `program`.
    pub(super) fn subject(&self, program: &str) -> Subject {
        let words = [&[program], self.arguments].concat();
        Subject {
            name: self.name.to_owned(),
            command: words.into_iter().map(str::to_owned).collect(),
            ready: self.ready.map(str::to_owned),
        }
    }
}
