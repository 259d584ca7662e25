//! What CMD is run with: as it would be without socktrace, or as another user.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::unistd::User;
use socktrace_tests::harness::compare::{Strangers, failures};
use socktrace_tests::harness::process::{Finished, Running};
use socktrace_tests::harness::run::{scenario, socktrace, start_record};
use socktrace_tests::scenario::command::Inherited;

use crate::matrix::{tell, unless};

/// Fields of the status about capabilities.
const CAPABILITIES: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

fn seen(finished: &Finished) -> Result<Inherited> {
    serde_json::from_slice(&finished.stdout).with_context(|| finished.told())
}

/// What the scenario says where it is run with these flags, and what where it is run by itself; both by
/// a caller who has prepared this.
fn with_and_without(
    flags: &[&str],
    prepare: fn() -> nix::Result<()>,
) -> Result<(Inherited, Inherited)> {
    let prepared = |mut command: Command| {
        // SAFETY: system calls only, between fork and exec.
        unsafe { command.pre_exec(move || Ok(prepare()?)) };
        seen(&Running::start(&mut command)?.finish()?)
    };
    let mut direct = Command::new(scenario()?);
    direct.arg("inherits");
    let mut traced = socktrace(&["record", "--no-save"])?;
    traced.args(flags).arg("--").arg(scenario()?).arg("inherits");
    Ok((prepared(traced)?, prepared(direct)?))
}

fn lock_at_most(soft: u64, hard: u64) -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)
}

fn same(traced: &Inherited, direct: &Inherited, fields: &[&str]) -> Result<()> {
    let differ = |field: &&&str| traced.status.get(**field) != direct.status.get(**field);
    let told = fields.iter().filter(differ).map(|field| {
        format!(
            "{field}: {:?}, run directly {:?}",
            traced.status.get(*field),
            direct.status.get(*field)
        )
    });
    tell(&told.collect::<Vec<_>>())
}

#[test]
fn a_command_of_root_has_every_capability_that_it_has_without_socktrace() -> Result<()> {
    let (traced, direct) = with_and_without(&[], || Ok(()))?;
    ensure!(direct.status["CapEff"] != "0000000000000000", "this test is not run by root");
    same(&traced, &direct, &CAPABILITIES)?;
    same(&traced, &direct, &["Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp"])
}

#[test]
fn signals_are_blocked_and_ignored_as_socktrace_found_them() -> Result<()> {
    const FIELDS: [&str; 3] = ["SigBlk", "SigIgn", "SigCgt"];
    let (traced, direct) = with_and_without(&[], || Ok(()))?;
    same(&traced, &direct, &FIELDS)?;
    ensure!(!direct.ignores_sigpipe && !traced.ignores_sigpipe, "SIGPIPE is ignored");
    let (traced, direct) = with_and_without(&[], || {
        for ignored in [Signal::SIGPIPE, Signal::SIGHUP, Signal::SIGINT, Signal::SIGTTOU] {
            // SAFETY: ignored; no handler runs.
            unsafe { signal(ignored, SigHandler::SigIgn) }?;
        }
        let blocked = SigSet::from_iter([Signal::SIGUSR1, Signal::SIGTERM]);
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None)
    })?;
    let ignored = u64::from_str_radix(&direct.status["SigIgn"], 16).context("a mask")?;
    ensure!(ignored & 0b11 == 0b11, "the caller ignores nothing: {ignored:x}");
    ensure!(direct.ignores_sigpipe && traced.ignores_sigpipe, "SIGPIPE is not ignored");
    same(&traced, &direct, &FIELDS)
}

#[test]
fn the_limit_on_locked_memory_is_the_one_that_socktrace_found() -> Result<()> {
    // Before 5.11, nothing can be attached below it: socktrace lifts it for itself.
    let limits = (1 << 10, 64 << 10);
    let (traced, direct) = with_and_without(&[], || lock_at_most(1 << 10, 64 << 10))?;
    ensure!(direct.locked_memory == limits, "not even directly: {:?}", direct.locked_memory);
    unless(traced.locked_memory == limits, || format!("{:?}", traced.locked_memory))
}

#[test]
fn a_command_inherits_no_descriptor_but_the_first_three() -> Result<()> {
    let (traced, direct) = with_and_without(&[], || {
        for descriptor in [9, 100] {
            // SAFETY: no memory is touched; 2 is open.
            nix::errno::Errno::result(unsafe { libc::dup2(2, descriptor) })?;
        }
        Ok(())
    })?;
    let handed_on = [9, 100].iter().all(|it| direct.descriptors.contains(it));
    ensure!(handed_on, "not even directly: {:?}", direct.descriptors);
    unless(traced.descriptors == [0, 1, 2], || format!("{:?}", traced.descriptors))
}

