//! Sessions that were cut or changed on their way: what is left is reported as incomplete.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socktrace_tests::harness::chance::Chance;

use super::{GOLDEN, answer_to, golden, report_of, verdict};

/// So many places of each file are tried, and all of its first bytes.
const PLACES: usize = 100;
const FIRST: usize = 12;

/// Places of a file, in order.
fn places(length: usize, chance: &mut Chance) -> Vec<usize> {
    let mut places: Vec<usize> = (0..FIRST).collect();
    places.extend((0..PLACES).map(|_| chance.index(length)));
    places.sort_unstable();
    places.dedup();
    places
}

fn delivered(report: &Value) -> u64 {
    report["completeness"]["events_delivered"].as_u64().unwrap_or(0)
}

#[test]
fn a_file_that_was_cut_anywhere_has_what_came_before_and_says_that_it_was_cut() -> Result<()> {
    let mut chance = Chance::told();
    for name in GOLDEN {
        let file = golden(name)?;
        let mut before = 0;
        for length in places(file.len(), &mut chance) {
            let report = report_of(&file[..length]).with_context(|| format!("{name}: {length}"))?;
            let Some(report) = report else {
                ensure!(before == 0, "{name}: {length}: refused, and less of it is not");
                continue;
            };
            ensure!(verdict(&report) == "incomplete", "{name}: {length}: {}", verdict(&report));
            ensure!(delivered(&report) >= before, "{name}: {length}: less than less of it has");
            before = delivered(&report);
        }
        ensure!(before > 0, "{name}: nothing was read of any part");
    }
    Ok(())
}

#[test]
fn a_byte_that_was_changed_anywhere_is_noticed() -> Result<()> {
    let mut chance = Chance::told();
    for name in GOLDEN {
        let file = golden(name)?;
        let intact = report_of(&file)?.context("refused")?;
        for at in places(file.len(), &mut chance) {
            let mut changed = file.clone();
            changed[at] ^= u8::try_from(chance.of(1..256))?;
            let report = report_of(&changed).with_context(|| format!("{name}: {at}"))?;
            let Some(report) = report else { continue };
            let noticed = verdict(&report) == "incomplete" || report == intact;
            ensure!(noticed, "{name}: {at}: {}", verdict(&report));
        }
    }
    Ok(())
}

#[test]
fn a_cut_file_is_no_error_unless_it_must_be_complete() -> Result<()> {
    let file = golden("v1-rich")?;
    let cut = &file[..file.len() / 2];
    let finished = answer_to(cut, &[])?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    ensure!(finished.out().contains("the file has no end"), "{}", finished.told());
    ensure!(answer_to(cut, &["--strict"])?.code() == Some(4), "--strict does not mind");
    ensure!(answer_to(&file, &["--strict"])?.code() == Some(0), "--strict minds the whole");
    Ok(())
}
