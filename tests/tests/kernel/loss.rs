//! A tiny buffer and a reader that is stopped: events are lost, counts are not, and the report
//! says how many.

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use socktrace_tests::harness::compare::{Strangers, completeness, failures};
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::run::{self, Run, start_record};
use socktrace_tests::scenario::gate::Gate;

use crate::matrix::tell;

/// Keys that the kernel map of failed connects has room for (`docs/limitations.md`).
const TARGETS: u64 = 16_384;
/// Targets beyond that.
const BEYOND: u64 = 216;
/// Refused connects while the reader is stopped.
const FLOOD: &str = "20000";

#[test]
fn a_stopped_reader_loses_events_but_no_count_and_says_how_many() -> Result<()> {
    let kernel = this_kernel()?;
    let mut told = Vec::new();
    for (tier, transport) in kernel.combinations() {
        let run = flood_while_stopped(tier, transport)
            .with_context(|| format!("{tier} over {transport}"))?;
        let mut problems = completeness::verdict(&run.report, "incomplete");
        problems.extend(completeness::identity(&run.report));
        problems.extend(failures::problems(&run.seen, &run.report, Strangers::Forbidden));
        told.extend(problems.iter().map(|text| format!("[{tier} {transport}] {text}")));
    }
    tell(&told)
}

#[test]
fn failures_beyond_the_room_of_a_full_map_are_counted_as_other_and_said_to_be() -> Result<()> {
    let mut told = Vec::new();
    for tier in &this_kernel()?.tiers {
        let made = (TARGETS + BEYOND).to_string();
        let run = start_record(&["--tier", tier], &["scatter", &made])?.finish()?;
        let rows = run.report.processes.iter().flat_map(|process| &process.connect_failures);
        let (rows, count) = rows.fold((0, 0), |(rows, all), row| (rows + 1, all + row.count));
        let other = run.raw["other"]["connect_failures"].as_u64();
        if (rows, count, other) != (TARGETS, TARGETS, Some(BEYOND)) {
            told.push(format!("[{tier}] {made} targets: {rows} rows of {count}, other {other:?}"));
        }
        let said = format!("{BEYOND} connect_failure occurrences are in no total: a map was full");
        let completeness = &run.report.completeness;
        if completeness.verdict != "incomplete" || !completeness.reasons.contains(&said) {
            told.push(format!("[{tier}] no `{said}`: {completeness:?}"));
        }
        let file = tempfile::NamedTempFile::new().context("a file")?;
        std::fs::write(file.path(), &run.session).context("the session")?;
        let path = file.path().to_str().context("a path in UTF-8")?;
        let text = run::run(&["report", path])?.out();
        let in_text = text.lines().any(|line| {
            line.split_whitespace().next() == Some(BEYOND.to_string().as_str())
                && line.contains("other")
        });
        if !in_text {
            told.push(format!("[{tier}] the text has no row `other` of {BEYOND}"));
        }
    }
    tell(&told)
}

#[test]
fn incomplete_data_under_strict_is_exit_code_4() -> Result<()> {
    let dir = tempfile::tempdir().context("a gate")?;
    let gate = Gate::at(dir.path());
    let path = dir.path().to_str().context("a path in UTF-8")?;
    let words = ["--gate", path, "flood", FLOOD];
    let recording = start_record(&["--strict", "--buffer-bytes", "4096"], &words)?;
    hold_and_flood(&recording.running, &gate)?;
    let finished = recording.running.finish()?;
    tell(&match finished.code() {
        Some(4) => Vec::new(),
        _ => vec![format!("not exit code 4: {}", finished.told())],
    })
}

fn flood_while_stopped(tier: &str, transport: &str) -> Result<Run> {
    let dir = tempfile::tempdir().context("a gate")?;
    let gate = Gate::at(dir.path());
    let path = dir.path().to_str().context("a path in UTF-8")?;
    let args = ["--tier", tier, "--transport", transport, "--buffer-bytes", "4096"];
    let recording = start_record(&args, &["--gate", path, "flood", FLOOD])?;
    hold_and_flood(&recording.running, &gate)?;
    recording.finish()
}

fn hold_and_flood(running: &socktrace_tests::harness::process::Running, gate: &Gate) -> Result<()> {
    gate.wait_ready()?;
    running.signal(Signal::SIGSTOP)?;
    gate.open()?;
    let done = gate.wait_done();
    running.signal(Signal::SIGCONT)?;
    done
}
