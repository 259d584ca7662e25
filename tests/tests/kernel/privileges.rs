//! Least privilege: what is left once everything is attached.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::process::Running;
use socktrace_tests::harness::run::socktrace;

/// `CAP_DAC_READ_SEARCH`, `CAP_KILL`, `CAP_SETGID`, `CAP_SETUID`, `CAP_SYS_PTRACE`, `CAP_PERFMON`
/// and `CAP_BPF`, as bits (`include/uapi/linux/capability.h`).
const KEPT: u64 = 1 << 2 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 19 | 1 << 38 | 1 << 39;

/// `CAP_SYS_NICE`: for turns of reading, where the kernel preempts its own code: some hooks of every tier share their guard with that.
const TURNS: u64 = 1 << 23;

#[test]
fn every_thread_keeps_only_what_reading_and_starting_a_command_need() -> Result<()> {
    let kernel = this_kernel()?;
    let preempts = kernel.preempts()?;
    for tier in &kernel.tiers {
        let sets = sets(tier).with_context(|| tier.clone())?;
        ensure!(sets.len() >= 2, "{tier}: no thread was looked at");
        for (name, set) in sets {
            let takes_turns = set == KEPT | TURNS;
            ensure!(set == KEPT || takes_turns, "{tier}: {name} {set:#x}, wanted {KEPT:#x}");
            let is_right = preempts.is_none_or(|it| takes_turns == it);
            ensure!(is_right, "{tier}: {name} {set:#x}, preempts: {preempts:?}");
        }
    }
    Ok(())
}

/// Of each thread.
fn sets(tier: &str) -> Result<Vec<(&'static str, u64)>> {
    let mut tracer = Running::start(&mut socktrace(&["watch", "--tier", tier])?)?;
    tracer.wait_err("attached")?;
    let mut sets = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{}/task", tracer.pid()))? {
        let status = std::fs::read_to_string(task?.path().join("status"))?;
        for name in ["CapPrm:", "CapEff:"] {
            let found = status.lines().find_map(|line| line.strip_prefix(name));
            let found = found.with_context(|| format!("no {name}"))?;
            sets.push((name, u64::from_str_radix(found.trim(), 16)?));
        }
    }
    tracer.signal(Signal::SIGINT)?;
    let _end = tracer.finish()?;
    Ok(sets)
}
