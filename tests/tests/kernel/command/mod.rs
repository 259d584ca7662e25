//! `record -- CMD`: the command's end is socktrace's end, its output is its own.

mod ends;
mod inherits;

use anyhow::Result;
use nix::sys::signal::Signal;
use socktrace_tests::harness::process::Finished;
use socktrace_tests::harness::run::{run, scenario, start_record};

use crate::matrix::unless;

fn with_command(words: &[&str]) -> Result<Finished> {
    start_record(&[], words)?.running.finish()
}

#[test]
fn the_exit_code_of_the_command_is_passed_on() -> Result<()> {
    for code in [0, 1, 7, 125] {
        let finished = with_command(&["exit", &code.to_string()])?;
        unless(finished.code() == Some(code), || format!("not {code}: {}", finished.told()))?;
    }
    Ok(())
}

#[test]
fn the_signal_death_of_the_command_is_passed_on() -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let finished = with_command(&["kill", signal.as_str()])?;
        let same = finished.signal() == Some(signal as i32);
        unless(same, || format!("not killed by {signal}: {}", finished.told()))?;
    }
    Ok(())
}

#[test]
fn a_command_that_is_not_there_is_exit_code_127() -> Result<()> {
    let finished = run(&["record", "--no-save", "--", "/no/such/cmd"])?;
    let good = finished.code() == Some(127) && finished.err().contains("/no/such/cmd");
    unless(good, || finished.told())
}

#[test]
fn a_command_that_is_not_executable_is_exit_code_126() -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().display().to_string();
    let finished = run(&["record", "--no-save", "--", &path])?;
    unless(finished.code() == Some(126) && finished.err().contains(&path), || finished.told())
}

#[test]
fn the_output_of_the_command_is_untouched() -> Result<()> {
    let program = scenario()?.display().to_string();
    let finished = run(&["record", "--no-save", "--", &program, "unix_missing"])?;
    let whole: serde_json::Result<serde_json::Value> = serde_json::from_slice(&finished.stdout);
    let good = whole.is_ok() && finished.err().contains("ENOENT");
    unless(good, || format!("stdout the command's, stderr the report: {}", finished.told()))
}

#[test]
fn a_duration_without_a_command_ends_by_itself_with_the_report_on_stdout() -> Result<()> {
    let finished = run(&["record", "--no-save", "--json", "-d", "1s"])?;
    let report: serde_json::Result<serde_json::Value> = serde_json::from_slice(&finished.stdout);
    unless(finished.code() == Some(0), || finished.told())?;
    let duration = report.ok().and_then(|report| report["session"]["duration_ns"].as_u64());
    let long_enough = duration.is_some_and(|ns| ns >= 1_000_000_000);
    unless(long_enough, || format!("a session of at least 1 s: {}", finished.told()))
}

#[test]
fn an_interrupt_ends_a_session_without_a_command_with_its_report() -> Result<()> {
    let mut recording = start_record(&[], &[])?;
    recording.running.wait_err("attached")?;
    recording.running.signal(Signal::SIGINT)?;
    let run = recording.finish_with(socktrace_tests::scenario::record::Seen::default())?;
    unless(run.report.completeness.verdict == "complete", || run.finished.told())
}
