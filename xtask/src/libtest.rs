//! Reading libtest's output while it streams through: the totals of its `test result:` lines, and what it says of
//! tests that failed.

use std::io::{BufRead as _, BufReader, Write as _, stdout};
use std::ops::AddAssign;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::process;

/// How many tests ran, and how.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Totals {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed; a program that broke off counts as one.
    pub(crate) failed: u64,
    /// Tests that were not run because they are marked `#[ignore]`.
    pub(crate) ignored: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// What a run of tests said.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Tested {
    /// How many tests.
    pub(crate) totals: Totals,
    /// The lines about those that failed.
    pub(crate) failures: Vec<String>,
}

impl Tested {
    /// Reads all that one or several test programs printed.
    pub(crate) fn parse(lines: &[String]) -> Self {
        let (mut tested, mut failing) = (Self::default(), false);
        for line in lines {
            if let Some(totals) = parse_result(line) {
                tested.totals += totals;
                failing = false;
            }
            failing |= line == "failures:";
            if failing {
                tested.failures.push(line.clone());
            }
        }
        tested
    }

    /// Counts a failure that no test program printed.
    pub(crate) fn fail(&mut self, why: String) {
        self.totals.failed += 1;
        self.failures.push(why);
    }
}

/// Runs a test program (or `cargo test`), shows its output behind `prefix`, and sums up its results.
pub(crate) fn run(prefix: &str, command: &mut Command) -> Result<Tested> {
    let line = process::render(command);
    println!("running: {line}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| process::cannot_start(&line))?;
    let output = child.stdout.take().context("a piped stdout is missing")?;
    let mut lines = Vec::new();
    for text in BufReader::new(output).split(b'\n') {
        let text = text.context("the tests' output cannot be read")?;
        let text = String::from_utf8_lossy(&text).into_owned();
        writeln!(stdout(), "{prefix}{text}")?;
        lines.push(text);
    }
    let mut tested = Tested::parse(&lines);
    let status = child.wait().with_context(|| format!("`{line}` cannot be waited for"))?;
    if !status.success() && (tested.totals.failed == 0 || breaks_off(&lines)) {
        let why = format!(
            "`{line}` broke off ({status}) before it told its result; counted as one failure"
        );
        println!("{why}");
        tested.fail(why);
    }
    Ok(tested)
}

/// Whether a program began to run its tests and never told their result.
fn breaks_off(lines: &[String]) -> bool {
    let begins = |line: &&String| {
        let count = line.strip_prefix("running ").and_then(|rest| rest.split_once(" test"));
        count.is_some_and(|(count, _)| count.parse::<u64>().is_ok())
    };
    let ends = lines.iter().filter(|line| parse_result(line).is_some()).count();
    lines.iter().filter(begins).count() > ends
}

/// The totals in a `test result:` line; `None` for every other line.
fn parse_result(line: &str) -> Option<Totals> {
    // Tests may print to the same line before libtest does.
    let (_, result) = line.split_once("test result: ")?;
    let (_, counts) = result.split_once(". ")?;
    let mut totals = Totals::default();
    for count in counts.split("; ") {
        let (number, what) = count.split_once(' ')?;
        let Ok(number) = number.parse::<u64>() else { continue };
        match what {
            "passed" => totals.passed = number,
            "failed" => totals.failed = number,
            "ignored" => totals.ignored = number,
            _ => {}
        }
    }
    Some(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_line_gives_its_counts() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.01s";
        assert_eq!(parse_result(line), Some(Totals { passed: 3, failed: 2, ignored: 1 }));
    }

    #[test]
    fn other_lines_give_nothing() {
        assert_eq!(parse_result("test accept_is_seen ... ok"), None);
        assert_eq!(parse_result(""), None);
    }

    #[test]
    fn a_program_that_breaks_off_counts_as_one_failure() -> Result<()> {
        let tested = run("", &mut Command::new("false"))?;
        assert_eq!(tested.totals, Totals { failed: 1, ..Totals::default() });
        assert!(tested.failures[0].contains("broke off"), "{tested:?}");
        Ok(())
    }

    #[test]
    fn a_program_that_breaks_off_behind_one_that_failed_is_found() {
        let failed =
            ["running 1 test", "test a ... FAILED", "test result: FAILED. 0 passed; 1 failed"];
        let lines = |more: &[&str]| -> Vec<String> {
            failed.iter().chain(more).map(|line| (*line).to_owned()).collect()
        };
        assert!(!breaks_off(&lines(&[])));
        assert!(breaks_off(&lines(&["running 2 tests", "test b ... ok"])));
    }

    #[test]
    fn what_is_said_of_failed_tests_is_kept_of_each_program() {
        let result = ["test result: FAILED. 1 passed; 1 failed; 0 ignored"];
        let (a, b) = (["failures:", "---- a stdout ----"], ["failures:", "---- b stdout ----"]);
        let ran = ["test a ... FAILED"];
        let lines = [&ran[..], &a, &result, &ran, &b, &result].concat();
        let tested =
            Tested::parse(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
        assert_eq!(tested.failures, [a, b].concat());
        assert_eq!(tested.totals, Totals { passed: 2, failed: 2, ignored: 0 });
    }
}
