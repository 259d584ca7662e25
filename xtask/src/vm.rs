//! The VM matrix: builds static test programs, packs them with a kernel's modules, boots it, and
//! takes the verdict that `tests/src/bin/vm-init.rs` prints. How that is read is in `verdict.rs`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::initramfs::Initramfs;
use crate::kernels::{self, Kernel, Unpacked};
use crate::qemu::{self, Guest, Time};
use crate::verdict::{self, Findings};
use crate::{modules, paths, process};

/// The gnu target, named: flags for it then do not reach proc macros, which cannot be static.
const TARGET: &str = "x86_64-unknown-linux-gnu";

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/false\n\
    nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
const GROUP: &[u8] = b"root:x:0:\nnogroup:x:65534:\n";
const HOSTS: &[u8] = b"127.0.0.1 localhost\n::1 localhost\n";

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
    /// Everything, instead of a representative part.
    pub(crate) full: bool,
    /// For the kernel itself.
    pub(crate) boot_with: Option<&'a str>,
}

impl Programs {
    /// Builds them, statically linked.
    pub(crate) fn build(root: &Path) -> Result<Self> {
        let socktrace = build(root, &["--package", "socktrace", "--bin", "socktrace"])?;
        let tests = build(root, &["--package", "socktrace-tests", "--bins", "--test", "kernel"])?;
        Ok(Self {
            init: read(&tests, "vm-init")?,
            socktrace: read(&socktrace, "socktrace")?,
            scenario: read(&tests, "scenario")?,
            tests: read(&tests, "kernel")?,
        })
    }
}

/// The program `name` of those that [`build`] made.
pub(crate) fn read(built: &[(String, PathBuf)], name: &str) -> Result<Vec<u8>> {
    let (_, path) = built.iter().find(|(target, _)| target == name).with_context(|| {
        format!("cargo built no program {name}: the guest lacks it; is its target renamed?")
    })?;
    fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Builds what `selection` tells cargo, statically linked.
pub(crate) fn build(root: &Path, selection: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let mut command = process::cargo();
    command.args(["build", "--release", "--target", TARGET]).args(selection).current_dir(root);
    command.env("CARGO_TARGET_DIR", target_dir(root));
    command.env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    // Optimizing across crates takes a minute and more of each run, and shows nothing here.
    command.env("CARGO_PROFILE_RELEASE_LTO", "off");
    crate::stages::build_programs(&mut command)
}

/// Where guests' programs, archives and logs go.
pub(crate) fn target_dir(root: &Path) -> PathBuf {
    paths::target(root).join("vm")
}

/// Boots one kernel and runs the tests in it; `Err` says why there is no verdict.
pub(crate) fn run(
    root: &Path,
    kernel: &Kernel,
    unpacked: &Unpacked,
    programs: &Programs,
    options: &Options<'_>,
) -> Result<Findings> {
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
        parameters: &parameters(kernel, options)?,
        log: &dir.join(format!("{}.log", kernel.name)),
        timeout: options.timeout,
        time: Time::Real,
    };
    verdict::judge(&kernel.name, &qemu::boot(&guest)?, options.timeout)
}

fn parameters(kernel: &Kernel, options: &Options<'_>) -> Result<String> {
    let extent = match kernel.full_only.join(",") {
        _ if options.full => " socktrace.full=1".to_owned(),
        // What is asked for by name is not left out.
        left_out if left_out.is_empty() || options.filter.is_some() => String::new(),
        left_out => format!(" socktrace.skip={left_out}"),
    };
    let filter = match options.filter {
        Some(filter) if filter.contains(char::is_whitespace) => {
            bail!("the filter {filter:?} has a space: a kernel command line cannot carry it")
        }
        Some(filter) => format!(" socktrace.filter={filter}"),
        None => String::new(),
    };
    let own = options.boot_with.unwrap_or_default();
    Ok(format!("socktrace.kernel={}{extent}{filter} {own}", kernel.name))
}

fn pack(root: &Path, unpacked: &Unpacked, programs: &Programs) -> Result<Vec<u8>> {
    let table = kernels::table(root);
    let table = fs::read(&table).with_context(|| format!("{} cannot be read", table.display()))?;
    let mut archive = bootable(unpacked, &programs.init, &programs.socktrace)?;
    archive.executable("bin/scenario", &programs.scenario)?;
    archive.executable("bin/kernel-tests", &programs.tests)?;
    archive.file("etc/kernels.toml", &table)?;
    archive.finish()
}

/// An archive with what every guest needs: init, the kernel's modules, and socktrace.
pub(crate) fn bootable(unpacked: &Unpacked, init: &[u8], socktrace: &[u8]) -> Result<Initramfs> {
    let mut archive = Initramfs::new()?;
    for directory in ["proc", "root", "run", "sys", "tmp"] {
        archive.directory(directory)?;
    }
    archive.executable("init", init)?;
    archive.executable("bin/socktrace", socktrace)?;
    archive.file("etc/passwd", PASSWD)?;
    archive.file("etc/group", GROUP)?;
    archive.file("etc/hosts", HOSTS)?;
    let mut list = Vec::new();
    for module in modules::load(&unpacked.modules)? {
        let path = format!("lib/modules/{}.ko", module.name);
        archive.file(&path, &module.content)?;
        writeln!(list, "/{path}")?;
    }
    archive.file("modules.list", &list)?;
    Ok(archive)
}
