//! `cargo xtask setup`: everything that building and testing needs, on a bare Debian machine.
//!
//! Looks first and acts only on what is missing, so that a second run costs nothing. Without root or
//! without Debian it prints the commands that are left to do.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use nix::mount::{MsFlags, mount};
use nix::unistd::geteuid;

use crate::apt::Apt;
use crate::bench::peers;
use crate::services::{self, NoStarts};
use crate::tools::{BPF_LINKER, CARGO_DENY};
use crate::{paths, process, toolchain};

/// Debian's rustc with a prebuilt `core` for BPF; not needed beside a nightly with `rust-src`.
const BPF_PACKAGES: &[&str] = &["libstd-rust-web-dev-bpf", "rust-web-clippy", "rustc-web"];

/// Everything else: a C compiler for linking, kernel packages' tools, QEMU, what tests compare with, and
/// (with [`services::PACKAGES`]) the servers and loads of tests.
const PACKAGES: &[&str] = &[
    "bpftool",
    "ca-certificates",
    "chromium",
    "debian-archive-keyring",
    "gcc",
    "gunicorn",
    "iproute2",
    "kmod",
    "libc6-dev",
    "qemu-system-x86",
    "wrk",
    "xz-utils",
    "zstd",
];

const TRACEFS: &str = "/sys/kernel/tracing";

/// One thing that is missing, and what brings it.
struct Step {
    command: Command,
    needs_root: bool,
    otherwise: Otherwise,
}

/// What follows where a step's command fails.
#[derive(Clone, Copy)]
enum Otherwise {
    /// Setup fails.
    Fail,
    /// Nothing.
    GoOn,
    /// The packages that are missing still are taken from backports.
    Backports,
}

/// `cargo xtask setup`'s arguments.
#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Install the tracers that `cargo xtask bench` compares with, too, as far as the machine's
    /// suites have them.
    #[arg(long)]
    pub(crate) bench: bool,
}

/// Installs what is missing; says nothing but a summary when all is there.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.bench {
        install_peers();
    }
    let steps = missing_steps()?;
    if steps.iter().any(|step| step.needs_root) && !(geteuid().is_root() && is_debian()) {
        return Err(refusal(&steps));
    }
    let installed = !steps.is_empty();
    let installs_packages = steps.iter().any(|step| step.needs_root);
    let no_starts = installs_packages.then(NoStarts::begin).transpose()?;
    for mut step in steps {
        eprintln!("setup: {}", process::render(&step.command));
        match (process::run(&mut step.command), step.otherwise) {
            (Ok(()), _) => {}
            (Err(error), Otherwise::GoOn) => eprintln!("setup: {error:#}; going on without"),
            (Err(error), Otherwise::Backports) => install_from_backports(&error)?,
            (Err(error), Otherwise::Fail) => return Err(error),
        }
    }
    drop(no_starts);
    if installed && !missing_steps()?.is_empty() {
        bail!(
            "the commands above succeeded, and something is missing still; run setup again to see what"
        );
    }
    mount_tracefs();
    eprintln!("setup: everything is there");
    Ok(())
}

/// A machine that has one of QEMU's packages from backports takes no other of them from its own suite: apt
/// would have to remove the first. What the own suite can still bring is installed one by one, and the
/// rest comes from backports, too.
fn install_from_backports(refused: &anyhow::Error) -> Result<()> {
    eprintln!("setup: {refused:#}; trying each package by itself, and backports for the rest");
    for package in missing_packages(&wanted_packages()) {
        // Whether all are there in the end is asked below.
        let _ = process::run(install().arg(package));
    }
    let missing = missing_packages(&wanted_packages());
    if missing.is_empty() {
        return Ok(());
    }
    let apt = Apt::of_backports(&paths::cache()?.join("apt-backports"))?;
    let installed = apt.install(install().args(&missing));
    apt.clean()?;
    installed
}

/// Each by itself: one that no suite has must not keep the others out.
fn install_peers() {
    for package in missing_packages(peers::PACKAGES) {
        let mut install = install();
        if let Err(error) = process::run(install.arg(package)) {
            eprintln!("setup: {error:#}; going on without {package}");
        }
    }
}

