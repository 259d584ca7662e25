//! Measuring on this machine's own kernel.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::unistd::geteuid;

use super::guest::executable;
use super::peers::PEERS;
use super::plan::{self, Plan};
use super::samples::Samples;
use crate::stages::build_programs;
use crate::{paths, process};

/// A machine that does other things, too, needs more rounds, each tracer several times.
const ROUNDS: u32 = 15;

/// socktrace in the tiers that this kernel allows, and all peers, each `pairs` times.
pub(super) fn everything(
    root: &Path,
    pairs: u32,
    tiers: &[String],
    only: Option<&str>,
    by_program: bool,
) -> Result<Samples> {
    if !geteuid().is_root() {
        bail!("tracers need root, and this user is not root; run it as root");
    }
    let (socktrace, bench) = build(root)?;
    let tiers: Vec<_> = tiers.iter().map(String::as_str).collect();
    let mut subjects = plan::modes(&socktrace, &tiers);
    subjects.extend(tiers.last().map(|tier| plan::by_perf(&socktrace, tier)));
    let mut missing = Vec::new();
    let wanted = |name: &str| only.is_none_or(|only| name.contains(only));
    for peer in PEERS.iter().filter(|peer| wanted(peer.name)) {
        match executable(peer.program, peer.package) {
            Ok(program) => subjects.push(peer.subject(&program.to_string_lossy())),
            Err(error) => missing.push((peer.name.to_owned(), format!("{error:#}"))),
        }
    }
    subjects.retain(|subject| wanted(&subject.name));
    let bpftool = by_program.then(|| executable("bpftool", "bpftool")).transpose()?;
    let bpftool = bpftool.map(|path| path.to_string_lossy().into_owned());
    let plan = Plan { rounds: ROUNDS, pairs, work: plan::work(2), subjects, bpftool };
    let file = paths::target(root).join("bench-plan.json");
    fs::write(&file, serde_json::to_vec(&plan)?)
        .with_context(|| format!("{} was not written", file.display()))?;
    let lines = stream(Command::new(bench).arg(&file))?;
    let mut samples = Samples::parse(lines.iter().map(String::as_str))?;
    samples.left_out.extend(missing);
    Ok(samples)
}

/// The paths of `socktrace` and `bench`.
pub(super) fn build(root: &Path) -> Result<(String, String)> {
    let mut build = process::cargo();
    build.args(["build", "--release", "--package", "socktrace", "--package", "socktrace-tests"]);
    let programs = build_programs(build.arg("--bins").current_dir(root))?;
    let path = |name: &str| {
        let found = programs.iter().find(|(target, _)| target == name);
        let (_, path) = found.with_context(|| format!("cargo built no program {name}"))?;
        Ok::<_, anyhow::Error>(path.to_string_lossy().into_owned())
    };
    Ok((path("socktrace")?, path("bench")?))
}

/// Runs it, and shows its lines as they come.
fn stream(command: &mut Command) -> Result<Vec<String>> {
    let line = process::render(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| process::cannot_start(&line))?;
    let output = BufReader::new(child.stdout.take().context("a piped stdout is missing")?);
    let lines = output.lines().inspect(|line| {
        if let Ok(line) = line {
            println!("[host] {line}");
        }
    });
    let lines = lines.collect::<Result<Vec<_>, _>>().context("its output cannot be read")?;
    let status = child.wait()?;
    if !status.success() {
        bail!("`{line}` failed ({status}); its messages are above");
    }
    Ok(lines)
}
