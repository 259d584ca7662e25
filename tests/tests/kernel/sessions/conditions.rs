//! `--fail-on` and `--strict`: the same exit code and the same sentence live and of the saved session.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use socktrace_tests::harness::process::{Finished, Running};
use socktrace_tests::harness::run::{scenario, socktrace};

use super::report;

/// What `unix_missing` does not do.
const NOT_MET: [&str; 4] = [
    "connect_failures{errno=EACCES}>0",
    "backlog_drops>0",
    "accepts>0",
    "connect_failures>1000000",
];
/// What it does.
const MET: [&str; 3] =
    ["connect_failures>0", "connect_failures{errno=ENOENT}>=1", "findings{severity=error}>0"];
/// What is no condition.
const MALFORMED: [&str; 5] = [
    "connect_failures",
    "connect_failures>",
    "conect_failures>0",
    "accept_wait_p99>5",
    "connect_failures{errno=EWHAT}>0",
];

/// Records CMD into the file, with these flags.
fn live(file: &Path, args: &[&str], cmd: &[&str]) -> Result<Finished> {
    let mut command = socktrace(&["record", "-o"])?;
    command.arg(file).args(args).arg("--").arg(scenario()?).args(cmd);
    Running::start(&mut command)?.finish()
}

/// It ends so, and its sentence, if it has one, is on stderr.
fn ends(finished: &Finished, code: i32, sentence: Option<&str>) -> Result<()> {
    ensure!(finished.code() == Some(code), "not {code}: {}", finished.told());
    let told = finished.err();
    let said: Vec<&str> = told.lines().filter(|line| line.contains(" is met: ")).collect();
    ensure!(said.is_empty() == sentence.is_none(), "{said:?}: {}", finished.told());
    if let Some(word) = sentence {
        let good = said.iter().any(|line| line.starts_with("socktrace: ") && line.contains(word));
        ensure!(good, "no `{word}` in {said:?}");
    }
    Ok(())
}

#[test]
fn conditions_make_the_exit_code_live_and_of_the_saved_session() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("session");
    let not_met: Vec<&str> = NOT_MET.iter().flat_map(|it| ["--fail-on", it]).collect();
    let first = live(&file, &[&not_met[..], &["--strict"]].concat(), &["unix_missing"])?;
    ends(&first, 0, None).context("live, not met")?;
    ends(&report(&file, &not_met)?, 0, None).context("saved, not met")?;
    for condition in MET {
        let args = [&not_met[..], &["--fail-on", condition]].concat();
        ends(&report(&file, &args)?, 1, Some(condition))
            .with_context(|| format!("saved, {condition}"))?;
    }
    let again = dir.path().join("again");
    let args = ["--fail-on", MET[0], "--strict"];
    ends(&live(&again, &args, &["unix_missing"])?, 1, Some(MET[0]))?;
    ends(&report(&again, &args)?, 1, Some(MET[0]))
}

#[test]
fn a_condition_that_is_not_met_leaves_the_exit_code_to_the_command() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let args = ["--fail-on", NOT_MET[0], "--strict"];
    let finished = live(&dir.path().join("session"), &args, &["exit", "7"])?;
    ends(&finished, 7, None)
}

#[test]
fn a_condition_that_is_none_is_refused_before_anything_is_read_or_recorded() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("session");
    for condition in MALFORMED {
        let args = ["--fail-on", condition];
        for finished in [live(&file, &args, &["unix_missing"])?, report(&file, &args)?] {
            ensure!(finished.code() == Some(2), "{condition}: {}", finished.told());
            ensure!(finished.stdout.is_empty(), "{condition}: {}", finished.told());
            ensure!(finished.err().contains(condition), "it is not named: {}", finished.told());
        }
        ensure!(!file.exists(), "{condition}: a file was made");
    }
    Ok(())
}
