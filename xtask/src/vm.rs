//! The VM matrix: builds static test programs, packs them with a kernel's modules, boots it, and
//! takes the verdict that `tests/src/bin/vm-init.rs` prints.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::initramfs::Initramfs;
use crate::kernels::{self, Kernel, Unpacked};
use crate::libtest::Totals;
use crate::qemu::{self, Guest, Run};
use crate::{modules, paths, process};

/// The gnu target, named: flags for it then do not reach proc macros, which cannot be static.
const TARGET: &str = "x86_64-unknown-linux-gnu";

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/false\n\
    nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
const GROUP: &[u8] = b"root:x:0:\nnogroup:x:65534:\n";
const HOSTS: &[u8] = b"127.0.0.1 localhost\n::1 localhost\n";

/// What vm-init prints last.
const VERDICT: &str = "SOCKTRACE-VM-VERDICT ";

/// The static programs of the initramfs.
pub(crate) struct Programs {
    init: Vec<u8>,
    socktrace: Vec<u8>,
    scenario: Vec<u8>,
    tests: Vec<u8>,
}

/// How to run the tests in a guest.
pub(crate) struct Options<'a> {
    /// Only tests whose name contains this.
    pub(crate) filter: Option<&'a str>,
    /// Per guest.
    pub(crate) timeout: Duration,
}

impl Programs {
    /// Builds them, statically linked.
    pub(crate) fn build(root: &Path) -> Result<Self> {
        let socktrace = build(root, &["--package", "socktrace", "--bin", "socktrace"])?;
        let tests = build(root, &["--package", "socktrace-tests", "--bins", "--test", "kernel"])?;
        let read = |built: &[(String, PathBuf)], name: &str| {
            let (_, path) = built.iter().find(|(target, _)| target == name).with_context(|| {
                format!("cargo built no program {name}: the guest lacks it; is its target renamed?")
            })?;
            fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
        };
        Ok(Self {
            init: read(&tests, "vm-init")?,
            socktrace: read(&socktrace, "socktrace")?,
            scenario: read(&tests, "scenario")?,
            tests: read(&tests, "kernel")?,
        })
    }
}

fn build(root: &Path, selection: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let mut command = process::cargo();
    command.args(["build", "--release", "--target", TARGET]).args(selection).current_dir(root);
    command.env("CARGO_TARGET_DIR", target_dir(root));
    command.env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    crate::stages::build_programs(&mut command)
}

fn target_dir(root: &Path) -> PathBuf {
    paths::target(root).join("vm")
}

/// Boots one kernel and runs the tests in it; `Err` says why there is no verdict.
pub(crate) fn run(
    root: &Path,
    kernel: &Kernel,
    unpacked: &Unpacked,
    programs: &Programs,
    options: &Options<'_>,
) -> Result<Totals> {
    println!("kernel {}: {}", kernel.name, unpacked.package);
    let archive = pack(root, unpacked, programs)?;
    let dir = target_dir(root);
    let initramfs = dir.join(format!("{}.cpio", kernel.name));
    fs::write(&initramfs, archive)
        .with_context(|| format!("{} was not written", initramfs.display()))?;
    let guest = Guest {
        name: &kernel.name,
        image: &unpacked.image,
        initramfs: &initramfs,
        parameters: &parameters(&kernel.name, options.filter)?,
        log: &dir.join(format!("{}.log", kernel.name)),
        timeout: options.timeout,
    };
    judge(&kernel.name, &qemu::boot(&guest)?, options.timeout)
}

fn parameters(kernel: &str, filter: Option<&str>) -> Result<String> {
    let filter = match filter {
        Some(filter) if filter.contains(char::is_whitespace) => {
            bail!("the filter {filter:?} has a space: a kernel command line cannot carry it")
        }
        Some(filter) => format!(" socktrace.filter={filter}"),
        None => String::new(),
    };
    Ok(format!("socktrace.kernel={kernel}{filter}"))
}

fn pack(root: &Path, unpacked: &Unpacked, programs: &Programs) -> Result<Vec<u8>> {
    let table = kernels::table(root);
    let table = fs::read(&table).with_context(|| format!("{} cannot be read", table.display()))?;
    let mut archive = Initramfs::new()?;
    for directory in ["proc", "root", "run", "sys", "tmp"] {
        archive.directory(directory)?;
    }
    archive.executable("init", &programs.init)?;
    archive.executable("bin/socktrace", &programs.socktrace)?;
    archive.executable("bin/scenario", &programs.scenario)?;
    archive.executable("bin/kernel-tests", &programs.tests)?;
    archive.file("etc/passwd", PASSWD)?;
    archive.file("etc/group", GROUP)?;
    archive.file("etc/hosts", HOSTS)?;
    archive.file("etc/kernels.toml", &table)?;
    let mut list = Vec::new();
    for module in modules::load(&unpacked.modules)? {
        let path = format!("lib/modules/{}.ko", module.name);
        archive.file(&path, &module.content)?;
        writeln!(list, "/{path}")?;
    }
    archive.file("modules.list", &list)?;
    archive.finish()
}

/// The totals of a run that ended with one verdict; everything else is an error that names the kernel.
fn judge(kernel: &str, run: &Run, timeout: Duration) -> Result<Totals> {
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
        [verdict] if verdict.kernel == kernel => verdict.totals(),
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

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "SOCKTRACE-VM-VERDICT kernel=6.1 passed=12 failed=0 status=ok";

    fn judged(lines: &[&str], hung: bool) -> Result<Totals> {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        judge("6.1", &Run { lines, hung }, Duration::from_secs(20))
    }

    fn refusal(lines: &[&str], hung: bool) -> String {
        judged(lines, hung).expect_err("there is no verdict").to_string()
    }

    #[test]
    fn a_verdict_gives_its_totals() -> Result<()> {
        assert_eq!(judged(&["booted", OK], false)?.passed, 12);
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
