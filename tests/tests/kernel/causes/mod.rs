//! The staged causes: of each, what is said first is what was staged, and nothing else is called measured.

mod changed;
mod expected;
mod hostile;
mod inherited;
mod told;

use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};
use socktrace_tests::harness::run::{Run, calm_dir, record_staged};
use socktrace_tests::scenario::causes::files::keeps_flags;

use crate::matrix::tell;
use expected::{ALL, Expected};
use told::Told;

/// Fewer than this of the staged incidents explained is a failure of the whole.
const LEAST: usize = 69;

/// What is staged, and recorded, by itself.
const PARTS: [&str; 4] = ["causes_paths", "causes_ends", "causes_names", "causes_ways"];

static RUNS: OnceLock<Result<Vec<Run>, String>> = OnceLock::new();

/// The same recordings for all tests.
fn runs() -> Result<&'static [Run]> {
    let record =
        |part: &&str| record_staged(&[], part).map_err(|error| format!("{part}: {error:#}"));
    let all = RUNS.get_or_init(|| PARTS.iter().map(record).collect());
    all.as_deref().map_err(|error| anyhow!(error.clone()))
}

/// Incidents that this machine cannot have.
fn lacks() -> Result<Vec<&'static str>> {
    let all = runs()?.iter().flat_map(|run| &run.seen.lacks);
    Ok(all.map(String::as_str).collect())
}

/// Every incident of the table with what was said of it; without those that this machine cannot have.
fn incidents() -> Result<Vec<(&'static Expected, Told)>> {
    let lacks = lacks()?;
    let mut all: Vec<Told> = runs()?.iter().flat_map(told::of).collect();
    let possible = ALL.iter().filter(|it| !lacks.contains(&it.name));
    let found = possible.map(|expected| {
        let at = all.iter().position(|told| told.name == expected.name);
        let at = at.with_context(|| format!("the scenario has no {}", expected.name))?;
        Ok((expected, all.swap_remove(at)))
    });
    let found = found.collect::<Result<Vec<_>>>()?;
    let left: Vec<&str> = all.iter().map(|told| told.name.as_str()).collect();
    ensure!(left.is_empty(), "nothing is expected of {left:?}");
    Ok(found)
}

/// One line of the table that a failure shows.
fn line(expected: &Expected, told: &Told) -> String {
    let said = told.first().map_or("", |first| first.certainty.as_str());
    format!(
        "{:<18} expected {:<32} {:<9} said {:<32} {said:<9} {}",
        expected.name,
        expected.rule,
        expected.certainty,
        told.rule.as_deref().unwrap_or("nothing"),
        told.words()
    )
}

fn is_explained(expected: &Expected, told: &Told) -> bool {
    told.rule.as_deref() == Some(expected.rule)
}

#[test]
fn the_first_finding_of_each_incident_is_what_was_staged() -> Result<()> {
    let incidents = incidents()?;
    let wrong = incidents.iter().filter(|(expected, told)| !is_explained(expected, told));
    tell(&wrong.map(|(expected, told)| line(expected, told)).collect::<Vec<_>>())
}

#[test]
fn enough_incidents_are_staged_and_explained() -> Result<()> {
    let incidents = incidents()?;
    let explained = incidents.iter().filter(|(expected, told)| is_explained(expected, told));
    let (count, of) = (explained.count(), incidents.len());
    let table: Vec<String> =
        incidents.iter().map(|(expected, told)| line(expected, told)).collect();
    ensure!(count >= LEAST, "{count} of {of}, wanted are {LEAST}:\n{}", table.join("\n"));
    Ok(())
}

#[test]
fn nothing_but_the_staged_cause_is_called_measured() -> Result<()> {
    let mut wrong = Vec::new();
    for (expected, told) in incidents()? {
        let measured = told.findings.iter().filter(|it| it.certainty == "measured");
        let other = measured.filter(|it| it.rule != expected.rule);
        wrong.extend(other.map(|it| format!("{}: {} {}", expected.name, it.rule, it.fact)));
    }
    tell(&wrong)
}

#[test]
fn each_finding_is_as_sure_as_what_was_seen_allows() -> Result<()> {
    let incidents = incidents()?;
    let wrong = incidents.iter().filter(|(expected, told)| {
        told.first().is_some_and(|first| first.certainty != expected.certainty)
    });
    tell(&wrong.map(|(expected, told)| line(expected, told)).collect::<Vec<_>>())
}

#[test]
fn findings_name_what_is_in_the_way_and_what_would_change_it() -> Result<()> {
    let mut wrong = Vec::new();
    for (expected, told) in incidents()? {
        let words = told.words();
        let missing = expected.says.iter().filter(|word| !words.contains(**word));
        wrong.extend(missing.map(|word| format!("{}: no `{word}` in: {words}", expected.name)));
    }
    tell(&wrong)
}

#[test]
fn a_second_cause_behind_the_first_is_told_as_well() -> Result<()> {
    let mut wrong = Vec::new();
    for (expected, told) in incidents()? {
        let rules: Vec<&str> = told.findings.iter().map(|it| it.rule.as_str()).collect();
        let others = rules.iter().filter(|rule| Some(**rule) == expected.also).count();
        if others != usize::from(expected.also.is_some()) || rules.len() != others + 1 {
            wrong.push(format!("{}: {rules:?}, also is {:?}", expected.name, expected.also));
        }
    }
    tell(&wrong)
}

/// Major and minor version of this kernel.
fn kernel_version() -> Result<(u32, u32)> {
    let path = "/proc/sys/kernel/osrelease";
    let release = std::fs::read_to_string(path).context(path)?;
    let mut numbers = release.split(|it: char| !it.is_ascii_digit()).map(str::parse);
    let mut number = || numbers.next().context("a number")?.with_context(|| release.clone());
    Ok((number()?, number()?))
}

/// A machine that lacks something must lack it for a reason that the test can see for itself.
#[test]
fn incidents_are_left_out_only_where_the_machine_cannot_have_them() -> Result<()> {
    let lacking = lacks()?;
    let protects = std::fs::read_to_string("/proc/sys/fs/protected_symlinks")?.trim() == "1";
    let lacks = |name: &str| lacking.contains(&name);
    ensure!(lacks("link_protected") != protects, "protected_symlinks: {protects}");
    let flags = keeps_flags(&calm_dir())?;
    ensure!(lacks("immutable") != flags, "flags of files: {flags}");
    // Landlock 4 and 6: `LANDLOCK_ACCESS_NET_CONNECT_TCP`, `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET`.
    for (name, since) in [("sandboxed_tcp", (6, 7)), ("sandboxed_name", (6, 12))] {
        ensure!(lacks(name) != (kernel_version()? >= since), "{name}: since {since:?}");
    }
    let known = ["link_protected", "immutable", "sandboxed_tcp", "sandboxed_name"];
    let mut others = lacking.iter().filter(|it| !known.contains(it));
    ensure!(others.next().is_none(), "left out: {lacking:?}");
    Ok(())
}
