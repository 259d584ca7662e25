//! A program, and drops that begin before it starts and end after it: no counter stands still while it reads.

use std::process::{Command, ExitCode, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::clock::sleep_ms;
use super::netstat;
use crate::bench::operation::Operation;

/// A flood ends by itself after this time.
const AT_MOST: Duration = Duration::from_secs(90);
/// Drops before the program starts.
const FIRST: u64 = 100;

/// Executes `PROGRAM ARGS` while SYNs to a full listener of this network namespace are dropped, as fast as a thread can send them.
///
/// # Errors
/// When nothing is dropped, or the program cannot be executed.
pub fn run(words: &[String]) -> Result<ExitCode> {
    let [program, args @ ..] = words else { bail!("amid: no PROGRAM") };
    let before = netstat::read()?.listen_drops;
    let ended = AtomicBool::new(false);
    let status = thread::scope(|scope| {
        let flood = scope.spawn(|| drop_until(&ended));
        let ran = flooded(before).and_then(|()| {
            Command::new(program).args(args).status().with_context(|| program.clone())
        });
        ended.store(true, Relaxed);
        flood.join().map_err(|_| anyhow!("the flood panicked"))??;
        ran
    })?;
    Ok(code(status))
}

fn flooded(before: u64) -> Result<()> {
    let begin = Instant::now();
    while netstat::read()?.listen_drops < before + FIRST {
        ensure!(begin.elapsed() < AT_MOST, "no drop was counted");
        sleep_ms(1);
    }
    Ok(())
}

fn drop_until(ended: &AtomicBool) -> Result<()> {
    let dir = tempfile::tempdir().context("a directory")?;
    let drops = Operation::TcpOverflow.prepare(dir.path())?;
    let begin = Instant::now();
    while !ended.load(Relaxed) {
        ensure!(begin.elapsed() < AT_MOST, "the program did not end");
        drops.act()?;
    }
    Ok(())
}

fn code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
