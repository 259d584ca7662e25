//! Measuring in a guest whose time is the instructions that it executes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::peers::{PEERS, Peer};
use super::plan::{self, Plan, Subject};
use super::samples::Samples;
use crate::initramfs::Initramfs;
use crate::kernels::{Kernel, Unpacked};
use crate::qemu::{self, Guest, Time};
use crate::{paths, process, verdict, vm};

const SOCKTRACE: &str = "/bin/socktrace";
const PLAN: &str = "etc/bench.json";
const TIERS: &[&str] = &["fentry", "kprobe", "tracepoint"];
/// Rounds differ by where the timer's tick falls, and in little else.
const ROUNDS: u32 = 5;

/// The static programs of a guest.
pub(crate) struct Programs {
    init: Vec<u8>,
    socktrace: Vec<u8>,
    bench: Vec<u8>,
}

impl Programs {
    /// Builds them.
    pub(crate) fn build(root: &Path) -> Result<Self> {
        let socktrace = vm::build(root, &["--package", "socktrace", "--bin", "socktrace"])?;
        let tests = vm::build(root, &["--package", "socktrace-tests", "--bins"])?;
        Ok(Self {
            init: vm::read(&tests, "vm-init")?,
            socktrace: vm::read(&socktrace, "socktrace")?,
            bench: vm::read(&tests, "bench")?,
        })
    }
}

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
    let dir = vm::target_dir(root);
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
    if found.totals.failed > 0 {
        bail!("kernel {}: not all was measured; its last lines above say why", kernel.name);
    }
    Samples::parse(run.lines.iter().map(String::as_str))
}

fn pack(unpacked: &Unpacked, programs: &Programs, plan: &Plan, extras: &Extras) -> Result<Vec<u8>> {
    let mut archive: Initramfs = vm::bootable(unpacked, &programs.init, &programs.socktrace)?;
    archive.executable("bin/bench", &programs.bench)?;
    archive.file(PLAN, &serde_json::to_vec(plan)?)?;
    for file in &extras.files {
        let content =
            fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        archive.executable(&file.to_string_lossy()[1..], &content)?;
    }
    archive.finish()
}

/// Programs of this machine with the libraries that they need, at the paths where they are here.
#[derive(Default)]
struct Extras {
    files: BTreeSet<PathBuf>,
    bpftool: Option<String>,
}

impl Extras {
    fn add(&mut self, peer: &Peer) -> Result<Subject> {
        Ok(peer.subject(&self.program(peer.program, peer.package)?))
    }

    fn program(&mut self, name: &str, package: &str) -> Result<String> {
        let program = executable(name, package)?;
        let libraries = process::capture(Command::new("ldd").arg(&program))?;
        self.files.extend(parse_ldd(&libraries).map(PathBuf::from));
        let path = program.to_string_lossy().into_owned();
        self.files.insert(program);
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

/// The paths in ldd's listing, the loader's, too.
fn parse_ldd(listing: &str) -> impl Iterator<Item = &str> {
    listing.split_whitespace().filter(|word| word.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_taken_and_the_vdso_is_not() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffc)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f1)\n";
        let paths: Vec<_> = parse_ldd(listing).collect();
        assert_eq!(paths, ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }
}
