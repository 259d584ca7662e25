//! Reading libtest's output: the totals of its `test result:` lines, while the output streams through.

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

/// Runs a test program (or `cargo test`), shows its output, and sums up its results.
pub(crate) fn run(command: &mut Command) -> Result<Totals> {
    let line = process::render(command);
    println!("running: {line}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| process::cannot_start(&line))?;
    let output = child.stdout.take().context("a piped stdout is missing")?;
    let mut totals = Totals::default();
    for text in BufReader::new(output).split(b'\n') {
        let text = text.context("the tests' output cannot be read")?;
        let text = String::from_utf8_lossy(&text);
        writeln!(stdout(), "{text}")?;
        totals += parse_result(&text).unwrap_or_default();
    }
    let status = child.wait().with_context(|| format!("`{line}` cannot be waited for"))?;
    if !status.success() && totals.failed == 0 {
        println!(
            "`{line}` broke off ({status}) without naming a failed test; counted as one failure"
        );
        totals.failed = 1;
    }
    Ok(totals)
}

/// The totals in a `test result:` line; `None` for every other line.
pub(crate) fn parse_result(line: &str) -> Option<Totals> {
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
        let totals = run(&mut Command::new("false"))?;
        assert_eq!(totals, Totals { failed: 1, ..Totals::default() });
        Ok(())
    }
}
