//! Programs that `cargo install` builds: which versions, and where they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{paths, process};

/// The linker that turns LLVM bitcode into one BPF object.
pub(crate) const BPF_LINKER: Tool =
    Tool { name: "bpf-linker", version: "0.10.0", accepted: "bpf-linker 0.10." };

/// Checks licences, duplicate crates and where crates come from.
pub(crate) const CARGO_DENY: Tool =
    Tool { name: "cargo-deny", version: "0.20.2", accepted: "cargo-deny 0.20.2" };

/// A program that `cargo install` builds.
pub(crate) struct Tool {
    /// The crate's and the executable's name.
    pub(crate) name: &'static str,
    /// What is installed where nothing acceptable is found.
    version: &'static str,
    /// What `--version` must begin with.
    accepted: &'static str,
}

impl Tool {
    /// An executable of an accepted version: ours, else from `PATH`.
    pub(crate) fn find(&self) -> Result<Option<PathBuf>> {
        let acceptable = |file: &PathBuf| {
            process::capture(Command::new(file).arg("--version"))
                .is_ok_and(|version| version.starts_with(self.accepted))
        };
        Ok(paths::executables(self.name)?.into_iter().find(acceptable))
    }

    /// Like [`Tool::find`], where its absence stops the command.
    pub(crate) fn require(&self) -> Result<PathBuf> {
        let Self { name, version, .. } = self;
        self.find()?.with_context(|| {
            format!("{name} {version} is missing; run `cargo xtask setup`, which installs it")
        })
    }

    /// Builds it below `root`.
    pub(crate) fn install_command(&self, root: &Path) -> Command {
        let mut command = process::cargo();
        command.args(["install", self.name, "--version", self.version, "--locked", "--root"]);
        // CARGO_TARGET_DIR would leave hundreds of megabytes of a tool's build in our target directory.
        command.arg(root).env_remove("CARGO_TARGET_DIR");
        command
    }
}
