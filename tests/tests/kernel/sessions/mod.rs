//! Sessions as they are saved: by a tracer that is killed, on a disk that is full, in places where
//! nothing may be written, in turns; and what filters and conditions make of them afterwards.

mod conditions;
mod disk;
mod filters;
mod full;
mod killed;
mod places;
mod turns;

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::Value;
use socktrace_tests::harness::process::{Finished, Running};
use socktrace_tests::harness::run::socktrace;

/// `socktrace report ARGS FILE`.
fn report(file: &Path, args: &[&str]) -> Result<Finished> {
    let mut command = socktrace(&["report"])?;
    let finished = Running::start(command.args(args).arg(file))?.finish()?;
    ensure!(!finished.err().contains("panicked"), "{}", finished.told());
    Ok(finished)
}

/// The report of a file that must have one, as JSON.
fn read(file: &Path) -> Result<Value> {
    let finished = report(file, &["--json"])?;
    ensure!(finished.code() == Some(0), "{}: {}", file.display(), finished.told());
    Ok(serde_json::from_slice(&finished.stdout)?)
}

/// Whether something is missing in the report.
fn verdict(report: &Value) -> &str {
    report["completeness"]["verdict"].as_str().unwrap_or_default()
}
