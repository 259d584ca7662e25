//! The rules of a process: what a checkup of it can find, step by step.
//!
//! Owns their rows. How each decides is with the facts of its step.

use super::{Facts, descriptors, identity, listeners, memory, pipes, tcp::faults, udp, unix};
use crate::diagnose::{
    Check,
    rule::{Outcome, Rule, Step, finding},
};

/// Of a process.
pub const TABLE: &[Rule<Facts>] = &[
    Rule {
        name: "process-held",
        about: "a signal, a debugger or its frozen cgroup keeps it from running",
        errnos: &[],
        step: Step::Process,
        source: "do_signal_stop(), ptrace_stop(), cgroup_freeze()",
        decide: |facts| Outcome::each(identity::held(facts)),
    },
    Rule {
        name: "process-ended",
        about: "it has ended, and its parent did not collect it",
        errnos: &[],
        step: Step::Process,
        source: "exit_notify(): EXIT_ZOMBIE",
        decide: |facts| Outcome::each(identity::ended(facts)),
    },
    Rule {
        name: "descriptors-used-up",
        about: "it has nine tenths of the descriptors open that it may, or all",
        errnos: &[],
        step: Step::Descriptors,
        source: "alloc_fd(), RLIMIT_NOFILE",
        decide: |facts| Outcome::each(descriptors::used_up(facts)),
    },
    Rule {
        name: "files-used-up",
        about: "the host has nine tenths of the files open that it may, or all",
        errnos: &[],
        step: Step::Descriptors,
        source: "alloc_empty_file(), fs.file-max",
        decide: |facts| Outcome::each(descriptors::host_used_up(facts)),
    },
    Rule {
        name: "listener-queue-full",
        about: "the accept queue of a listener that it holds is full",
        errnos: &[],
        step: Step::Listeners,
        source: "sk_acceptq_is_full(), unix_recvq_full()",
        decide: |facts| Outcome::each(listeners::full(facts)),
    },
    Rule {
        name: "listener-dropped",
        about: "a listener that it holds has thrown packets away",
        errnos: &[],
        step: Step::Listeners,
        source: "tcp_listendrop(): sk_drops",
        decide: |facts| Outcome::each(listeners::dropped(facts)),
    },
    Rule {
        name: "unix-peer-does-not-read",
        about: "the send buffer of a Unix socket is full, as its peer does not read",
        errnos: &[],
        step: Step::Unix,
        source: "sock_alloc_send_pskb(): sk_wmem_alloc",
        decide: |facts| Outcome::each(unix::unread_by_peers(facts)),
    },
    Rule {
        name: "unix-does-not-read",
        about: "it does not read a Unix socket whose peer's send buffer is full",
        errnos: &[],
        step: Step::Unix,
        source: "unix_stream_read_generic(), sk_receive_queue",
        decide: |facts| Outcome::each(unix::unread_here(facts)),
    },
    Rule {
        name: "tcp-connect-unanswered",
        about: "a connect of it got no answer to its SYN, which is sent again",
        errnos: &[],
        step: Step::Tcp,
        source: "tcp_retransmit_timer(): TCP_SYN_SENT",
        decide: |facts| Outcome::each(faults::connecting(facts)),
    },
    Rule {
        name: "tcp-does-not-read",
        about: "it leaves data of a TCP connection unread",
        errnos: &[],
        step: Step::Tcp,
        source: "tcp_get_info(): tcpi_last_data_recv, sk_rmem_alloc",
        decide: |facts| Outcome::each(faults::unread(facts)),
    },
    Rule {
        name: "tcp-peer-does-not-read",
        about: "the peer of a TCP connection has closed its window",
        errnos: &[],
        step: Step::Tcp,
        source: "tcp_get_info(): tcpi_snd_wnd, tcpi_rwnd_limited",
        decide: |facts| Outcome::each(faults::unread_by_peers(facts)),
    },
    Rule {
        name: "tcp-retransmits",
        about: "segments of a TCP connection are sent again, as nobody acknowledges them",
        errnos: &[],
        step: Step::Tcp,
        source: "tcp_retransmit_skb(), tcpi_retransmits",
        decide: |facts| Outcome::each(faults::unanswered(facts)),
    },
    Rule {
        name: "tcp-close-wait",
        about: "it does not close TCP connections that their peers have closed",
        errnos: &[],
        step: Step::Tcp,
        source: "tcp_fin(): TCP_CLOSE_WAIT",
        decide: |facts| Outcome::each(faults::not_closed(facts)),
    },
    Rule {
        name: "udp-dropped",
        about: "a UDP socket of it has dropped datagrams",
        errnos: &[],
        step: Step::Udp,
        source: "__udp_enqueue_schedule_skb(): sk_drops",
        decide: |facts| Outcome::each(udp::dropped(facts)),
    },
    Rule {
        name: "pipe-without-reader",
        about: "nobody reads from a pipe that it may write to",
        errnos: &[],
        step: Step::Pipes,
        source: "pipe_write(): SIGPIPE, EPIPE",
        decide: |facts| Outcome::each(pipes::unread(facts)),
    },
    Rule {
        name: "pipe-without-writer",
        about: "nobody writes to a pipe that it may read from",
        errnos: &[],
        step: Step::Pipes,
        source: "pipe_read(): 0",
        decide: |facts| Outcome::each(pipes::unwritten(facts)),
    },
    Rule {
        name: "tcp-memory",
        about: "TCP sockets of the host hold more memory than the pressure mark, or all that they may",
        errnos: &[],
        step: Step::Memory,
        source: "__sk_mem_raise_allocated(), net.ipv4.tcp_mem",
        decide: |facts| Outcome::each(memory::too_much_socket_memory(facts)),
    },
    Rule {
        name: "tcp-orphans",
        about: "as many TCP sockets belong to no process as may",
        errnos: &[],
        step: Step::Memory,
        source: "tcp_check_oom(), net.ipv4.tcp_max_orphans",
        decide: |facts| Outcome::each(memory::too_many_orphans(facts)),
    },
    Rule {
        name: "cgroup-memory",
        about: "its cgroup, or one above, is above memory.high, or was refused memory",
        errnos: &[],
        step: Step::Memory,
        source: "try_charge_memcg(), memory.events",
        decide: |facts| Outcome::each(memory::short_of_memory(facts)),
    },
    Rule {
        name: "cpu-throttled",
        about: "the CPU quota of its cgroup holds it up now",
        errnos: &[],
        step: Step::Memory,
        source: "throttle_cfs_rq(), cpu.stat",
        decide: |facts| Outcome::each(memory::throttled(facts)),
    },
    Rule {
        name: "memory-pressure",
        about: "tasks of its cgroup wait for memory",
        errnos: &[],
        step: Step::Memory,
        source: "psi_memstall_enter(), memory.pressure",
        decide: |facts| Outcome::each(memory::memory_pressed(facts)),
    },
    Rule {
        name: "cpu-pressure",
        about: "tasks of its cgroup wait for a CPU",
        errnos: &[],
        step: Step::Memory,
        source: "psi_task_change(), cpu.pressure",
        decide: |facts| Outcome::each(memory::cpu_pressed(facts)),
    },
];

/// Adds what the rules of a step find, and what it would take to tell.
pub(super) fn note_findings(check: &mut Check, facts: &Facts, step: Step) {
    for rule in TABLE.iter().filter(|rule| rule.step == step) {
        match (rule.decide)(facts) {
            Outcome::Clear => {}
            Outcome::Found(found) => {
                check.findings.extend(found.into_iter().map(|it| finding(rule.name, it)));
            }
            Outcome::Unknown(fact) => check.unseen.push(fact.into()),
        }
    }
}
