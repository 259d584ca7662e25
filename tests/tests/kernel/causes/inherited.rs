//! A listener that is made, handed down and forgotten while it is traced: that nobody ever accepted is measured, where
//! that can be.

use anyhow::{Context, Result, ensure};
use socktrace_tests::harness::run::record;

use crate::matrix::surety_of_no_accept;

#[test]
fn a_listener_that_only_an_heir_holds_who_never_accepts_is_found_to_be_one() -> Result<()> {
    let run = record(&[], &["never_accepted"])?;
    let findings = &run.report.findings;
    let said = findings.iter().find(|it| it.rule == "owner-never-accepted");
    let said = said.with_context(|| format!("it is not found: {findings:?}"))?;
    ensure!(said.certainty == surety_of_no_accept()?, "{said:?}");
    ensure!(said.fact.contains("heir (pid"), "{said:?}");
    Ok(())
}
