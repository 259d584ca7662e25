//! Sessions of the past, damaged ones, and files that want to do harm: each has its report, or a message
//! that says why it has none, in bounded time and memory.
//!
//! Needs `SOCKTRACE_BIN`, and root only to give files away. The sessions in `tests/sessions` were written
//! by the socktrace that made this version of the format, and are never written again.

mod damaged;
mod files;
mod golden;
mod harmful;
mod large;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socktrace_tests::harness::measured::{Measured, measured};
use socktrace_tests::harness::process::Finished;
use socktrace_tests::harness::run::socktrace;

/// The sessions that are kept.
const GOLDEN: [&str; 3] = ["v1-rich", "v1-killed", "v1-hostile"];

/// No file may take longer, or more memory.
const MOST_TIME: Duration = Duration::from_secs(5);
const MOST_BYTES: u64 = 300 << 20;

/// A session that is kept, as it is in its file.
fn golden(name: &str) -> Result<Vec<u8>> {
    let path = kept(&format!("{name}.jsonl.zst"));
    std::fs::read(&path).with_context(|| path.display().to_string())
}

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sessions").join(name)
}

/// `socktrace report ARGS`, which must end by itself, in time and without taking all memory.
fn answer(args: &[&str], input: Stdio) -> Result<Finished> {
    let mut command = socktrace(&["report"])?;
    let Measured { finished, took, peak_bytes } = measured(command.args(args), input)?;
    ensure!(finished.signal().is_none(), "it was killed: {}", finished.told());
    ensure!(!finished.err().contains("panicked"), "{}", finished.err());
    ensure!(took <= MOST_TIME, "it took {took:?}: {}", finished.err());
    ensure!(peak_bytes <= MOST_BYTES, "it used {} MiB: {}", peak_bytes >> 20, finished.err());
    Ok(finished)
}

/// What is said of a file with these bytes, in the format that `args` ask for.
fn answer_to(file: &[u8], args: &[&str]) -> Result<Finished> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("session.jsonl.zst");
    std::fs::write(&path, file)?;
    answer(&[args, &[path.to_str().context("a path")?]].concat(), Stdio::null())
}

/// The report of a file with these bytes; none where it is refused, with a message.
fn report_of(file: &[u8]) -> Result<Option<Value>> {
    let finished = answer_to(file, &["--json"])?;
    match finished.code() {
        Some(0) => serde_json::from_slice(&finished.stdout).map(Some).context("the report"),
        Some(2) => {
            let told = finished.err();
            ensure!(told.starts_with("socktrace: cannot read the session"), "{told}");
            ensure!(finished.stdout.is_empty(), "{}", finished.told());
            Ok(None)
        }
        _ => anyhow::bail!("neither a report nor a refusal: {}", finished.told()),
    }
}

/// `complete`, `incomplete` or `unknown`.
fn verdict(report: &Value) -> &str {
    report["completeness"]["verdict"].as_str().unwrap_or_default()
}
