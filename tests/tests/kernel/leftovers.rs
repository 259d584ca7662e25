//! After SIGKILL at any moment, nothing of socktrace is left in the kernel.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use socktrace_tests::harness::bpf_objects::{self, Objects};
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::process::{Running, wait_for};
use socktrace_tests::harness::run::{scenario, socktrace};

use crate::matrix::tell;

/// The kernel frees programs and maps after a grace period, which takes long on a busy VM.
const DEFERRED: Duration = Duration::from_secs(30);

#[test]
fn nothing_is_left_after_sigkill_under_load() -> Result<()> {
    let mut left = Vec::new();
    for tier in &this_kernel()?.tiers {
        let before = bpf_objects::all()?;
        // The load is killed, too: its work directory goes with this one.
        let dir = tempfile::tempdir().context("a work directory")?;
        let mut flood = Command::new(scenario()?);
        let load = Running::start(flood.args(["flood", "100000000"]).env("TMPDIR", dir.path()))?;
        let mut tracer = Running::start(&mut socktrace(&["watch", "--tier", tier])?)?;
        tracer.wait_err("attached")?;
        let held = bpf_objects::held_by(tracer.pid())?;
        ensure!(
            held.iter().any(|(kind, _)| *kind == "prog_id"),
            "{tier}: a tracer without programs: {held:?}"
        );
        std::thread::sleep(some_time());
        tracer.signal(Signal::SIGKILL)?;
        let _end = tracer.finish()?;
        drop(load);
        left.extend(leftovers(&before, &held).map(|text| format!("{tier}: {text}")));
    }
    tell(&left)
}

#[test]
fn nothing_is_left_after_sigkill_while_attaching() -> Result<()> {
    let mut left = Vec::new();
    for round in 0..6u32 {
        let before = bpf_objects::all()?;
        let tracer = Running::start(&mut socktrace(&["watch"])?)?;
        let delay = Duration::from_millis(20) * round + some_time() / 16;
        std::thread::sleep(delay);
        tracer.signal(Signal::SIGKILL)?;
        let _end = tracer.finish()?;
        let found = leftovers(&before, &Objects::new());
        left.extend(found.map(|text| format!("killed after {delay:?}: {text}")));
    }
    tell(&left)
}

/// Objects of the killed tracer, and any that were not there before, once the kernel had its time.
pub(crate) fn leftovers(before: &Objects, held: &Objects) -> impl Iterator<Item = String> + use<> {
    let mut rest = Err(anyhow::anyhow!("never asked"));
    let gone = wait_for(DEFERRED, || {
        rest = bpf_objects::all().context("listing");
        rest.as_ref().is_ok_and(|now| now.is_subset(before) && now.is_disjoint(held))
    });
    let told = match rest {
        _ if gone => None,
        Ok(now) => Some(format!("left in the kernel: {:?}", now.difference(before))),
        Err(error) => Some(format!("{error:#}")),
    };
    told.into_iter()
}

/// Between 0 and 160 ms, by the clock's last digits.
fn some_time() -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Duration::from_nanos(now.map_or(0, |now| u64::from(now.subsec_nanos() % 160_000_000)))
}
