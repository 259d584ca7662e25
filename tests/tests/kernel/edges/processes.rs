//! Who it was: processes in namespaces, short-lived ones, such that change their name or share a pid.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::{accepted, connects, exactly, in_every_tier, lacks};

#[test]
fn clients_in_other_namespaces_are_told_by_their_initial_pid_and_own_path() -> Result<()> {
    in_every_tier("edge_namespaces", &[], |_, run| exactly(run))
}

#[test]
fn every_one_of_a_hundred_processes_that_fail_and_exit_has_its_pid_name_and_user() -> Result<()> {
    in_every_tier("edge_short_lived", &[], |_, run| exactly(run))
}

#[test]
fn a_failure_names_the_program_that_called_connect_and_not_what_it_became() -> Result<()> {
    in_every_tier("edge_renamed", &[], |_, run| {
        let mut problems = connects(run);
        problems.extend(accepted(run));
        problems
    })
}

#[test]
fn two_processes_with_one_pid_stay_apart() -> Result<()> {
    let chooses = Path::new("/proc/sys/kernel/ns_last_pid").exists();
    in_every_tier("edge_pid_reuse", &[], |_, run| {
        let mut problems = exactly(run);
        problems.extend(lacks(run, "kernel.ns_last_pid", !chooses));
        let pids: Vec<u32> = run.seen.failures.iter().map(|it| it.pid).collect();
        // Those between the two were given another, and that may come again.
        let of_first = pids.iter().filter(|pid| Some(*pid) == pids.first()).count();
        if chooses && of_first != 2 {
            problems.push(format!("the first pid comes twice among {pids:?}, by their parent"));
        }
        let starts: BTreeSet<_> =
            run.report.processes.iter().filter_map(|it| it.start_time_ns).collect();
        if starts.len() != pids.len() {
            problems.push(format!("{} processes, start times are {starts:?}", pids.len()));
        }
        problems
    })
}
