//! What a guest's console says of its tests: one verdict line, and what kernel it was.
//!
//! Pure: `tests/src/bin/vm-init.rs` prints the lines, `qemu.rs` gives them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::libtest::{Tested, Totals};
use crate::qemu::Run;

/// What vm-init prints last.
const VERDICT: &str = "SOCKTRACE-VM-VERDICT ";
/// `uname -r`, a space, `uname -v`.
const KERNEL: &str = "SOCKTRACE-VM-KERNEL ";
/// The JSON of `socktrace check`, in one line; in full runs only.
const CHECK: &str = "SOCKTRACE-VM-CHECK ";

/// What was found in a guest that ran its tests to their end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// How many tests, how they ended, and what those that failed said.
    pub(crate) tested: Tested,
    /// The names of those that failed.
    pub(crate) failures: Vec<String>,
    /// `uname -r`.
    pub(crate) release: String,
    /// `uname -v`.
    pub(crate) build: String,
    /// Per signal, the tier that it gets by itself; empty unless it was asked for.
    pub(crate) tiers: BTreeMap<String, String>,
}

impl Findings {
    /// With those of a further run of some tests, on the same kernel `booted_with` something; one without a verdict is a failure.
    pub(crate) fn and(mut self, further: Result<Self>, booted_with: &str) -> Self {
        let further = match further {
            Ok(further) => further,
            Err(error) => {
                let why = format!("no verdict ({booted_with}): {error:#}");
                self.failures.push(why.clone());
                self.tested.fail(why);
                return self;
            }
        };
        self.tested.totals += further.tested.totals;
        self.tested.failures.extend(further.tested.failures);
        let names = further.failures.into_iter();
        self.failures.extend(names.map(|name| format!("{name} ({booted_with})")));
        self
    }
}

/// The findings of a run that ended with one verdict; everything else is an error that names the kernel.
pub(crate) fn judge(kernel: &str, run: &Run, timeout: Duration) -> Result<Findings> {
    if run.hung {
        let last = run.lines.last().map_or("nothing", String::as_str);
        bail!(
            "kernel {kernel} hung: it was killed after {} s, and its tests have no verdict; \
             its last line was: {last}",
            timeout.as_secs()
        );
    }
    if let Some(panic) = run.lines.iter().find(|line| line.contains("Kernel panic")) {
        bail!("kernel {kernel} panicked, and its tests have no verdict: {panic}");
    }
    let verdicts: Vec<_> = run.lines.iter().filter_map(|line| parse_verdict(line)).collect();
    match verdicts.as_slice() {
        [verdict] if verdict.kernel == kernel => findings(verdict, &run.lines),
        [other] => bail!("kernel {kernel} booted, and its verdict names {:?}", other.kernel),
        [] => bail!("kernel {kernel} ended without a verdict; its last lines above say why"),
        _ => bail!("kernel {kernel} gave {} verdicts, and one is meant", verdicts.len()),
    }
}

struct Verdict<'a> {
    kernel: &'a str,
    passed: u64,
    failed: u64,
    ok: bool,
}

impl Verdict<'_> {
    fn totals(&self) -> Result<Totals> {
        if !self.ok && self.failed == 0 {
            bail!(
                "kernel {}: {} tests passed and none failed, and still the test program did not \
                 succeed: it broke off, or had no test to run; its last lines are above",
                self.kernel,
                self.passed
            );
        }
        Ok(Totals { passed: self.passed, failed: self.failed, ignored: 0 })
    }
}

fn parse_verdict(line: &str) -> Option<Verdict<'_>> {
    let (_, fields) = line.split_once(VERDICT)?;
    let field = |key: &str| {
        let mut pairs = fields.split_whitespace().filter_map(|field| field.split_once('='));
        pairs.find_map(|(name, value)| (name == key).then_some(value))
    };
    Some(Verdict {
        kernel: field("kernel")?,
        passed: field("passed")?.parse().ok()?,
        failed: field("failed")?.parse().ok()?,
        ok: field("status")? == "ok",
    })
}

fn findings(verdict: &Verdict<'_>, lines: &[String]) -> Result<Findings> {
    let after = |mark| lines.iter().find_map(|line| Some(line.split_once(mark)?.1));
    let (release, build) =
        after(KERNEL).and_then(|words| words.split_once(' ')).unwrap_or_default();
    Ok(Findings {
        tested: Tested { totals: verdict.totals()?, ..Tested::parse(lines) },
        failures: lines.iter().filter_map(|line| parse_failure(line)).collect(),
        release: release.to_owned(),
        build: build.to_owned(),
        tiers: after(CHECK).map(parse_tiers).transpose()?.unwrap_or_default(),
    })
}

