//! The Rust toolchain for BPF: which one there is, what it calls itself, and how cargo is told to use it.
//!
//! Two ways: Debian's `rustc-web`, which carries a prebuilt `core` for BPF, or a rustup nightly with
//! `rust-src`. Debian's goes first where both are there, because the committed object comes from it.

use std::env::consts::ARCH;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{process, tools};

/// The target that the object is built for.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";

/// Where the compiler comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Debian,
    Nightly,
}

/// A BPF toolchain that is installed.
pub(crate) struct Toolchain {
    origin: Origin,
    cargo: PathBuf,
    rustc: PathBuf,
    linker: PathBuf,
}

/// What a toolchain calls itself: where all of it is equal, so is the object.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug, Clone)]
pub(crate) struct Identity {
    /// The package and its version, or `rustup nightly`.
    origin: String,
    rustc: String,
    llvm: String,
    /// Cargo decides the crates' disambiguators, and these are part of symbol names.
    cargo: String,
    linker: String,
}

/// The toolchain to build with; an error says how to get one.
pub(crate) fn find() -> Result<Toolchain> {
    let linker = tools::BPF_LINKER.require()?;
    if debian_is_there() {
        let cargo = process::cargo().get_program().into();
        return Ok(Toolchain { origin: Origin::Debian, cargo, rustc: DEBIAN_RUSTC.into(), linker });
    }
    if let Some(sysroot) = nightly_with_source() {
        let bin = sysroot.join("bin");
        let (cargo, rustc) = (bin.join("cargo"), bin.join("rustc"));
        return Ok(Toolchain { origin: Origin::Nightly, cargo, rustc, linker });
    }
    bail!(
        "no Rust toolchain for BPF: the object cannot be built; run `cargo xtask setup` (Debian), \
         or `rustup toolchain install nightly --component rust-src`"
    )
}

/// Whether Debian's rustc for BPF is installed.
pub(crate) fn debian_is_there() -> bool {
    Path::new(DEBIAN_CORE).is_dir() && Path::new(DEBIAN_RUSTC).is_file()
}

/// The sysroot of a rustup nightly that has `rust-src`.
pub(crate) fn nightly_with_source() -> Option<PathBuf> {
    let mut rustup = Command::new("rustup");
    let sysroot = rustup.args(["run", "nightly", "rustc", "--print", "sysroot"]);
    let sysroot = PathBuf::from(process::capture(sysroot).ok()?.trim_end());
    sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file().then_some(sysroot)
}

impl Toolchain {
    /// What it calls itself, for the record beside the object.
    pub(crate) fn identity(&self) -> Result<Identity> {
        let version = process::capture(Command::new(&self.rustc).arg("-vV"))?;
        let (rustc, llvm) = parse_rustc_version(&version).with_context(|| {
            format!("{} -vV names no LLVM: is it a rustc?", self.rustc.display())
        })?;
        let cargo = process::capture(Command::new(&self.cargo).arg("--version"))?;
        let linker = process::capture(Command::new(&self.linker).arg("--version"))?;
        Ok(Identity {
            origin: self.origin_name()?,
            rustc: rustc.to_owned(),
            llvm: llvm.to_owned(),
            cargo: cargo.trim().to_owned(),
            linker: linker.trim().to_owned(),
        })
    }

    fn origin_name(&self) -> Result<String> {
        if self.origin == Origin::Nightly {
            return Ok("rustup nightly".to_owned());
        }
        let mut query = Command::new("dpkg-query");
        query.args(["--show", "--showformat=Debian ${Package} ${Version}"]);
        process::capture(query.arg("libstd-rust-web-dev-bpf"))
    }

