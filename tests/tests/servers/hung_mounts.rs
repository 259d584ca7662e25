//! Filesystems whose servers never answer: `diagnose` ends all the same, and says what it did not see.

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use socktrace_tests::harness::process::Running;
use socktrace_tests::harness::run::socktrace;

/// As long as a checkup may take.
const LIMIT: Duration = Duration::from_secs(2);

/// A checkup of a path below `kind` of filesystem, mounted for that process alone; it holds the server's end
/// itself, and never reads from it.
fn diagnose_below(kind: &str, options: impl FnOnce() -> Result<String>) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let target = dir.path().join("deep/app.sock");
    let mut command = socktrace(&["diagnose", "--json", target.to_str().context("a path")?])?;
    let (at, kind) = (path(dir.path())?, CString::new(kind)?);
    let options = CString::new(options()?)?;
    let cover = move || {
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        let (kind, options) = (kind.as_c_str(), options.as_c_str());
        mount(Some(kind), at.as_c_str(), Some(kind), MsFlags::empty(), Some(options))?;
        Ok(())
    };
    // SAFETY: system calls only, of values that were made before.
    unsafe { command.pre_exec(cover) };
    let begin = Instant::now();
    let finished = Running::start(&mut command)?.finish()?;
    let took = begin.elapsed();
    ensure!(took < LIMIT, "it took {took:?}: {}", finished.told());
    serde_json::from_slice(&finished.stdout).with_context(|| finished.told())
}

fn path(of: &Path) -> Result<CString> {
    CString::new(of.as_os_str().as_encoded_bytes()).context("a path")
}

/// The step `path` has not seen what lies below.
fn is_unseen(checkup: &Value) -> Result<()> {
    let checks = checkup["checks"].as_array().into_iter().flatten();
    let mut steps = checks.filter(|check| check["name"] == "path");
    let step = steps.next().with_context(|| format!("no step path: {checkup}"))?;
    ensure!(step["unseen"].as_array().is_some_and(|it| !it.is_empty()), "{step}");
    ensure!(step["findings"].as_array().is_some_and(Vec::is_empty), "{step}");
    Ok(())
}

#[test]
fn a_fuse_mount_that_never_answers_does_not_hold_diagnose_up() -> Result<()> {
    let device = std::fs::File::options().read(true).write(true).open("/dev/fuse");
    let device = device.context("/dev/fuse")?;
    // The server's end stays open in the child.
    nix::fcntl::fcntl(&device, nix::fcntl::F_SETFD(nix::fcntl::FdFlag::empty()))?;
    let fd = device.as_raw_fd();
    let options = || Ok(format!("fd={fd},rootmode=40000,user_id=0,group_id=0"));
    is_unseen(&diagnose_below("fuse", options)?)
}

#[test]
fn an_automount_whose_daemon_is_dead_does_not_hold_diagnose_up() -> Result<()> {
    let (reader, writer) = nix::unistd::pipe().context("pipe")?;
    let fd = writer.as_raw_fd();
    // Whoever is in the daemon's process group would not set it off.
    let options = || Ok(format!("fd={fd},pgrp=1,minproto=5,maxproto=5,indirect"));
    let told = diagnose_below("autofs", options)?;
    drop((reader, writer));
    is_unseen(&told)
}
