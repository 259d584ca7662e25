//! What full VM runs found, per kernel: the committed record `docs/kernels-matrix.toml`, and the table
//! that is made from it.
//!
//! A run replaces the rows of the kernels that it booted; the others keep what was found before, with
//! its date.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::verdict::Findings;
use crate::{kernels, process};

const HEADER: &str = "# Written by `cargo xtask test vm --full`. `cargo xtask docs` makes the table in docs/kernels.md from it.\n\n";

/// One kernel's row.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its name in `tests/kernels.toml`.
    pub(crate) name: String,
    /// The day of the run, as `2026-01-31`, UTC.
    pub(crate) date: String,
    /// The Debian package.
    pub(crate) package: String,
    /// `uname -r`.
    pub(crate) release: String,
    /// `uname -v`, which has Debian's version of the kernel.
    pub(crate) build: String,
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// From boot to verdict.
    pub(crate) seconds: u64,
    /// Why there is no verdict, and so nothing above; absent where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
    /// The names of the tests that failed.
    pub(crate) failures: Vec<String>,
    /// Per signal, the tier that it got by itself.
    pub(crate) tiers: BTreeMap<String, String>,
}

impl Row {
    /// A row of what was found in the guest called `name`, or of why nothing was.
    pub(crate) fn new(name: &str, package: &str, seconds: u64, found: &Result<Findings>) -> Self {
        let problem = found.as_ref().err().map(|error| format!("{error:#}"));
        let found = found.as_ref().ok().cloned().unwrap_or_default();
        Self {
            name: name.to_owned(),
            date: String::new(),
            package: package.to_owned(),
            release: found.release,
            build: found.build,
            passed: found.tested.totals.passed,
            failed: found.tested.totals.failed,
            seconds,
            problem,
            failures: found.failures,
            tiers: found.tiers,
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Record {
    #[serde(default)]
    kernel: Vec<Row>,
}

fn path(root: &Path) -> PathBuf {
    root.join("docs/kernels-matrix.toml")
}

/// Puts `row` into the record with today's date, in place of the one of that name.
pub(crate) fn update(root: &Path, row: Row) -> Result<()> {
    let today = process::capture(Command::new("date").args(["--utc", "+%F"]))?;
    let row = Row { date: today.trim().to_owned(), ..row };
    let names = kernels::names(root)?;
    let record = Record { kernel: merge(read(root)?.kernel, vec![row], &names) };
    let text = toml::to_string(&record).context("the results are no TOML")?;
    let path = path(root);
    fs::write(&path, format!("{HEADER}{text}"))
        .with_context(|| format!("{} was not written", path.display()))
}

fn read(root: &Path) -> Result<Record> {
    let path = path(root);
    if !path.exists() {
        return Ok(Record::default());
    }
    let text =
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    toml::from_str(&text).with_context(|| {
        format!(
            "{} is no record of results; `cargo xtask test vm --full` makes one",
            path.display()
        )
    })
}

/// The old rows with the new ones, in the order of `names`; kernels that are in the table no more are
/// left out.
fn merge(old: Vec<Row>, new: Vec<Row>, names: &[String]) -> Vec<Row> {
    let mut rows: BTreeMap<_, _> = old.into_iter().map(|row| (row.name.clone(), row)).collect();
    rows.extend(new.into_iter().map(|row| (row.name.clone(), row)));
    names.iter().filter_map(|name| rows.remove(name)).collect()
}

/// The table for the documents, in Markdown.
pub(crate) fn render(root: &Path) -> Result<String> {
    Ok(render_rows(&read(root)?.kernel, &kernels::names(root)?))
}

fn render_rows(rows: &[Row], names: &[String]) -> String {
    let signals: BTreeSet<_> = rows.iter().flat_map(|row| row.tiers.keys()).collect();
    let signal_titles = signals.iter().map(|signal| format!("`{signal}`"));
    let mut titles = vec!["Name".to_owned(), "Kernel".to_owned(), "Tested".to_owned()];
    titles.extend(signal_titles);
    titles.push("Tests".to_owned());
    let rule = vec!["---".to_owned(); titles.len()];
    let mut lines = vec![line(&titles), line(&rule).replace(' ', "")];
    lines.extend(rows.iter().map(|row| {
        let tier = |signal: &&String| row.tiers.get(*signal).map_or("-", String::as_str).to_owned();
        let mut cells = vec![format!("`{}`", row.name), kernel(row), row.date.clone()];
        cells.extend(signals.iter().map(tier));
        cells.push(tests(row));
        line(&cells)
    }));
    let untested: Vec<_> = names
        .iter()
        .filter(|name| !rows.iter().any(|row| row.name == **name))
        .map(|name| format!("`{name}`"))
        .collect();
    if !untested.is_empty() {
        lines.push(format!("\nWithout a full run so far: {}.", untested.join(", ")));
    }
    lines.join("\n")
}

fn line(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

/// `uname -r` and Debian's version; the package, where the guest said neither.
fn kernel(row: &Row) -> String {
    if row.release.is_empty() {
        return row.package.clone();
    }
    match debian_version(&row.build) {
        Some(version) => format!("{} (Debian {version})", row.release),
        None => row.release.clone(),
    }
}

/// `6.1.176-1` of `#1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1 (2026-10-01)`.
fn debian_version(build: &str) -> Option<&str> {
    build.split_once("Debian ")?.1.split_whitespace().next()
}

fn tests(row: &Row) -> String {
    if let Some(problem) = &row.problem {
        return format!("no verdict: {}", problem.replace('|', "\\|"));
    }
    let failures: Vec<_> = row.failures.iter().map(|name| format!("`{name}`")).collect();
    match row.failed {
        0 => format!("{} passed", row.passed),
        failed => format!("{} passed, {failed} failed: {}", row.passed, failures.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, date: &str) -> Row {
        Row {
            name: name.to_owned(),
            date: date.to_owned(),
            package: format!("linux-image-{name}"),
            release: "6.1.0-9-cloud-amd64".to_owned(),
            build: "#1 SMP Debian 6.1.27-1 (2023-05-08)".to_owned(),
            passed: 3,
            failed: 0,
            seconds: 60,
            problem: None,
            failures: Vec::new(),
            tiers: BTreeMap::from([("accept".to_owned(), "fentry".to_owned())]),
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_run_replaces_its_kernels_and_keeps_the_others_in_the_tables_order() {
        let old =
            vec![row("6.12", "2026-01-01"), row("6.1", "2026-01-01"), row("4.19", "2020-01-01")];
        let merged = merge(old, vec![row("6.12", "2026-02-02")], &names(&["6.1", "6.12", "7"]));
        let told: Vec<_> = merged.iter().map(|row| (&*row.name, &*row.date)).collect();
        assert_eq!(told, [("6.1", "2026-01-01"), ("6.12", "2026-02-02")]);
    }

    #[test]
    fn a_row_names_the_kernel_the_tiers_and_what_failed() {
        let mut failing = row("6.1", "2026-01-01");
        (failing.failed, failing.failures) = (1, vec!["signals::x".to_owned()]);
        let text = render_rows(&[failing], &names(&["6.1", "7"]));
        let expected = "| Name | Kernel | Tested | `accept` | Tests |\n\
            |---|---|---|---|---|\n\
            | `6.1` | 6.1.0-9-cloud-amd64 (Debian 6.1.27-1) | 2026-01-01 | fentry | 3 passed, 1 failed: `signals::x` |\n\
            \nWithout a full run so far: `7`.";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_guest_without_a_verdict_replaces_what_was_found_before() {
        let failed = Row::new("6.1", "linux-image", 900, &Err(anyhow::anyhow!("kernel 6.1 hung")));
        let rows = merge(vec![row("6.1", "2026-01-01")], vec![failed], &names(&["6.1"]));
        let text = render_rows(&rows, &names(&["6.1"]));
        assert!(text.contains("| `6.1` | linux-image |"), "{text}");
        assert!(text.contains("| no verdict: kernel 6.1 hung |"), "{text}");
    }

    #[test]
    fn a_record_survives_being_written_and_read() -> Result<()> {
        let record = Record { kernel: vec![row("6.1", "2026-01-01")] };
        let read: Record = toml::from_str(&toml::to_string(&record)?)?;
        assert_eq!(read.kernel, record.kernel);
        Ok(())
    }
}
