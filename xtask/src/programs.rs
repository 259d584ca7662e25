//! The programs that tests run: built once, for this machine and for guests.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::stages::build_programs;
use crate::{kernels, process};

/// The integration test that needs root and a kernel that it may trace.
pub(crate) const KERNEL_TEST: &str = "kernel";

/// The integration test that needs root and the servers that `setup` installs.
pub(crate) const SERVERS_TEST: &str = "servers";

/// Where each is.
pub(crate) struct Programs {
    /// As users build it.
    pub(crate) socktrace: PathBuf,
    pub(crate) scenario: PathBuf,
    pub(crate) kernel_tests: PathBuf,
    pub(crate) server_tests: PathBuf,
    /// Process 1 of a guest.
    pub(crate) init: PathBuf,
    /// Measures in a guest: what tracing adds does not depend on how well it is optimized.
    pub(crate) bench: PathBuf,
}

impl Programs {
    /// Builds them.
    pub(crate) fn build(root: &Path) -> Result<Self> {
        let built = |arguments: &[&str]| {
            build_programs(process::cargo().arg("build").args(arguments).current_dir(root))
        };
        let socktrace = built(&["--release", "--package", "socktrace"])?;
        let tests = ["--test", KERNEL_TEST, "--test", SERVERS_TEST];
        let tests = built(&[&["--package", "socktrace-tests", "--bins"], &tests[..]].concat())?;
        Ok(Self {
            socktrace: program(&socktrace, "socktrace")?,
            scenario: program(&tests, "scenario")?,
            kernel_tests: program(&tests, KERNEL_TEST)?,
            server_tests: program(&tests, SERVERS_TEST)?,
            init: program(&tests, "vm-init")?,
            bench: program(&tests, "bench")?,
        })
    }

    /// Tells a test program on this machine where everything is.
    pub(crate) fn announce<'a>(&self, root: &Path, command: &'a mut Command) -> &'a mut Command {
        command.env("SOCKTRACE_BIN", &self.socktrace).env("SOCKTRACE_SCENARIO", &self.scenario);
        // A failure says where it is by its context; the frames of the test harness say nothing.
        command.env("RUST_LIB_BACKTRACE", "0");
        // At native speed everything is quick.
        command.env("SOCKTRACE_FULL", "1");
        command.env("SOCKTRACE_KERNEL", "host").env("SOCKTRACE_KERNELS", kernels::table(root))
    }
}

fn program(built: &[(String, PathBuf)], name: &str) -> Result<PathBuf> {
    let found = built.iter().find(|(target, _)| target == name);
    found.map(|(_, path)| path.clone()).with_context(|| {
        format!("cargo built no program {name}: the tests cannot run; is its target renamed?")
    })
}