fn missing_steps() -> Result<Vec<Step>> {
    let mut steps = package_steps();
    steps.extend(component_step());
    let root = paths::tools()?;
    for tool in [&BPF_LINKER, &CARGO_DENY] {
        if tool.find()?.is_none() {
            let command = tool.install_command(&root);
            steps.push(Step { command, needs_root: false, otherwise: Otherwise::Fail });
        }
    }
    Ok(steps)
}

fn wanted_packages() -> Vec<&'static str> {
    let mut wanted = [PACKAGES, services::PACKAGES].concat();
    if toolchain::debian_is_there() || toolchain::nightly_with_source().is_none() {
        wanted.extend(BPF_PACKAGES);
    }
    wanted
}

fn package_steps() -> Vec<Step> {
    let missing = missing_packages(&wanted_packages());
    if missing.is_empty() {
        return Vec::new();
    }
    let mut install = install();
    install.args(&missing);
    let mut update = apt_get();
    update.arg("update");
    // Where one of the machine's sources is gone, the others may still have all that is wanted.
    let step = |command, otherwise| Step { command, needs_root: true, otherwise };
    let mut steps = vec![step(update, Otherwise::GoOn), step(install, Otherwise::Backports)];
    // Without systemd there is nothing to disable it with, and nothing was started.
    let disable = services::disable(&missing);
    steps.extend(disable.map(|command| step(command, Otherwise::GoOn)));
    steps
}

/// `apt-get install`, without the packages.
fn install() -> Command {
    let mut command = apt_get();
    // `--no-remove`: a machine's own rustc is not exchanged behind its owner's back.
    command.args(["install", "--yes", "--no-install-recommends", "--no-remove"]);
    command
}

/// `apt-get` that asks nothing.
pub(crate) fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["--quiet=2"]);
    command
}

fn missing_packages<'a>(wanted: &[&'a str]) -> Vec<&'a str> {
    // dpkg-query exits with 1 when one name is unknown, and still answers for the others.
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Abbrev}${Package}\n"])
        .args(wanted)
        .output();
    let listing = output.map(|output| output.stdout).unwrap_or_default();
    let listing = String::from_utf8_lossy(&listing);
    let installed = parse_installed(&listing);
    wanted.iter().copied().filter(|name| !installed.contains(name)).collect()
}

/// The names in dpkg-query's listing whose status is "installed".
fn parse_installed(listing: &str) -> Vec<&str> {
    listing.lines().filter_map(|line| line.strip_prefix("ii ")).collect()
}

fn component_step() -> Option<Step> {
    let missing: Vec<_> = [("rustfmt", "fmt"), ("clippy", "clippy")]
        .into_iter()
        .filter(|(_, subcommand)| {
            !process::succeeds(process::cargo().args([subcommand, "--version"]))
        })
        .map(|(component, _)| component)
        .collect();
    if missing.is_empty() || !process::succeeds(Command::new("rustup").arg("--version")) {
        return None;
    }
    let mut command = Command::new("rustup");
    command.args(["component", "add"]).args(missing);
    Some(Step { command, needs_root: false, otherwise: Otherwise::Fail })
}

fn is_debian() -> bool {
    Path::new("/etc/debian_version").is_file()
}

fn refusal(steps: &[Step]) -> anyhow::Error {
    let mut message = String::from(if is_debian() {
        "setup installs Debian packages, and this user is not root; nothing was changed. Run as root:\n"
    } else {
        "setup knows Debian's packages only, and this is not Debian; nothing was changed. \
         Install what these commands would:\n"
    });
    for step in steps {
        message.push_str("  ");
        message.push_str(&process::render(&step.command));
        message.push('\n');
    }
    anyhow::Error::msg(message)
}

/// Mounts tracefs where root finds none: the tracepoint tier and the tests read event formats there.
fn mount_tracefs() {
    if Path::new(TRACEFS).join("events").is_dir() || !geteuid().is_root() {
        return;
    }
    let none: Option<&str> = None;
    if let Err(error) = mount(Some("tracefs"), TRACEFS, Some("tracefs"), MsFlags::empty(), none) {
        // No error: most of the tests do without, and those that do not say so.
        eprintln!(
            "setup: tracefs was not mounted ({error}): tracepoint tests will fail; \
             run `mount -t tracefs tracefs {TRACEFS}` to see why"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_count_as_installed() {
        let listing = "ii gcc\nrc qemu-system-x86\nun kmod\n";
        assert_eq!(parse_installed(listing), ["gcc"]);
    }
}
