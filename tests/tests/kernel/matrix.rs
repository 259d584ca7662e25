//! The tiers × transports of this kernel that this run tries: the whole scenario is recorded once for each, and many
//! tests judge the same run.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Result, anyhow, bail, ensure};
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::run::{Run, record};

type Key = (String, String);
type Outcome = std::result::Result<Run, String>;

static RUNS: OnceLock<Mutex<HashMap<Key, Arc<Outcome>>>> = OnceLock::new();

/// Judges the run of every combination that is tried; all problems are told together.
pub(crate) fn judge(problems_of: impl Fn(&str, &Run) -> Vec<String>) -> Result<()> {
    let kernel = this_kernel()?;
    ensure!(!kernel.tiers.is_empty(), "the table promises no tier for {}", kernel.name);
    let mut told = Vec::new();
    for (tier, transport) in kernel.combinations() {
        let problems = match run_of(tier, transport).as_ref() {
            Ok(run) => problems_of(tier, run),
            Err(error) => vec![error.clone()],
        };
        told.extend(problems.iter().map(|text| format!("[{tier} {transport}] {text}")));
    }
    tell(&told)
}

/// No problem, or all of them in one error.
pub(crate) fn tell(problems: &[String]) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{} problems:\n{}", problems.len(), problems.join("\n"))
}

/// Says `problem` unless `good`.
pub(crate) fn unless(good: bool, problem: impl FnOnce() -> String) -> Result<()> {
    if good { Ok(()) } else { Err(anyhow!(problem())) }
}

fn run_of(tier: &str, transport: &str) -> Arc<Outcome> {
    let runs = RUNS.get_or_init(Mutex::default);
    let mut runs = runs.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (tier.to_owned(), transport.to_owned());
    let play = || {
        let args = ["--tier", tier, "--transport", transport];
        Arc::new(record(&args, &["all"]).map_err(|error| format!("{error:#}")))
    };
    Arc::clone(runs.entry(key).or_insert_with(play))
}

/// How sure it can be that nobody ever accepted from a listener: where its tier sees every call, and no process hides what it
/// holds from root.
pub(crate) fn surety_of_no_accept() -> Result<&'static str> {
    let kernel = this_kernel()?;
    let sees_all = kernel.auto.get("accept").is_some_and(|tier| tier != "tracepoint");
    Ok(if sees_all && !hides_one()? { "measured" } else { "inferred" })
}

fn hides_one() -> Result<bool> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let is_process = entry.file_name().to_string_lossy().parse::<u32>().is_ok();
        // What lets this be read lets descriptors be read.
        let read = std::fs::read_link(entry.path().join("ns/net"));
        if is_process && read.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) {
            return Ok(true);
        }
    }
    Ok(false)
}
