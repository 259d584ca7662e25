//! Where things are: the workspace, its target directory and the cache outside it.
//!
//! What survives `cargo clean` (tools, kernels) lies in the cache, so that CI can keep it.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The workspace root, from cargo's environment or, without it, from where xtask was compiled.
pub(crate) fn workspace() -> Result<PathBuf> {
    let manifest_dir = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = manifest_dir.parent().context("xtask's directory has no parent")?;
    root.canonicalize().with_context(|| {
        format!(
            "{} is not there: xtask was built elsewhere; run it by `cargo xtask`",
            root.display()
        )
    })
}

/// Cargo's target directory: `CARGO_TARGET_DIR`, else `target`.
pub(crate) fn target(workspace: &Path) -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace.join(dir),
        None => workspace.join("target"),
    }
}

/// `$XDG_CACHE_HOME/socktrace`, else `~/.cache/socktrace`.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(dir) if Path::new(&dir).is_absolute() => PathBuf::from(dir),
        _ => env::home_dir()
            .context(
                "no home directory: tools and kernels have no place; set HOME or XDG_CACHE_HOME",
            )?
            .join(".cache"),
    };
    Ok(base.join("socktrace"))
}

/// Where `setup` installs cargo-installed tools (`bin` below it).
pub(crate) fn tools() -> Result<PathBuf> {
    Ok(cache()?.join("tools"))
}

/// The executables called `name`: ours first, then those of `PATH`.
pub(crate) fn executables(name: &str) -> Result<Vec<PathBuf>> {
    let path = env::var_os("PATH").unwrap_or_default();
    let candidates = std::iter::once(tools()?.join("bin")).chain(env::split_paths(&path));
    Ok(candidates.map(|dir| dir.join(name)).filter(|file| file.is_file()).collect())
}
