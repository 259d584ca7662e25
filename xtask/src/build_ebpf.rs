//! `cargo xtask build-ebpf`: builds the eBPF object that is committed, and checks that it is the sources'.
//!
//! The object does not depend on the directory it is built in: every path in it is remapped, so the
//! same sources and the same toolchain give the same bytes.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::provenance::{Record, Sources, sha256};
use crate::toolchain::{self, TARGET, Toolchain};
use crate::{paths, process, strip};

/// `cargo xtask build-ebpf`'s arguments.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing: hold the committed object and its record against the sources and a fresh build.
    #[arg(long)]
    check: bool,
}

/// Builds, and writes or checks what is committed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = paths::workspace()?;
    if arguments.check { check(&root) } else { update(&root) }
}

/// Lints the eBPF crate with its own toolchain and target.
pub(crate) fn clippy(root: &Path) -> Result<()> {
    let toolchain = toolchain::find()?;
    let mut command = toolchain.cargo("clippy", &target_dir(root), &[])?;
    process::run(command.current_dir(root).args(["--", "-D", "warnings"]))
}

fn update(root: &Path) -> Result<()> {
    let toolchain = toolchain::find()?;
    let built = build(root, &toolchain)?;
    let sources = Sources::read(root)?;
    let record = Record {
        sources: sources.hash,
        object: sha256(&built),
        bpf_target_arch: ARCH.to_owned(),
        dependencies: sources.dependencies,
        toolchain: toolchain.identity()?,
    };
    let (object, provenance) = committed(root);
    fs::write(&object, &built).with_context(|| format!("{} was not written", object.display()))?;
    record.write(&provenance)?;
    println!("build-ebpf: {} bytes, sha256 {}", built.len(), record.object);
    Ok(())
}

/// Holds the committed object and its record against the sources and a fresh build.
pub(crate) fn check(root: &Path) -> Result<()> {
    let (object, provenance) = committed(root);
    let record = Record::read(&provenance)?;
    let committed = fs::read(&object).with_context(|| {
        format!("{} cannot be read; run `cargo xtask build-ebpf`", object.display())
    })?;
    check_record(&record, &Sources::read(root)?.hash, &sha256(&committed))?;

    let toolchain = toolchain::find()?;
    let built = sha256(&build(root, &toolchain)?);
    let identity = toolchain.identity()?;
    if identity != record.toolchain || record.bpf_target_arch != ARCH {
        println!(
            "build-ebpf: the sources are those of the record and they build; the bytes were not compared, \
             because the toolchain here is another: {identity:?} on {ARCH}, recorded {:?} on {}",
            record.toolchain, record.bpf_target_arch
        );
        return Ok(());
    }
    if built != record.object {
        bail!(
            "a fresh build differs from the committed object ({built}, not {}) although sources and \
             toolchain are the recorded ones: the object is not what the sources say; run \
             `cargo xtask build-ebpf` and see what changed",
            record.object
        );
    }
    println!("build-ebpf: the committed object is byte for byte what the sources give ({built})");
    Ok(())
}

/// What the record says against what there is.
fn check_record(record: &Record, sources: &str, object: &str) -> Result<()> {
    if record.sources != sources {
        bail!(
            "the eBPF sources changed since the object was built: the committed object is stale; \
             run `cargo xtask build-ebpf` and commit what it writes"
        );
    }
    if record.object != object {
        bail!(
            "the committed object is not the one that its record describes ({object}, recorded {}): \
             its origin is unknown; run `cargo xtask build-ebpf` and commit what it writes",
            record.object
        );
    }
    Ok(())
}

/// The committed object and its record.
fn committed(root: &Path) -> (PathBuf, PathBuf) {
    let dir = root.join("socktrace/bpf");
    (dir.join("socktrace.o"), dir.join("provenance.toml"))
}

fn target_dir(root: &Path) -> PathBuf {
    paths::target(root).join("ebpf")
}

/// Builds the object and gives its bytes.
fn build(root: &Path, toolchain: &Toolchain) -> Result<Vec<u8>> {
    let target_dir = target_dir(root);
    let remap = remapped_prefixes(root, &target_dir)?;
    let mut command = toolchain.cargo("build", &target_dir, &remap)?;
    process::run(command.current_dir(root))?;
    let object = target_dir.join(TARGET).join("release/socktrace-ebpf");
    let linked = fs::read(&object).with_context(|| {
        format!("cargo succeeded and left no {}: is the binary called otherwise?", object.display())
    })?;
    strip::without_dwarf(&linked)
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: PathBuf,
    /// Absent for the workspace's own crates.
    source: Option<String>,
}

/// Every directory that debug info could name, and what stands for it. The last match wins in rustc,
/// so the most general goes first.
fn remapped_prefixes(root: &Path, target_dir: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut query = process::cargo();
    query.args(["metadata", "--format-version=1", "--locked"]).current_dir(root);
    let metadata: Metadata = serde_json::from_str(&process::capture(&mut query)?)
        .context("`cargo metadata` printed something that is no package list")?;
    let mut prefixes = vec![(root.to_owned(), ".".to_owned())];
    prefixes.extend(registry_dirs(&metadata).into_iter().map(|dir| (dir, "/cargo".to_owned())));
    prefixes.push((target_dir.to_owned(), "/target".to_owned()));
    Ok(prefixes)
}

/// The directories that hold the registry's crates: one per registry, whatever they are called here.
fn registry_dirs(metadata: &Metadata) -> Vec<PathBuf> {
    let external = metadata.packages.iter().filter(|package| package.source.is_some());
    let dirs = external.filter_map(|package| package.manifest_path.parent()?.parent());
    let mut dirs: Vec<_> = dirs.map(Path::to_owned).collect();
    dirs.sort();
    dirs.dedup();
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_directories_are_listed_once_and_ours_not_at_all() {
        let package = |path: &str, source: Option<&str>| Package {
            manifest_path: path.into(),
            source: source.map(str::to_owned),
        };
        let packages = vec![
            package("/r/index-1/a-1.0.0/Cargo.toml", Some("registry")),
            package("/r/index-1/b-1.0.0/Cargo.toml", Some("registry")),
            package("/work/xtask/Cargo.toml", None),
        ];
        assert_eq!(registry_dirs(&Metadata { packages }), [PathBuf::from("/r/index-1")]);
    }
}
