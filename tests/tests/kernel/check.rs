//! `check`: what this kernel allows, per signal, in words.

use anyhow::{Result, ensure};
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::run::{record, run};

#[test]
fn check_names_every_signal_with_the_tier_that_it_gets() -> Result<()> {
    let finished = run(&["check"])?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    let text = finished.out();
    for (signal, tier) in &this_kernel()?.auto {
        let told = text.lines().any(|line| line.contains(signal) && line.contains(tier));
        ensure!(told, "no line with {signal} and {tier}: {}", finished.told());
    }
    Ok(())
}

#[test]
fn check_says_in_words_why_a_better_tier_was_refused() -> Result<()> {
    let finished = run(&["check"])?;
    let text = finished.out();
    ensure!(!text.contains("os error"), "an error number instead of words: {text}");
    let best = this_kernel()?.auto.values().all(|tier| tier == "fentry");
    ensure!(best || text.contains("fentry"), "nothing about fentry: {text}");
    ensure!(best || text.contains("kprobe"), "nothing about kprobe: {text}");
    Ok(())
}

#[test]
fn every_hook_of_every_tier_fires_when_it_is_tried() -> Result<()> {
    for tier in &this_kernel()?.tiers {
        let finished = run(&["check", "--tier", tier])?;
        let fires = finished.out().contains("self-test: every hook that it tries fires");
        ensure!(finished.code() == Some(0) && fires, "{tier}: {}", finished.told());
    }
    Ok(())
}

#[test]
fn what_the_self_test_does_is_in_no_report() -> Result<()> {
    for tier in &this_kernel()?.tiers {
        let run = record(&["-a", "--tier", tier], &["unix_missing"])?;
        let own = |comm: &Option<String>| comm.as_deref() == Some("socktrace");
        let acted = run.report.processes.iter().filter(|process| own(&process.comm));
        let held = run.report.listeners.iter().flat_map(|row| &row.owners);
        let held = held.filter(|owner| own(&owner.comm));
        let (acted, held) = (acted.count(), held.count());
        ensure!(acted + held == 0, "{tier}: {acted} processes, {held} owners: {:#}", run.raw);
    }
    Ok(())
}

#[test]
fn what_the_self_test_does_is_no_event() -> Result<()> {
    for tier in &this_kernel()?.tiers {
        let finished = run(&["watch", "--json", "--tier", tier, "-d", "500ms"])?;
        ensure!(finished.code() == Some(0), "{tier}: {}", finished.told());
        // Nobody else is answered with a cookie meanwhile.
        let own = ["syncookie_sent", "\"comm\":\"socktrace\""];
        let told = own.iter().any(|word| finished.out().contains(word));
        ensure!(!told, "{tier}: {}", finished.told());
    }
    Ok(())
}
