//! The process that is traced: does an operation so many times when it is told to, and says what that cost.
//!
//! One command per line of stdin, one answer per line of stdout, both JSON; the end of stdin ends it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{BufRead, Write};
use std::path::Path;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::operation::{Operation, Prepared};

/// What to do.
#[derive(Deserialize, Serialize)]
pub(super) struct Command {
    pub(super) operation: Operation,
    pub(super) count: u64,
}

/// What a round cost in all, in nanoseconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Cost {
    /// Between its beginning and its end.
    pub(super) wall: u64,
    /// Of CPU, by all threads of the worker.
    pub(super) cpu: u64,
}

/// Obeys until there is no more command.
///
/// # Errors
/// When an operation does not end as it is meant to, or its files in `dir` cannot be made.
pub fn serve(commands: impl BufRead, mut answers: impl Write, dir: &Path) -> Result<()> {
    stay_on_one_cpu()?;
    let mut prepared: BTreeMap<Operation, Prepared> = BTreeMap::new();
    for line in commands.lines() {
        let command: Command = serde_json::from_str(&line?).context("a command")?;
        let operation = match prepared.entry(command.operation) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(place) => place.insert(command.operation.prepare(dir)?),
        };
        let cost = measure(operation, command.count)
            .with_context(|| format!("{:?}", command.operation))?;
        serde_json::to_writer(&mut answers, &cost)?;
        answers.write_all(b"\n").and_then(|()| answers.flush())?;
    }
    Ok(())
}

/// Both ends of a connection on one CPU: what a wakeup costs then does not depend on where it goes.
fn stay_on_one_cpu() -> Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).context("sched_getaffinity")?;
    let last = (0..CpuSet::count()).rev().find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(last.context("no CPU is allowed")?)?;
    sched_setaffinity(this, &one).context("sched_setaffinity")
}

fn measure(operation: &Prepared, count: u64) -> Result<Cost> {
    let before = now()?;
    for _ in 0..count {
        operation.act()?;
    }
    let after = now()?;
    Ok(Cost { wall: after.wall - before.wall, cpu: after.cpu - before.cpu })
}

fn now() -> Result<Cost> {
    let read = |clock| -> Result<u64> {
        let time = clock_gettime(clock).context("clock_gettime")?;
        Ok(u64::try_from(time.tv_sec())? * 1_000_000_000 + u64::try_from(time.tv_nsec())?)
    };
    let cpu = read(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    Ok(Cost { wall: read(ClockId::CLOCK_MONOTONIC)?, cpu })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_answered_with_its_cost() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let commands = br#"{"operation":"getpid","count":1000}"#;
        let mut answers = Vec::new();
        serve(commands.as_slice(), &mut answers, dir.path())?;
        let cost: Cost = serde_json::from_slice(&answers)?;
        assert!(cost.wall > 1000 && cost.cpu > 0, "{cost:?}");
        Ok(())
    }
}