    /// A cargo invocation for the eBPF crate: `subcommand` with toolchain, target and flags set.
    ///
    /// `remap` are path prefixes and what stands for them, so that no machine's directory gets into
    /// the object.
    pub(crate) fn cargo(
        &self,
        subcommand: &str,
        target_dir: &Path,
        remap: &[(PathBuf, String)],
    ) -> Result<Command> {
        let mut command = match (self.origin, subcommand) {
            // The linter must be the compiler's own: rustup's cannot read Debian's `core`.
            (Origin::Debian, "clippy") => Command::new("/usr/bin/cargo-clippy"),
            _ => Command::new(&self.cargo),
        };
        command.args([subcommand, "--package", "socktrace-ebpf", "--release", "--locked"]);
        command.args(["--target", TARGET]);
        match self.origin {
            Origin::Debian => command.env("RUSTC_BOOTSTRAP", "1"),
            Origin::Nightly => command.args(["-Z", "build-std=core"]),
        };
        command.env("CARGO", &self.cargo).env("RUSTC", &self.rustc);
        command.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker);
        command.env("CARGO_ENCODED_RUSTFLAGS", rustflags(remap)?);
        command.env("CARGO_TARGET_DIR", target_dir);
        command.env("LD_LIBRARY_PATH", self.llvm_dir(target_dir)?);
        for stray in ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTUP_TOOLCHAIN"] {
            command.env_remove(stray);
        }
        Ok(command)
    }

    /// The directory of the LLVM that rustc itself uses.
    ///
    /// bpf-linker loads the first `libLLVM*` on the library path; another version's would still link,
    /// and give another object.
    fn llvm_dir(&self, target_dir: &Path) -> Result<PathBuf> {
        let bin = self.rustc.parent().context("rustc has no directory")?;
        if self.origin == Origin::Nightly {
            return Ok(bin.with_file_name("lib"));
        }
        let libraries = process::capture(Command::new("ldd").arg(&self.rustc))?;
        let library = parse_llvm_path(&libraries).with_context(|| {
            format!(
                "{} is linked with no libLLVM: bpf-linker has none to load",
                self.rustc.display()
            )
        })?;
        let dir = target_dir.join("llvm");
        fs::create_dir_all(&dir).with_context(|| format!("{} was not made", dir.display()))?;
        let link = dir.join("libLLVM.so");
        if fs::read_link(&link).ok().as_deref() != Some(library) {
            let _absent_is_fine = fs::remove_file(&link);
            symlink(library, &link).with_context(|| format!("{} was not made", link.display()))?;
        }
        Ok(dir)
    }
}

/// The flags for the BPF target, in cargo's encoding (a unit separator between them).
fn rustflags(remap: &[(PathBuf, String)]) -> Result<String> {
    // aya-ebpf takes the layout of pt_regs from this; without it, from whatever host builds.
    let mut flags = vec![format!("--cfg=bpf_target_arch=\"{ARCH}\"")];
    flags.extend(
        ["-Cdebuginfo=2", "-Clink-arg=--btf", "-Clink-arg=--disable-expand-memcpy-in-order"]
            .map(str::to_owned),
    );
    for (from, to) in remap {
        let from = from.to_str().context("a path on this machine is not UTF-8: build elsewhere")?;
        flags.push(format!("--remap-path-prefix={from}={to}"));
    }
    Ok(flags.join("\x1f"))
}

/// `rustc -vV`: its first line, and the LLVM version.
fn parse_rustc_version(text: &str) -> Option<(&str, &str)> {
    let llvm = text.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    Some((text.lines().next()?, llvm))
}

/// ldd's output: the file that libLLVM resolves to.
fn parse_llvm_path(text: &str) -> Option<&Path> {
    let line = text.lines().find(|line| line.trim_start().starts_with("libLLVM"))?;
    let path = line.split_once("=> ")?.1.split_whitespace().next()?;
    path.starts_with('/').then(|| Path::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustc_and_llvm_versions_are_read() {
        let text = "rustc 1.96.0 (ac6 2026-05-25)\nbinary: rustc\nLLVM version: 22.1.8\n";
        assert_eq!(parse_rustc_version(text), Some(("rustc 1.96.0 (ac6 2026-05-25)", "22.1.8")));
        assert_eq!(parse_rustc_version("bash 5\n"), None);
    }

    #[test]
    fn the_llvm_of_a_dynamically_linked_rustc_is_found() {
        let text = "\tlibc.so.6 => /lib/libc.so.6 (0x7)\n\tlibLLVM.so.22.1 => /lib/x/libLLVM.so.22.1 (0x7)\n";
        assert_eq!(parse_llvm_path(text), Some(Path::new("/lib/x/libLLVM.so.22.1")));
        assert_eq!(parse_llvm_path("\tlibLLVM.so.22.1 => not found\n"), None);
    }
}
