//! Measuring in a guest whose time is the instructions that it executes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::peers::{PEERS, Peer};
use super::plan::{self, Plan, Subject};
use super::samples::Samples;
use crate::initramfs::{Initramfs, libraries};
use crate::kernels::{Kernel, Unpacked};
use crate::programs::Programs;
use crate::qemu::{self, Guest, Time};
use crate::{paths, verdict, vm};

const SOCKTRACE: &str = "/bin/socktrace";
const PLAN: &str = "etc/bench.json";
const TIERS: &[&str] = &["fentry", "kprobe", "tracepoint"];
/// Rounds differ by where the timer's tick falls, and in little else.
const ROUNDS: u32 = 5;

/// socktrace in every tier and mode, and all peers.
pub(super) fn everything(
    root: &Path,
    kernel: &Kernel,
    programs: &Programs,
    only: Option<&str>,
    by_program: bool,
) -> Result<Samples> {
    let mut archive = Extras::default();
    let mut subjects = plan::modes(SOCKTRACE, TIERS);
    let mut missing = Vec::new();
    let wanted = |name: &str| only.is_none_or(|only| name.contains(only));
    for peer in PEERS.iter().filter(|peer| wanted(peer.name)) {
        match archive.add(peer) {
            Ok(subject) => subjects.push(subject),
            Err(error) => missing.push((peer.name.to_owned(), format!("{error:#}"))),
        }
    }
    subjects.retain(|subject| wanted(&subject.name));
    if by_program {
        archive.bpftool = Some(archive.program("bpftool", "bpftool")?);
    }
    let timeout = Duration::from_hours(1);
    let mut samples = measure(root, kernel, programs, subjects, &archive, timeout)?;
    samples.left_out.extend(missing);
    Ok(samples)
}

/// socktrace as it runs by default, in its best tier.
pub(super) fn default_mode(root: &Path, kernel: &Kernel, programs: &Programs) -> Result<Samples> {
    let subjects = vec![plan::default_mode(SOCKTRACE, TIERS[0])];
    measure(root, kernel, programs, subjects, &Extras::default(), Duration::from_mins(10))
}

fn measure(
    root: &Path,
    kernel: &Kernel,
    programs: &Programs,
    subjects: Vec<Subject>,
    extras: &Extras,
    timeout: Duration,
) -> Result<Samples> {
    let unpacked = kernel.obtain()?;
    let bpftool = extras.bpftool.clone();
    let plan = Plan { rounds: ROUNDS, pairs: 1, work: plan::work(1), subjects, bpftool };
    let dir = vm::dir(root)?;
    let initramfs = dir.join(format!("bench-{}.cpio", kernel.name));
    fs::write(&initramfs, pack(&unpacked, programs, &plan, extras)?)
        .with_context(|| format!("{} was not written", initramfs.display()))?;
    let guest = Guest {
        name: &kernel.name,
        image: &unpacked.image,
        initramfs: &initramfs,
        // Where the kernel lies is by chance, and so is how often its code shares a page.
        parameters: &format!("nokaslr socktrace.kernel={} socktrace.bench=/{PLAN}", kernel.name),
        log: &dir.join(format!("bench-{}.log", kernel.name)),
        timeout,
        time: Time::Instructions,
    };
    let run = qemu::boot(&guest)?;
    let found = verdict::judge(&kernel.name, &run, timeout)?;
    if found.tested.totals.failed > 0 {
        bail!("kernel {}: not all was measured; its last lines above say why", kernel.name);
    }
    Samples::parse(run.lines.iter().map(String::as_str))
}

fn pack(unpacked: &Unpacked, programs: &Programs, plan: &Plan, extras: &Extras) -> Result<Vec<u8>> {
    let mut archive: Initramfs = vm::bootable(unpacked, programs)?;
    archive.program("bin/bench", &programs.bench)?;
    archive.file(PLAN, &serde_json::to_vec(plan)?)?;
    for program in &extras.programs {
        archive.program(program.to_string_lossy().trim_start_matches('/'), program)?;
    }
    archive.finish()
}

/// Programs of this machine, at the paths where they are here.
#[derive(Default)]
struct Extras {
    programs: BTreeSet<PathBuf>,
    bpftool: Option<String>,
}

impl Extras {
    fn add(&mut self, peer: &Peer) -> Result<Subject> {
        Ok(peer.subject(&self.program(peer.program, peer.package)?))
    }

    fn program(&mut self, name: &str, package: &str) -> Result<String> {
        let program = executable(name, package)?;
        // A peer that cannot be taken along is left out, and not the end of all.
        libraries(&program)?;
        let path = program.to_string_lossy().into_owned();
        self.programs.insert(program);
        Ok(path)
    }
}

/// Where a program of a Debian package is on this machine.
pub(super) fn executable(name: &str, package: &str) -> Result<PathBuf> {
    paths::executables(name)?.into_iter().next().with_context(|| {
        format!(
            "{name} is not installed; `cargo xtask setup --bench` installs the package {package}, if \
             the machine's suites have it"
        )
    })
}
