//! `check`: what this kernel allows, per signal, in words.

use anyhow::{Result, ensure};
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::run::run;

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
