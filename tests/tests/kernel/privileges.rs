//! Least privilege: what is left once everything is attached.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use socktrace_tests::harness::process::Running;
use socktrace_tests::harness::run::socktrace;

/// `CAP_DAC_READ_SEARCH`, `CAP_KILL`, `CAP_SETGID`, `CAP_SETUID`, `CAP_SYS_PTRACE`, `CAP_PERFMON`
/// and `CAP_BPF`, as bits (`include/uapi/linux/capability.h`).
const KEPT: u64 = 1 << 2 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 19 | 1 << 38 | 1 << 39;

#[test]
fn every_thread_keeps_only_what_reading_and_starting_a_command_need() -> Result<()> {
    let mut tracer = Running::start(&mut socktrace(&["watch"])?)?;
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
    ensure!(sets.len() >= 2, "no thread was looked at");
    for (name, set) in sets {
        ensure!(set == KEPT, "{name} {set:#x}, wanted {KEPT:#x}");
    }
    Ok(())
}
