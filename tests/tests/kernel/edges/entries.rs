//! Calls that do not come by the 64-bit system calls: io_uring, and 32-bit programs.

use std::path::Path;

use anyhow::Result;
use socktrace_tests::harness::compare::{Strangers, closed, drops, failures, listens};
use socktrace_tests::harness::run::Run;
use socktrace_tests::scenario::record::Failure;

use super::{accepted, admitted, connects, exactly, in_every_tier, lacks};

/// Accepts that the tracepoint tier alone does not see: it must say so, and report none.
fn accepts_unless_tracepoint(tier: &str, run: &Run, word: &str) -> Vec<String> {
    if tier != "tracepoint" {
        return exactly(run);
    }
    let mut problems = admitted(run, "accept", word);
    let told: u64 = run.report.listeners.iter().map(|it| it.accept.count).sum();
    let made: u64 = run.seen.accepts.iter().map(|it| it.count).sum();
    if told != 0 {
        problems.push(format!("{told} accepts in a tier that sees none of these {made}"));
    }
    let named = run.report.listeners.iter().filter_map(|it| it.last_acceptor.as_ref());
    problems.extend(named.map(|it| format!("{it:?} accepted last, in a tier that cannot know")));
    problems
}

/// Connect failures of which only those of TCP show outside the fentry tier.
fn failures_of_tcp_unless_fentry(tier: &str, run: &Run, word: &str) -> Vec<String> {
    let shows = |failure: &&Failure| tier == "fentry" || failure.family != "unix";
    let wanted: Vec<&Failure> = run.seen.failures.iter().filter(shows).collect();
    let mut problems = failures::only(&wanted, &run.report, Strangers::Forbidden);
    problems.extend(failures::false_alarms(&run.seen, &run.report));
    if wanted.len() < run.seen.failures.len() {
        problems.extend(admitted(run, "connect_failure", word));
    }
    problems
}

/// Whether this kernel has io_uring is asked of the kernel itself, in another way than by using it.
fn io_uring_is_off() -> bool {
    let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    text.is_ok_and(|text| text.trim() == "2") || !symbols_have("io_uring_setup")
}

fn symbols_have(word: &str) -> bool {
    std::fs::read_to_string("/proc/kallsyms").is_ok_and(|text| text.contains(word))
}

fn ring_accepts(incident: &str) -> Result<()> {
    in_every_tier(incident, &[], |tier, run| {
        let mut problems = accepts_unless_tracepoint(tier, run, "io_uring");
        problems.extend(lacks(run, "io_uring", io_uring_is_off()));
        problems
    })
}

fn ring_connects(incident: &str) -> Result<()> {
    in_every_tier(incident, &[], |tier, run| {
        let mut problems = failures_of_tcp_unless_fentry(tier, run, "io_uring");
        problems.extend(lacks(run, "io_uring", io_uring_is_off()));
        problems
    })
}

#[test]
fn accepts_through_io_uring_are_counted_or_said_to_be_missing() -> Result<()> {
    ring_accepts("edge_ring_accept")
}

#[test]
fn accepts_by_a_worker_of_io_uring_are_those_of_the_process() -> Result<()> {
    ring_accepts("edge_ring_accept_worker")
}

#[test]
fn connects_through_io_uring_that_fail_are_counted_or_said_to_be_missing() -> Result<()> {
    ring_connects("edge_ring_connect")
}

#[test]
fn connects_by_a_worker_of_io_uring_that_fail_are_those_of_the_process() -> Result<()> {
    ring_connects("edge_ring_connect_worker")
}

#[test]
fn listen_through_io_uring_is_known_or_said_to_be_missing() -> Result<()> {
    in_every_tier("edge_ring_listen", &[], |tier, run| {
        let mut problems = accepted(run);
        problems.extend(lacks(run, "io_uring", io_uring_is_off()));
        let refused = !io_uring_is_off() && !symbols_have(" io_listen\n");
        problems.extend(lacks(run, "io_uring_listen", refused));
        if tier == "fentry" {
            problems.extend(listens::problems(&run.seen, &run.report));
        } else {
            problems.extend(admitted(run, "listen", "io_uring"));
        }
        problems
    })
}

#[test]
fn what_is_closed_after_a_listener_was_shut_down_was_not_in_its_queue() -> Result<()> {
    in_every_tier("edge_ring_shut_down", &[], |tier, run| {
        let mut problems = accepts_unless_tracepoint(tier, run, "io_uring");
        problems.extend(closed::problems(&run.seen, &run.report, true));
        problems.extend(lacks(run, "io_uring", io_uring_is_off()));
        problems
    })
}

#[test]
fn what_io_uring_tries_without_blocking_is_no_failure_and_no_drop() -> Result<()> {
    in_every_tier("edge_ring_connect_full", &[], |_, run| {
        let mut problems = connects(run);
        problems.extend(drops::unix(&run.seen, &run.report));
        problems.extend(lacks(run, "io_uring", io_uring_is_off()));
        problems
    })
}

/// Whether this kernel takes 32-bit calls is asked of its symbols.
fn ia32_is_off() -> bool {
    !symbols_have("ia32_sys_call") && !Path::new("/proc/sys/abi/vsyscall32").exists()
}

#[test]
fn accepts_of_32_bit_programs_are_counted_or_said_to_be_missing() -> Result<()> {
    in_every_tier("edge_ia32_accept", &[], |tier, run| {
        let mut problems = accepts_unless_tracepoint(tier, run, "32-bit");
        problems.extend(lacks(run, "ia32", ia32_is_off()));
        problems
    })
}

#[test]
fn connects_of_32_bit_programs_that_fail_are_counted_or_said_to_be_missing() -> Result<()> {
    in_every_tier("edge_ia32_connect", &[], |tier, run| {
        let mut problems = failures_of_tcp_unless_fentry(tier, run, "32-bit");
        problems.extend(lacks(run, "ia32", ia32_is_off()));
        problems
    })
}
