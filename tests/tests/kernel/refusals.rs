//! What this kernel cannot do is refused with exit code 3 and one clear sentence.

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use socktrace_tests::harness::kernels::{TIERS, this_kernel};
use socktrace_tests::harness::process::{Finished, Running};
use socktrace_tests::harness::run::{run, socktrace};
use std::os::unix::process::CommandExt;

/// `include/uapi/linux/capability.h`.
const CAP_SYS_ADMIN: libc::c_ulong = 21;
const CAP_SYS_RESOURCE: libc::c_ulong = 24;

#[test]
fn a_forced_tier_that_the_kernel_lacks_is_exit_code_3() -> Result<()> {
    let able = this_kernel()?;
    // A table without `tracepoint` only says that it is not tested there; every kernel has it.
    let lacking = TIERS.iter().filter(|tier| !able.tiers.iter().any(|t| t == *tier));
    for tier in lacking.filter(|tier| **tier != "tracepoint") {
        let finished = run(&["record", "--no-save", "--tier", tier, "-d", "1s"])?;
        ensure!(finished.code() == Some(3), "{tier}: {}", finished.told());
        ensure!(finished.err().contains(tier), "{tier} is not named: {}", finished.told());
    }
    Ok(())
}

#[test]
fn an_unreadable_btf_file_is_exit_code_3_and_named() -> Result<()> {
    let file = tempfile::NamedTempFile::new().context("an empty file")?;
    let empty = file.path().display().to_string();
    for path in ["/nonexistent/btf", &empty] {
        let finished = run(&["record", "--no-save", "--btf", path, "-d", "1s"])?;
        ensure!(finished.code() == Some(3), "{path}: {}", finished.told());
        ensure!(finished.err().contains(path), "{path} is not named: {}", finished.told());
    }
    Ok(())
}

#[test]
fn without_tracefs_the_tracepoint_tier_is_refused_by_that_name() -> Result<()> {
    let mut command = socktrace(&["record", "--no-save", "--tier", "tracepoint", "-d", "1s"])?;
    // SAFETY: the closure only makes system calls; it touches no memory of the parent's threads.
    unsafe { command.pre_exec(|| hide_tracefs().map_err(std::io::Error::from)) };
    let finished = Running::start(&mut command)?.finish()?;
    ensure!(finished.code() == Some(3), "{}", finished.told());
    ensure!(finished.err().contains("tracefs"), "tracefs is not named: {}", finished.told());
    Ok(())
}

#[test]
fn a_tracefs_that_is_not_mounted_is_used_and_seen_by_nobody() -> Result<()> {
    let mut command = socktrace(&["record", "--no-save", "--tier", "tracepoint"])?;
    // SAFETY: as above.
    unsafe { command.pre_exec(|| cover_tracefs().map_err(std::io::Error::from)) };
    let mut tracer = Running::start(&mut command)?;
    tracer.wait_err("attached")?;
    let mounts = |pid: &str| -> Result<usize> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/mounts"))?;
        Ok(text.lines().filter(|line| line.starts_with("tracefs ")).count())
    };
    let (ours, its) = (mounts("self")?, mounts(&tracer.pid().to_string())?);
    tracer.signal(Signal::SIGINT)?;
    let finished = tracer.finish()?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    ensure!(ours == its, "{its} mounts of tracefs where there were {ours}");
    Ok(())
}

#[test]
fn where_little_memory_may_be_locked_every_tier_is_had_all_the_same() -> Result<()> {
    for tier in &this_kernel()?.tiers {
        let finished = with_little_locked_memory(tier, None)?;
        ensure!(finished.code() == Some(0), "{tier}: {}", finished.told());
    }
    Ok(())
}

#[test]
fn where_the_limit_on_locked_memory_counts_and_cannot_be_lifted_it_is_named() -> Result<()> {
    for tier in &this_kernel()?.tiers {
        let finished = with_little_locked_memory(tier, Some(CAP_SYS_RESOURCE))?;
        // From 5.11 on, it does not count.
        let named = finished.code() == Some(3) && finished.err().contains("RLIMIT_MEMLOCK");
        ensure!(finished.code() == Some(0) || named, "{tier}: {}", finished.told());
    }
    Ok(())
}

/// `record` in a forced tier where no memory may be locked, without one capability.
fn with_little_locked_memory(tier: &str, without: Option<libc::c_ulong>) -> Result<Finished> {
    let mut command = socktrace(&["record", "--no-save", "--tier", tier, "-d", "100ms"])?;
    let prepare = move || {
        without.map(give_up).transpose()?;
        setrlimit(Resource::RLIMIT_MEMLOCK, 0, 0)
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(move || Ok(prepare()?)) };
    Running::start(&mut command)?.finish()
}

/// [`cover_tracefs`], and no right to mount it again: socktrace does that where it may.
fn hide_tracefs() -> nix::Result<()> {
    cover_tracefs()?;
    give_up(CAP_SYS_ADMIN)
}

/// Executed by root, a program has what is in the bounding set.
fn give_up(capability: libc::c_ulong) -> nix::Result<()> {
    // SAFETY: a system call with plain numbers.
    Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }).map(|_| ())
}

/// A mount namespace of its own in which both places of tracefs are empty.
fn cover_tracefs() -> nix::Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    for place in ["/sys/kernel/tracing", "/sys/kernel/debug"] {
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::MS_RDONLY, none)?;
    }
    Ok(())
}
