//! Hooks that would attach and never fire: those that the kernel says it does not call are not tried, others are found out by the
//! self-test.
//!
//! Two switches of the whole kernel, so this is done in guests only. With `kernel.ftrace_enabled` 0, no hook on a function is
//! called, and attaching some all the same breaks 6.1. With `kprobes/enabled` 0, of which nobody but debugfs tells, kprobes
//! attach and are not called.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::process::Finished;
use socktrace_tests::harness::run::{Run, record, run};

const FTRACE: &str = "/proc/sys/kernel/ftrace_enabled";
const KPROBES: &str = "kprobes/enabled";
const REMEDY: &str = "kernel.ftrace_enabled is 0: set it to 1";
const SIGNALS: [&str; 5] =
    ["accept", "connect_failure", "backlog_drop", "listen", "connect_blocked"];

/// A switch that is off while this lives.
struct Off<'a>(&'a Path);

impl<'a> Off<'a> {
    fn switch(path: &'a Path) -> Result<Self> {
        fs::write(path, "0").with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Off<'_> {
    fn drop(&mut self) {
        fs::write(self.0, "1").expect("it is switched on again");
    }
}

/// The tiers of this kernel that hook functions; none on the machine itself, of which the switches are not ours.
fn tiers_on_functions() -> Result<Vec<String>> {
    let kernel = this_kernel()?;
    let tiers: Vec<String> = kernel.tiers.into_iter().filter(|it| it != "tracepoint").collect();
    ensure!(kernel.name != "host" || tiers.is_empty(), "the switches of this machine are not ours");
    Ok(tiers)
}

fn refuses(finished: &Finished, tier: &str, signal: &str, why: &str) -> bool {
    let text = finished.out();
    let refusal = format!("tier {tier} refused: ");
    text.split("\n\n").any(|part| {
        let about = part
            .split_once(':')
            .is_some_and(|(signals, _)| signals.split(", ").any(|it| it.trim() == signal));
        about && part.contains(&refusal) && part.contains(why)
    })
}

#[test]
fn while_ftrace_is_off_tracepoints_count_all_and_other_tiers_say_what_would_change_that()
-> Result<()> {
    let switch = Path::new(FTRACE);
    if !this_kernel()?.switches_ftrace {
        let is_ours = this_kernel()?.name != "host";
        ensure!(!is_ours || Off::switch(switch).is_err(), "the table says that it stays on");
        return Ok(());
    }
    let tiers = tiers_on_functions()?;
    let _off = Off::switch(switch)?;
    for tier in &tiers {
        let finished = run(&["check", "--tier", tier])?;
        ensure!(finished.code() == Some(3), "{tier}: {}", finished.told());
        for signal in SIGNALS {
            ensure!(refuses(&finished, tier, signal, REMEDY), "{signal}: {}", finished.told());
        }
    }
    let finished = run(&["check"])?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    let text = finished.out();
    for signal in SIGNALS {
        let row = text.lines().find(|line| line.starts_with(&format!("{signal} ")));
        let tier = row.and_then(|row| row.split_whitespace().nth(1));
        ensure!(tier == Some("tracepoint"), "{signal}: {}", finished.told());
    }
    let run = record(&[], &["unix_missing"])?;
    let seen: u64 = run.seen.failures.iter().map(|it| it.count).sum();
    ensure!(seen != 0 && counted(&run) == seen, "wanted {seen}: {:#}", run.raw);
    Ok(())
}

/// Connects that failed, by the report.
fn counted(run: &Run) -> u64 {
    let processes = run.report.processes.iter();
    processes.flat_map(|process| &process.connect_failures).map(|failed| failed.count).sum()
}

#[test]
fn kprobes_that_attach_and_are_never_called_are_refused_and_without_the_self_test_believed()
-> Result<()> {
    if !tiers_on_functions()?.iter().any(|tier| tier == "kprobe") {
        return Ok(());
    }
    let debugfs = tempfile::tempdir().context("a mount point")?;
    mount(Some("debugfs"), debugfs.path(), Some("debugfs"), MsFlags::empty(), None::<&str>)
        .context("debugfs")?;
    let outcome = with_kprobes_off(&debugfs.path().join(KPROBES));
    umount2(debugfs.path(), MntFlags::MNT_DETACH).context("umount")?;
    outcome
}

fn with_kprobes_off(switch: &Path) -> Result<()> {
    let _off = Off::switch(switch)?;
    let tried = run(&["check", "--tier", "kprobe"])?;
    ensure!(tried.code() == Some(3), "{}", tried.told());
    for signal in ["accept", "backlog_drop", "listen", "connect_blocked"] {
        let fact = "its hooks attached, but do not fire";
        ensure!(refuses(&tried, "kprobe", signal, fact), "{signal}: {}", tried.told());
    }
    let believed = run(&["check", "--tier", "kprobe", "--no-self-test"])?;
    ensure!(believed.code() == Some(0), "{}", believed.told());
    let said = "self-test not made: --no-self-test";
    ensure!(believed.out().contains(said), "{}", believed.told());
    Ok(())
}
