//! The VM matrix: packs test programs and their libraries with a kernel's modules, boots it, and takes
//! the verdict that `tests/src/bin/vm-init.rs` prints. How that is read is in `verdict.rs`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::initramfs::Initramfs;
use crate::kernels::{self, Kernel, Unpacked};
use crate::programs::Programs;
use crate::qemu::{self, Guest, Time};
use crate::verdict::{self, Findings};
use crate::{modules, paths};

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/false\n\
    nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
const GROUP: &[u8] = b"root:x:0:\nnogroup:x:65534:\n";
const HOSTS: &[u8] = b"127.0.0.1 localhost\n::1 localhost\n";

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

/// Where guests' archives and logs go.
pub(crate) fn dir(root: &Path) -> Result<PathBuf> {
    let dir = paths::target(root).join("vm");
    fs::create_dir_all(&dir).with_context(|| format!("{} was not made", dir.display()))?;
    Ok(dir)
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
    let dir = dir(root)?;
    let initramfs = dir.join(format!("{}.cpio", kernel.name));
    fs::write(&initramfs, archive)
        .with_context(|| format!("{} was not written", initramfs.display()))?;
    let guest = Guest {
        name: &kernel.name,
        image: &unpacked.image,
        initramfs: &initramfs,
        parameters: &parameters(kernel, options)?,
        // Of a further run of the same kernel, the log stands beside the first.
        log: &dir.join(format!("{}{}.log", kernel.name, options.boot_with.unwrap_or_default())),
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
    let mut archive = bootable(unpacked, programs)?;
    archive.program("bin/scenario", &programs.scenario)?;
    archive.program("bin/kernel-tests", &programs.kernel_tests)?;
    archive.file("etc/kernels.toml", &table)?;
    archive.finish()
}

/// An archive with what every guest needs: init, the kernel's modules, and socktrace.
pub(crate) fn bootable(unpacked: &Unpacked, programs: &Programs) -> Result<Initramfs> {
    let mut archive = Initramfs::new()?;
    for directory in ["proc", "root", "run", "sys", "tmp"] {
        archive.directory(directory)?;
    }
    archive.program("init", &programs.init)?;
    archive.program("bin/socktrace", &programs.socktrace)?;
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