/// `test NAME ... FAILED`, wherever in the line it begins.
fn parse_failure(line: &str) -> Option<String> {
    let (_, name) = line.strip_suffix(" ... FAILED")?.split_once("test ")?;
    Some(name.to_owned())
}

/// What `socktrace check --json` prints, as far as it is read here.
#[derive(Deserialize)]
struct Check {
    signals: Vec<Signal>,
}

#[derive(Deserialize)]
struct Signal {
    signal: String,
    tier: Option<String>,
}

fn parse_tiers(json: &str) -> Result<BTreeMap<String, String>> {
    let check: Check = serde_json::from_str(json)
        .with_context(|| format!("a guest's `socktrace check` is not understood: {json}"))?;
    let tier = |row: Signal| (row.signal, row.tier.unwrap_or_else(|| "none".to_owned()));
    Ok(check.signals.into_iter().map(tier).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "SOCKTRACE-VM-VERDICT kernel=6.1 passed=12 failed=0 status=ok";

    fn judged(lines: &[&str], hung: bool) -> Result<Findings> {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        judge("6.1", &Run { lines, hung }, Duration::from_secs(20))
    }

    fn refusal(lines: &[&str], hung: bool) -> String {
        judged(lines, hung).expect_err("there is no verdict").to_string()
    }

    #[test]
    fn a_verdict_gives_its_totals() -> Result<()> {
        assert_eq!(judged(&["booted", OK], false)?.tested.totals.passed, 12);
        Ok(())
    }

    #[test]
    fn a_further_run_counts_and_names_what_failed_in_it_by_how_it_was_booted() -> Result<()> {
        let failed = "SOCKTRACE-VM-VERDICT kernel=6.1 passed=1 failed=1 status=fail";
        let further = judged(&["test stress::a ... FAILED", failed], false)?;
        let both = judged(&[OK], false)?.and(Ok(further), "preempt=full");
        assert_eq!((both.tested.totals.passed, both.tested.totals.failed), (13, 1));
        assert_eq!(both.failures, ["stress::a (preempt=full)"]);
        let none = judged(&[OK], false)?.and(judged(&[], true), "preempt=full");
        assert_eq!((none.tested.totals.passed, none.tested.totals.failed), (12, 1));
        assert!(none.failures[0].contains("hung"), "{:?}", none.failures);
        Ok(())
    }

    #[test]
    fn what_the_guest_is_and_what_failed_in_it_is_found() -> Result<()> {
        let lines = [
            "SOCKTRACE-VM-KERNEL 6.1.0-9-cloud-amd64 #1 SMP Debian 6.1.27-1 (2023-05-08)",
            r#"SOCKTRACE-VM-CHECK {"signals":[{"signal":"accept","tier":"fentry"},{"signal":"listen","tier":null}]}"#,
            "test accept::a ... ok",
            "test accept::b ... FAILED",
            "failures:",
            "Error: no",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored",
            "SOCKTRACE-VM-VERDICT kernel=6.1 passed=1 failed=1 status=fail",
        ];
        let found = judged(&lines, false)?;
        assert_eq!(found.release, "6.1.0-9-cloud-amd64");
        assert_eq!(found.build, "#1 SMP Debian 6.1.27-1 (2023-05-08)");
        assert_eq!(found.failures, ["accept::b"]);
        assert_eq!(found.tested.failures, ["failures:", "Error: no"]);
        assert_eq!(found.tiers["accept"], "fentry");
        assert_eq!(found.tiers["listen"], "none");
        Ok(())
    }

    #[test]
    fn a_missing_verdict_is_a_failure() {
        assert!(refusal(&["booted"], false).contains("without a verdict"));
    }

    #[test]
    fn two_verdicts_are_a_failure() {
        assert!(refusal(&[OK, OK], false).contains("2 verdicts"));
    }

    #[test]
    fn another_kernels_verdict_is_a_failure() {
        let line = OK.replace("6.1", "6.12");
        assert!(refusal(&[&line], false).contains("6.12"));
    }

    #[test]
    fn a_hung_guest_is_named_with_its_last_line() {
        let message = refusal(&["test accept ... "], true);
        assert!(message.contains("6.1 hung") && message.contains("test accept"), "{message}");
    }

    #[test]
    fn a_panic_is_told_apart_from_a_missing_verdict() {
        assert!(refusal(&["Kernel panic - not syncing: x"], false).contains("panicked"));
    }

    #[test]
    fn a_test_program_that_broke_off_is_a_failure() {
        let line = OK.replace("status=ok", "status=fail");
        assert!(refusal(&[&line], false).contains("did not succeed"));
    }
}
