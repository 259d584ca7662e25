//! A steady beat, and a log of when how many beats were over: what a tracer that ends at any moment
//! must have seen by then.
//!
//! One beat is one refused TCP connect and one accepted Unix connection.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockType};

use super::attempt::{failure, must_be};
use super::clock::{now_ns, sleep_ms};
use super::gate::Gate;
use super::listener::{accepts, loopback};
use super::socket::{Address, accept, bound, listen};
use super::stage::Stage;

const NAME: &str = "pulse";
/// Name of the log, in the gate's directory.
const LOG: &str = "pulse";
const BACKLOG: u32 = 8;
/// Nobody waits that long for a test.
const MOST: u64 = 600_000;

/// Beats about a thousand times a second until the gate is released.
///
/// # Errors
/// When a call ends in another way than it should.
pub fn beat(stage: &mut Stage, gate: &Gate, dir: &Path) -> Result<()> {
    let (_held, refuses) = bound(&loopback(), SockType::Stream)?;
    let at = Address::path(&stage.path("pulse.sock"))?;
    let listener = listen(&at, SockType::Stream, BACKLOG)?;
    let mut log = File::create(dir.join(LOG)).context("the log")?;
    let mut count = 0;
    while count < MOST && !gate.is_released() {
        let client = refuses.socket(SockType::Stream, SockFlag::empty())?;
        must_be(&refuses, Errno::ECONNREFUSED, refuses.connect(&client))?;
        let client = at.socket(SockType::Stream, SockFlag::empty())?;
        at.connect(&client).context("connect")?;
        accept(&listener, SockFlag::empty()).context("accept")?;
        count += 1;
        // One write: whoever reads it sees whole lines, but for the last.
        let line = format!("{} {count}\n", now_ns()?);
        log.write_all(line.as_bytes()).context("the log")?;
        sleep_ms(1);
    }
    stage.failed(failure(NAME, &refuses, Errno::ECONNREFUSED, count)?);
    stage.accepted(accepts(NAME, &listener, count)?);
    Ok(())
}

/// When how many beats were over.
#[derive(Clone, Debug)]
pub struct Beats(Vec<(u64, u64)>);

impl Beats {
    /// The log so far.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(dir: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(dir.join(LOG)).context("the log of the pulse")?;
        Ok(Self(parse(&text)))
    }

    /// How many were over at that time.
    pub fn over_at(&self, time_ns: u64) -> u64 {
        let later = self.0.partition_point(|(time, _)| *time <= time_ns);
        later.checked_sub(1).map_or(0, |last| self.0[last].1)
    }

    /// How many had begun at that time, at most.
    pub fn begun_at(&self, time_ns: u64) -> u64 {
        self.over_at(time_ns) + 1
    }
}

/// A line without its end is not written yet.
fn parse(text: &str) -> Vec<(u64, u64)> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let pair = |line: &str| {
        let (time, count) = line.split_once(' ')?;
        Some((time.parse().ok()?, count.parse().ok()?))
    };
    whole.lines().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_are_counted_up_to_a_time_and_an_unfinished_line_is_none() {
        let beats = Beats(parse("10 1\n20 2\n30 3\n40"));
        assert_eq!([0, 10, 29, 30, 99].map(|time| beats.over_at(time)), [0, 1, 2, 3, 3]);
        assert_eq!(beats.begun_at(9), 1);
    }
}
