//! `--max-size`: a session that is written in two files by turns. The newer one has the whole report, whatever was
//! written over; the older one says where it goes on.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use socktrace_tests::harness::chance::Chance;
use socktrace_tests::harness::compare::completeness;
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::process::Running;
use socktrace_tests::harness::run::socktrace;
use socktrace_tests::harness::session::{header, is_as_recorded};

use super::{read, report, verdict};
use crate::matrix::tell;

/// In both files together, and what each may have beyond its half: a frame.
const MAX_SIZE: (&str, u64) = ("1M", 1 << 20);
const FRAME: u64 = 512 << 10;
/// Both files have been begun anew by then.
const PARTS: u64 = 4;
/// Names that lead nowhere, and how often all of them are tried at most.
const NAMES: usize = 1000;
const ROUNDS: usize = 600;

/// Names that hardly get smaller when they are packed.
fn names(dir: &Path) -> Vec<PathBuf> {
    let mut chance = Chance::seeded(1);
    let mut next = || format!("{:016x}", chance.number());
    (0..NAMES).map(|_| dir.join([next(), next(), next(), next()].concat())).collect()
}

/// Which part of the session a file has; `None` while it has none.
fn part(file: &Path) -> Option<u64> {
    header(&std::fs::read(file).ok()?).ok()?["part"].as_u64()
}

/// Fails to connect until both files were written over.
fn fail(files: &[PathBuf; 2], names: &[PathBuf]) -> Result<()> {
    for _ in 0..ROUNDS {
        for name in names {
            ensure!(UnixStream::connect(name).is_err(), "{} is there", name.display());
        }
        // Longer than an interval, in which so many are told in detail at most.
        std::thread::sleep(Duration::from_millis(100));
        if files.iter().filter_map(|file| part(file)).max() >= Some(PARTS) {
            return Ok(());
        }
    }
    anyhow::bail!("{ROUNDS} rounds do not fill {} bytes", MAX_SIZE.1)
}

/// The newer file and the older one.
fn by_age(files: [PathBuf; 2]) -> Result<[PathBuf; 2]> {
    let parts = [part(&files[0]).context("FILE")?, part(&files[1]).context("FILE.1")?];
    ensure!(parts[0].abs_diff(parts[1]) == 1, "parts {parts:?}");
    let [first, second] = files;
    Ok(if parts[0] > parts[1] { [first, second] } else { [second, first] })
}

#[test]
fn a_session_in_turns_has_its_whole_report_in_the_newer_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let files = ["session", "session.1"].map(|name| dir.path().join(name));
    let mut command = socktrace(&["record", "--json", "-i", "50ms", "--max-size", MAX_SIZE.0])?;
    let mut tracer = Running::start(command.arg("-o").arg(&files[0]))?;
    tracer.wait_err("attached")?;
    fail(&files, &names(dir.path()))?;
    tracer.signal(Signal::SIGINT)?;
    let finished = tracer.finish()?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    for file in &files {
        let found = std::fs::metadata(file)?;
        ensure!(found.mode() & 0o777 == 0o600, "{}: {:o}", file.display(), found.mode());
        ensure!(found.len() <= MAX_SIZE.1 / 2 + FRAME, "{}: {}", file.display(), found.len());
    }
    let [newer, older] = by_age(files)?;
    ensure!(finished.err().contains(&format!("{}", newer.display())), "{}", finished.told());
    is_as_recorded(&newer, &finished.stdout).context("the newer file")?;
    tell(&completeness::nothing_lost(&serde_json::from_slice(&finished.stdout)?, &this_kernel()?))?;
    let before = read(&older)?;
    ensure!(verdict(&before) == "incomplete", "{:#}", before["completeness"]);
    let told = report(&older, &[])?;
    ensure!(told.out().contains("goes on in the other"), "{}", told.told());
    Ok(())
}

#[test]
fn a_session_that_needs_no_second_file_leaves_none() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("session");
    let mut command = socktrace(&["record", "--json", "-d", "200ms", "--max-size", "10M", "-o"])?;
    let finished = Running::start(command.arg(&file))?.finish()?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    is_as_recorded(&file, &finished.stdout)?;
    let left = std::fs::read_dir(dir.path())?.count();
    ensure!(left == 1, "{left} files are left");
    Ok(())
}
