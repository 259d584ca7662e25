//! Hooks that attach and never fire: what the self-test makes of them, and what a recording is without it.
//!
//! With `kernel.ftrace_enabled` 0 the kernel takes hooks on functions (fentry, fexit, and kprobes at the entry of a function) and
//! calls none. It is the whole kernel's switch, so this is done in guests only, and last of all (tests run in the order of their
//! names): 6.1 does not call all hooks again when it is switched back on.

use std::fs;

use anyhow::{Context, Result, ensure};
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::process::Finished;
use socktrace_tests::harness::run::{Run, record, run};

const SWITCH: &str = "/proc/sys/kernel/ftrace_enabled";
const REMEDY: &str = "kernel.ftrace_enabled is 0: set it to 1";

/// No hook on a function fires while this lives.
struct Off;

impl Off {
    fn switch() -> Result<Self> {
        fs::write(SWITCH, "0").context(SWITCH)?;
        Ok(Self)
    }
}

impl Drop for Off {
    fn drop(&mut self) {
        fs::write(SWITCH, "1").expect(SWITCH);
    }
}

/// The tiers of this kernel whose hooks can be switched off; none on the machine itself, of which the switch is not ours.
fn tiers_to_silence() -> Result<Vec<String>> {
    let kernel = this_kernel()?;
    if !kernel.switches_ftrace {
        let switched = kernel.name != "host" && Off::switch().is_ok();
        ensure!(
            !switched,
            "the table says that {} does not let hooks be switched off",
            kernel.name
        );
        return Ok(Vec::new());
    }
    ensure!(kernel.name != "host", "the switch of this machine is not ours");
    Ok(kernel.tiers.into_iter().filter(|it| it != "tracepoint").collect())
}

fn refuses(finished: &Finished, tier: &str, signal: &str) -> bool {
    let text = finished.out();
    let part = text.split("\n\n").find(|part| {
        let about = part
            .split_once(':')
            .is_some_and(|(signals, _)| signals.split(", ").any(|it| it.trim() == signal));
        about && part.contains(&format!("tier {tier} refused"))
    });
    part.is_some_and(|part| part.contains(REMEDY))
}

/// Connects that failed, by the report.
fn counted(run: &Run) -> u64 {
    let processes = run.report.processes.iter();
    processes.flat_map(|process| &process.connect_failures).map(|failed| failed.count).sum()
}

#[test]
fn a_tier_whose_hooks_never_fire_is_refused_with_what_would_change_that() -> Result<()> {
    for tier in tiers_to_silence()? {
        let _off = Off::switch()?;
        let finished = run(&["check", "--tier", &tier])?;
        ensure!(finished.code() == Some(3), "{tier}: {}", finished.told());
        for signal in ["accept", "backlog_drop", "listen", "connect_blocked"] {
            ensure!(refuses(&finished, &tier, signal), "{tier}, {signal}: {}", finished.told());
        }
    }
    Ok(())
}

#[test]
fn what_never_fires_gives_way_to_tracepoints_and_all_is_counted() -> Result<()> {
    if tiers_to_silence()?.is_empty() {
        return Ok(());
    }
    let _off = Off::switch()?;
    let finished = run(&["check"])?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    ensure!(
        finished.out().contains("self-test: every hook that it tries fires"),
        "{}",
        finished.told()
    );
    let text = finished.out();
    for signal in ["accept", "connect_failure", "backlog_drop", "listen", "connect_blocked"] {
        let row = text.lines().find(|line| line.starts_with(&format!("{signal} ")));
        let tier = row.and_then(|row| row.split_whitespace().nth(1));
        ensure!(tier == Some("tracepoint"), "{signal}: {}", finished.told());
        ensure!(refuses(&finished, "fentry", signal), "{signal}: {}", finished.told());
    }
    let run = record(&[], &["unix_missing"])?;
    let seen: u64 = run.seen.failures.iter().map(|it| it.count).sum();
    ensure!(seen != 0 && counted(&run) == seen, "wanted {seen}: {:#}", run.raw);
    Ok(())
}

#[test]
fn without_the_self_test_silent_hooks_are_believed() -> Result<()> {
    for tier in tiers_to_silence()? {
        let _off = Off::switch()?;
        let args = ["record", "--no-save", "--no-self-test", "--tier", &tier, "-d", "0.1s"];
        let alone = run(&args)?;
        if alone.code() == Some(3) {
            ensure!(alone.err().contains(REMEDY), "{tier}: {}", alone.told());
            continue;
        }
        let run = record(&["--tier", &tier, "--no-self-test"], &["unix_missing"])?;
        // The kprobe tier has its failures from tracepoints.
        ensure!((counted(&run) == 0) == (tier == "fentry"), "{tier}: {:#}", run.raw);
    }
    Ok(())
}
