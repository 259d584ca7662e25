//! The command line without eBPF: bad input, missing rights, help, a closed pipe.
//!
//! Needs `SOCKTRACE_BIN`, and root only to become somebody else.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socktrace_tests::harness::process::{Finished, Running};
use socktrace_tests::harness::run::{run, socktrace};

/// An ordinary user without any right.
const NOBODY: u32 = 65534;

/// Bad input: exit code 2, and a message with every one of `words`.
fn refused(args: &[&str], words: &[&str]) -> Result<()> {
    let finished = run(args)?;
    ensure!(finished.code() == Some(2), "{args:?} is no usage error: {}", finished.told());
    for word in words {
        ensure!(finished.err().contains(word), "{args:?}: no `{word}`: {}", finished.told());
    }
    Ok(())
}

#[test]
fn an_unknown_signal_is_named_with_the_known_ones() -> Result<()> {
    let known = ["accpt", "accept", "accept_error", "connect_failure", "backlog_drop", "listen"];
    refused(&["record", "--tier", "accpt=fentry"], &known)
}

#[test]
fn an_unknown_tier_is_named_with_the_known_ones() -> Result<()> {
    refused(
        &["record", "--tier", "uprobe"],
        &["uprobe", "auto", "fentry", "kprobe", "tracepoint"],
    )?;
    refused(&["record", "--tier", "accept=uprobe"], &["uprobe", "fentry", "kprobe", "tracepoint"])
}

#[test]
fn an_unknown_errno_is_named() -> Result<()> {
    refused(&["record", "-e", "EACESS"], &["EACESS"])
}

#[test]
fn a_bad_duration_is_named_with_examples_of_good_ones() -> Result<()> {
    for bad in ["10 parsecs", "-1s", "", "abc"] {
        let arg = format!("--duration={bad}");
        refused(&["record", &arg], &["10ms", "30s"])?;
    }
    Ok(())
}

#[test]
fn an_unknown_transport_is_named_with_the_known_ones() -> Result<()> {
    refused(&["record", "--transport", "pigeon"], &["pigeon", "auto", "perf", "ring"])
}

#[test]
fn an_unknown_demo_is_named_with_the_known_ones() -> Result<()> {
    refused(&["demo", "eaccess"], &["eaccess", "stale-socket", "stall", "backlog", "fd-limit"])
}

#[test]
fn an_unknown_command_or_flag_is_a_usage_error() -> Result<()> {
    refused(&["recrod"], &["recrod"])?;
    refused(&["record", "--no-such-flag"], &["--no-such-flag"])
}

#[test]
fn every_command_explains_itself() -> Result<()> {
    for command in [&[][..], &["record"], &["watch"], &["check"], &["demo"]] {
        let args = [command, &["--help"]].concat();
        let finished = run(&args)?;
        ensure!(finished.code() == Some(0), "{args:?}: {}", finished.told());
        ensure!(finished.out().contains("Usage"), "{args:?}: {}", finished.told());
        ensure!(finished.stderr.is_empty(), "{args:?} writes to stderr: {}", finished.told());
    }
    Ok(())
}

#[test]
fn without_rights_tracing_is_refused_and_says_what_is_missing() -> Result<()> {
    for args in [&["record", "-d", "1s"][..], &["watch"], &["check"], &["demo", "eacces"]] {
        let finished = as_nobody(args)?;
        ensure!(finished.code() == Some(3), "{args:?}: {}", finished.told());
        let text = finished.out() + &finished.err();
        let told = text.contains("CAP_BPF") || text.contains("root");
        ensure!(told, "{args:?} does not say what is missing: {}", finished.told());
    }
    Ok(())
}

#[test]
fn a_closed_stdout_ends_quietly() -> Result<()> {
    for args in [&["check"][..], &["--help"], &["record", "--help"]] {
        let finished = into_closed_pipe(args)?;
        let text = finished.err();
        for word in ["panicked", "Broken pipe", "os error"] {
            ensure!(!text.contains(word), "{args:?} complains: {}", finished.told());
        }
        let quiet = finished.code() == Some(0) || finished.signal() == Some(libc::SIGPIPE);
        ensure!(quiet, "{args:?}: {}", finished.told());
    }
    Ok(())
}

/// Runs a copy that nobody may execute wherever the original lies, as nobody.
fn as_nobody(args: &[&str]) -> Result<Finished> {
    let dir = tempfile::Builder::new().prefix("socktrace-").tempdir_in("/tmp")?;
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
    let copy = dir.path().join("socktrace");
    let original = socktrace(&[])?.get_program().to_owned();
    std::fs::copy(&original, &copy).with_context(|| format!("copying {}", original.display()))?;
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755))?;
    let mut command = Command::new(&copy);
    command.args(args).current_dir("/").uid(NOBODY).gid(NOBODY);
    start_fresh(&mut command)?.finish()
}

/// Starts a program that was just written: a child that another test forks meanwhile may still
/// hold it open for writing, until its own exec.
fn start_fresh(command: &mut Command) -> Result<Running> {
    let mut started = Running::start(command);
    for _ in 0..200 {
        let busy = |error: &std::io::Error| error.kind() == ErrorKind::ExecutableFileBusy;
        match &started {
            Err(error) if error.downcast_ref().is_some_and(busy) => {}
            _ => break,
        }
        std::thread::sleep(Duration::from_millis(10));
        started = Running::start(command);
    }
    started
}

/// Runs with a stdout that has no reader.
fn into_closed_pipe(args: &[&str]) -> Result<Finished> {
    let (reader, writer) = std::io::pipe().context("a pipe")?;
    drop(reader);
    let mut command = socktrace(args)?;
    let child = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .context("starting socktrace")?;
    // The command holds the other copy of the pipe's end.
    drop(command);
    let output = child.wait_with_output().context("waiting")?;
    Ok(Finished { status: output.status, stdout: output.stdout, stderr: output.stderr })
}
