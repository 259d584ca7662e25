//! `CLOCK_MONOTONIC`, the clock that the kernel side stamps with.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`.
///
/// # Errors
/// When the clock cannot be read.
pub fn now_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("CLOCK_MONOTONIC")?;
    u64::try_from(Duration::from(now).as_nanos()).context("a monotonic clock beyond 584 years")
}

/// Sleeps for `ms` milliseconds, at least.
pub fn sleep_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Asks `done` every millisecond, for about a minute at most.
///
/// # Errors
/// When `done` fails, or did not come true in that time: `what` says what was waited for.
pub fn wait_until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    for _ in 0..60_000 {
        if done()? {
            return Ok(());
        }
        sleep_ms(1);
    }
    bail!("waited a minute in vain for {what}")
}
