//! The record beside the committed object: which sources and which toolchain it came from.
//!
//! It holds nothing of the machine: no path, no registry host.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::toolchain::Identity;

/// The crates whose sources make the object.
const CRATES: &[&str] = &["socktrace-common", "socktrace-ebpf"];

const HEADER: &str = "\
# What socktrace.o was built from. Written by `cargo xtask build-ebpf`; `cargo xtask build-ebpf --check`
# holds it against the sources and the object. Do not edit.

";

/// The content of `provenance.toml`.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct Record {
    /// SHA-256 over the sources (see [`Sources`]).
    pub(crate) sources: String,
    /// SHA-256 of the object.
    pub(crate) object: String,
    /// The machine whose `pt_regs` the kprobes read.
    pub(crate) bpf_target_arch: String,
    /// `name version` of every crate from the registry that the eBPF crate builds with.
    pub(crate) dependencies: Vec<String>,
    /// The toolchain that built it.
    pub(crate) toolchain: Identity,
}

impl Record {
    /// Reads the record at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| {
            format!(
                "{} cannot be read: the object's origin is unknown; run `cargo xtask build-ebpf`",
                path.display()
            )
        })?;
        toml::from_str(&text).with_context(|| {
            format!(
                "{} is no record; run `cargo xtask build-ebpf` to write it anew",
                path.display()
            )
        })
    }

    /// Writes the record to `path`.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = format!("{HEADER}{}", toml::to_string_pretty(self)?);
        fs::write(path, text).with_context(|| format!("{} was not written", path.display()))
    }
}

/// What the object is made from: one hash over files and locked dependencies.
pub(crate) struct Sources {
    /// SHA-256 over path and content of each file, in the order of paths, then the dependencies.
    pub(crate) hash: String,
    /// `name version`, sorted.
    pub(crate) dependencies: Vec<String>,
}

impl Sources {
    /// Reads the sources of the workspace at `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut files = BTreeSet::new();
        for name in CRATES {
            collect_sources(&root.join(name), &mut files)?;
        }
        let lock = root.join("Cargo.lock");
        let lock = fs::read_to_string(&lock)
            .with_context(|| format!("{} cannot be read", lock.display()))?;
        let dependencies = parse_locked(&lock, "socktrace-ebpf")?;
        let hash = hash_sources(root, &files, &dependencies)?;
        Ok(Self { hash, dependencies })
    }
}

fn hash_sources(root: &Path, files: &BTreeSet<PathBuf>, dependencies: &[String]) -> Result<String> {
    let mut hash = Sha256::new();
    for file in files {
        let content =
            fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let name = file.strip_prefix(root)?.to_str().context("a source file's name is no UTF-8")?;
        // Lengths keep one file's end and the next one's name apart.
        hash.update(format!("{} {name} {}\n", name.len(), content.len()));
        hash.update(&content);
    }
    hash.update(dependencies.join("\n"));
    Ok(hex(&hash.finalize()))
}

/// The SHA-256 of `bytes`, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _cannot_fail = write!(text, "{byte:02x}");
        text
    })
}

/// Adds `Cargo.toml` and every `*.rs` below `dir` to `files`.
fn collect_sources(dir: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("{} cannot be read", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect_sources(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs")
            || path.file_name().is_some_and(|name| name == "Cargo.toml")
        {
            files.insert(path);
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<LockedPackage>,
}

#[derive(Deserialize)]
struct LockedPackage {
    name: String,
    version: String,
    /// Absent for the workspace's own crates.
    source: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// Every registry crate that `package` reaches in a `Cargo.lock`, as `name version`, sorted.
fn parse_locked(lock: &str, package: &str) -> Result<Vec<String>> {
    let lock: Lock = toml::from_str(lock).context("Cargo.lock is no lock file")?;
    let mut reached = BTreeSet::new();
    let mut pending = vec![package.to_owned()];
    while let Some(wanted) = pending.pop() {
        // An entry is `name`, or `name version` where two versions are locked.
        let found = lock.package.iter().find(|candidate| {
            wanted == candidate.name
                || wanted == format!("{} {}", candidate.name, candidate.version)
        });
        let found = found.with_context(|| {
            format!("Cargo.lock has no {wanted}: it is behind Cargo.toml; run `cargo metadata`")
        })?;
        let key = (&found.name, &found.version, found.source.is_some());
        if reached.insert(key) {
            pending.extend(found.dependencies.iter().cloned());
        }
    }
    let external = reached.into_iter().filter(|(_, _, external)| *external);
    Ok(external.map(|(name, version, _)| format!("{name} {version}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
        [[package]]
        name = "ours"
        version = "0.1.0"
        dependencies = ["a", "syn 2.0.1"]
        [[package]]
        name = "a"
        version = "1.2.3"
        source = "registry"
        [[package]]
        name = "syn"
        version = "1.0.0"
        source = "registry"
        [[package]]
        name = "syn"
        version = "2.0.1"
        source = "registry"
        dependencies = ["a"]
    "#;

    #[test]
    fn locked_dependencies_are_those_reached_and_no_others() -> Result<()> {
        assert_eq!(parse_locked(LOCK, "ours")?, ["a 1.2.3", "syn 2.0.1"]);
        Ok(())
    }

    #[test]
    fn a_package_that_is_not_locked_is_an_error() {
        assert!(parse_locked(LOCK, "absent").is_err());
    }

    #[test]
    fn bytes_are_hashed_as_sha256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b""), empty);
    }
}
