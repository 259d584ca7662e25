//! A session that does not fit: tracing goes on and its report is whole, the file says that it was
//! cut short, and the command fails in the end.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use socktrace_tests::harness::process::{Finished, Running};
use socktrace_tests::harness::run::{play, scenario, socktrace};

use super::disk::{Disk, on_a_disk};
use super::{read, report, verdict};

/// More than what fits into what is left of a page: as many events are told in a second at most.
const MANY: u64 = 5000;

/// Failures of one process, as a report counts them.
fn failures(report: &Value, pid: u32) -> u64 {
    let rows = report["processes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = rows.iter().find(|row| row["pid"] == pid).cloned().unwrap_or_default();
    let failures = row["connect_failures"].as_array().cloned().unwrap_or_default();
    failures.iter().filter_map(|failure| failure["count"].as_u64()).sum()
}

/// `record -o FILE`, saving often.
fn recording(file: &Path) -> Result<Command> {
    let mut command = socktrace(&["record", "--json", "-i", "50ms", "-o"])?;
    command.arg(file);
    Ok(command)
}

/// Floods the tracer, ends it, and judges its report, which has everything.
fn floods(tracer: Running) -> Result<Finished> {
    let flooded = play(&["flood", &MANY.to_string()])?;
    // So long that an interval is over.
    std::thread::sleep(std::time::Duration::from_millis(200));
    tracer.signal(Signal::SIGINT)?;
    let finished = tracer.finish()?;
    let live: Value = serde_json::from_slice(&finished.stdout).with_context(|| finished.told())?;
    ensure!(verdict(&live) == "complete", "{:#}", live["completeness"]);
    let counted = failures(&live, flooded.pid);
    ensure!(counted == MANY, "{counted} of {MANY}");
    Ok(finished)
}

/// It failed in the end for the reason, after it went on; the file tells the same.
fn is_cut_short(finished: &Finished, file: &Path, why: &str) -> Result<()> {
    ensure!(finished.code() == Some(125), "{}", finished.told());
    for word in [why, "saved no further", "tracing goes on"] {
        ensure!(finished.err().contains(word), "no `{word}`: {}", finished.told());
    }
    let saved = read(file)?;
    ensure!(verdict(&saved) == "incomplete", "{:#}", saved["completeness"]);
    let reasons = saved["completeness"]["reasons"].to_string();
    ensure!(reasons.contains(why), "{reasons}");
    let text = report(file, &["--strict"])?;
    ensure!(text.code() == Some(4) && text.out().contains(why), "{}", text.told());
    Ok(())
}

#[test]
fn on_a_disk_that_fills_up_tracing_goes_on_and_the_file_says_that_it_was_cut() -> Result<()> {
    on_a_disk("size=1m", |disk: &Disk| {
        let file = disk.dir().join("session.jsonl.zst");
        let mut tracer = Running::start(&mut recording(&file)?)?;
        tracer.wait_err("attached")?;
        disk.fill()?;
        is_cut_short(&floods(tracer)?, &file, "ENOSPC")
    })
}

#[test]
fn a_command_that_succeeds_is_exit_code_125_where_its_session_is_cut_short() -> Result<()> {
    on_a_disk("size=1m", |disk: &Disk| {
        let file = disk.dir().join("session.jsonl.zst");
        disk.fill()?;
        // Room for the beginning, and no more.
        let ballast = OpenOptions::new().write(true).open(disk.dir().join("ballast"))?;
        ballast.set_len(ballast.metadata()?.len() - 4096)?;
        let mut command = recording(&file)?;
        command.arg("--").arg(scenario()?).args(["flood", &MANY.to_string()]);
        let finished = Running::start(&mut command)?.finish()?;
        ensure!(finished.code() == Some(125), "{}", finished.told());
        ensure!(finished.err().contains("ENOSPC"), "{}", finished.told());
        ensure!(verdict(&read(&file)?) == "incomplete", "it is not");
        Ok(())
    })
}

#[test]
fn on_a_disk_that_is_full_nothing_is_recorded_and_no_file_is_left() -> Result<()> {
    on_a_disk("size=64k", |disk: &Disk| {
        disk.fill()?;
        let file = disk.dir().join("session.jsonl.zst");
        let mut command = recording(&file)?;
        command.arg("--").arg(scenario()?).arg("unix_missing");
        let finished = Running::start(&mut command)?.finish()?;
        is_not_begun(&finished)?;
        ensure!(!file.exists(), "a file is left");
        Ok(())
    })
}

#[test]
fn where_stdout_takes_nothing_nothing_is_recorded() -> Result<()> {
    let mut command = recording(Path::new("-"))?;
    command.args(["-d", "1s"]);
    let full = OpenOptions::new().write(true).open("/dev/full")?;
    let child = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).spawn()?;
    let output = child.wait_with_output()?;
    let finished = Finished { status: output.status, stdout: Vec::new(), stderr: output.stderr };
    ensure!(!finished.err().contains("attached"), "it traces: {}", finished.told());
    is_not_begun(&finished)
}

#[test]
fn a_session_on_stdout_is_refused_where_a_command_writes_there() -> Result<()> {
    let mut command = recording(Path::new("-"))?;
    let finished = Running::start(command.arg("--").arg(scenario()?).arg("inherits"))?.finish()?;
    ensure!(finished.code() == Some(2) && finished.stdout.is_empty(), "{}", finished.told());
    ensure!(finished.err().contains("-o FILE"), "{}", finished.told());
    Ok(())
}

fn is_not_begun(finished: &Finished) -> Result<()> {
    ensure!(finished.code() == Some(125), "{}", finished.told());
    ensure!(finished.stdout.is_empty(), "CMD ran: {}", finished.told());
    ensure!(finished.err().contains("ENOSPC"), "{}", finished.told());
    Ok(())
}

#[test]
fn a_limit_of_file_sizes_cuts_the_session_and_kills_nobody() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("session.jsonl.zst");
    let mut tracer = Running::start(&mut recording(&file)?)?;
    // Not before: a kernel whose BTF cannot be mapped has it copied to memory that counts as a file.
    tracer.wait_err("attached")?;
    let limit = libc::rlimit { rlim_cur: 8192, rlim_max: 8192 };
    let pid = i32::try_from(tracer.pid()).context("a pid")?;
    // SAFETY: reads `limit`, and writes nothing.
    let set =
        unsafe { libc::prlimit(pid, libc::RLIMIT_FSIZE, &raw const limit, std::ptr::null_mut()) };
    ensure!(set == 0, "prlimit: {}", std::io::Error::last_os_error());
    is_cut_short(&floods(tracer)?, &file, "EFBIG")
}
