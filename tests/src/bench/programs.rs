//! What the kernel says of each eBPF program: how often it ran, and how long that took.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// One program, as bpftool tells it.
#[derive(Clone, Deserialize)]
pub(super) struct Program {
    id: u64,
    #[serde(default)]
    name: String,
    #[serde(default)]
    run_time_ns: u64,
    #[serde(default)]
    run_cnt: u64,
}

/// Programs are timed until this is dropped.
pub(super) struct Enabled;

/// Has the kernel time programs.
pub(super) fn enable() -> Result<Enabled> {
    fs::write(SWITCH, "1").context(SWITCH)?;
    Ok(Enabled)
}

impl Drop for Enabled {
    fn drop(&mut self) {
        let _stays_on = fs::write(SWITCH, "0");
    }
}

/// All programs that are loaded.
pub(super) fn read(bpftool: &str) -> Result<Vec<Program>> {
    let output = Command::new(bpftool).args(["--json", "prog", "show"]).output();
    let output = output.with_context(|| format!("{bpftool} did not start"))?;
    ensure!(output.status.success(), "{bpftool}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("bpftool printed no list of programs")
}

/// The name, runs and time of those that ran between two looks.
pub(super) fn since(before: &[Program], after: Vec<Program>) -> Vec<(String, u64, u64)> {
    let before: BTreeMap<u64, &Program> =
        before.iter().map(|program| (program.id, program)).collect();
    let difference = |now: Program| {
        let then = before.get(&now.id);
        let runs = now.run_cnt - then.map_or(0, |then| then.run_cnt);
        let took = now.run_time_ns - then.map_or(0, |then| then.run_time_ns);
        (runs > 0).then_some((now.name, runs, took))
    };
    after.into_iter().filter_map(difference).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_that_ran_meanwhile_are_told() -> Result<()> {
        let read = |text| serde_json::from_str::<Vec<Program>>(text);
        let before =
            read(r#"[{"id": 1, "name": "a", "run_time_ns": 50, "run_cnt": 2}, {"id": 2}]"#)?;
        let after = read(
            r#"[{"id": 1, "name": "a", "run_time_ns": 90, "run_cnt": 6}, {"id": 2, "type": "kprobe"},
            {"id": 3, "name": "b", "run_time_ns": 7, "run_cnt": 1}]"#,
        )?;
        assert_eq!(since(&before, after), [("a".to_owned(), 4, 40), ("b".to_owned(), 1, 7)]);
        Ok(())
    }
}