/// `record FLAGS -- scenario inherits`, as sudo would run it for this user.
fn under_sudo(sudo: Option<u32>, flags: &[&str]) -> Result<Finished> {
    let mut command = socktrace(&["record", "--no-save"])?;
    command.args(flags).arg("--").arg(scenario()?).arg("inherits");
    if let Some(user) = sudo {
        let user = user.to_string();
        command.env("SUDO_UID", &user).env("SUDO_GID", &user);
    }
    Running::start(command.current_dir("/"))?.finish()
}

fn nobody() -> Result<User> {
    User::from_name("nobody")?.context("no user nobody")
}

/// Whether it runs as nobody, wholly.
fn is_nobody(of: &Inherited) -> Result<()> {
    let user = nobody()?;
    let four = |id: u32| [id; 4].map(|id| id.to_string()).join("\t");
    ensure!(of.status["Uid"] == four(user.uid.as_raw()), "{of:?}");
    ensure!(of.status["Gid"] == four(user.gid.as_raw()), "{of:?}");
    ensure!(of.status["Groups"] == user.gid.as_raw().to_string(), "{of:?}");
    for field in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        ensure!(of.status[field] == "0000000000000000", "{field}: {of:?}");
    }
    let home = user.dir.to_str().context("a path")?;
    for (name, value) in [("HOME", home), ("USER", "nobody"), ("LOGNAME", "nobody")] {
        ensure!(of.environment.get(name).is_some_and(|it| it == value), "{name}: {of:?}");
    }
    Ok(())
}

#[test]
fn a_command_runs_as_the_user_who_called_sudo_with_their_home_and_groups() -> Result<()> {
    let uid = nobody()?.uid.as_raw();
    is_nobody(&seen(&under_sudo(Some(uid), &[])?)?)
}

#[test]
fn a_command_runs_as_the_user_that_is_asked_for_by_name_or_number() -> Result<()> {
    let uid = nobody()?.uid.to_string();
    for user in ["nobody", &uid] {
        is_nobody(&seen(&under_sudo(None, &["--user", user])?)?)?;
        is_nobody(&seen(&under_sudo(Some(0), &["--user", user])?)?)?;
    }
    let root = seen(&under_sudo(Some(65534), &["--user", "root"])?)?;
    ensure!(
        root.status["Uid"].starts_with("0\t") && root.environment["USER"] == "root",
        "{root:?}"
    );
    Ok(())
}

#[test]
fn a_command_keeps_roots_privileges_where_that_is_asked_for() -> Result<()> {
    let kept = seen(&under_sudo(Some(65534), &["--keep-privileges"])?)?;
    let (direct, _) = with_and_without(&[], || Ok(()))?;
    same(&kept, &direct, &CAPABILITIES)?;
    same(&kept, &direct, &["Uid", "Gid", "Groups"])
}

#[test]
fn an_unknown_user_is_a_usage_error_before_anything_runs() -> Result<()> {
    for flags in [&["--user", "no-such-user"][..], &["--user", "4294967290"]] {
        let finished = under_sudo(None, flags)?;
        let good = finished.code() == Some(2) && finished.stdout.is_empty();
        unless(good && finished.err().contains("no such user"), || finished.told())?;
    }
    let both = under_sudo(None, &["--user", "root", "--keep-privileges"])?;
    unless(both.code() == Some(2), || both.told())
}

/// A copy of the scenario that everybody may run, setuid to root.
fn setuid_scenario(dir: &std::path::Path) -> Result<std::path::PathBuf> {
    std::fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    let copy = dir.join("setuid-scenario");
    std::fs::copy(scenario()?, &copy).context("a copy of the scenario")?;
    std::fs::set_permissions(&copy, Permissions::from_mode(0o4755))?;
    Ok(copy)
}

#[test]
fn a_setuid_command_gets_its_rights_is_told_of_and_recorded_as_its_new_user() -> Result<()> {
    let dir = tempfile::Builder::new().prefix("socktrace-").tempdir_in("/tmp")?;
    let program = setuid_scenario(dir.path())?;
    let mut command = socktrace(&["record", "--no-save", "--user", "nobody", "--"])?;
    let finished = Running::start(command.arg(&program).arg("inherits"))?.finish()?;
    let became = seen(&finished)?;
    ensure!(became.status["Uid"] == "65534\t0\t0\t0", "{became:?}");
    let lines = finished.err().lines().filter(|line| line.contains("is setuid")).count();
    unless(lines == 1, || finished.told())?;

    let plain = start_record(&[], &["inherits"])?.running.finish()?;
    unless(!plain.err().contains("setuid"), || plain.told())
}

#[test]
fn descendants_that_become_other_users_are_recorded() -> Result<()> {
    let run = start_record(&["--keep-privileges"], &["unix_eacces_dir"])?.finish()?;
    let others = run.seen.failures.iter().filter(|failure| failure.uid != 0).count();
    ensure!(others > 0, "nobody became another user");
    tell(&failures::problems(&run.seen, &run.report, Strangers::Forbidden))
}
