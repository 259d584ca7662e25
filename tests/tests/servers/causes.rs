//! Real servers that clients cannot reach, and why: what is said first of each failure.

use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socktrace_tests::harness::process::Running;
use socktrace_tests::harness::report::{Finding, Report};
use socktrace_tests::harness::servers::nginx::{Nginx, Sharing};
use socktrace_tests::harness::servers::php_fpm::PhpFpm;
use socktrace_tests::harness::servers::postgres::Postgres;
use socktrace_tests::harness::servers::redis::Redis;
use socktrace_tests::harness::servers::rsyslog::Rsyslog;
use socktrace_tests::harness::servers::socket_activate::SocketActivate;
use socktrace_tests::harness::servers::{NOBODY, Place, program};

use crate::recorded::{alone, begin, end};

/// An ordinary user who owns nothing.
const STRANGER: u32 = 61_002;

/// Until whoever looks into a failure has looked.
fn settle() {
    std::thread::sleep(Duration::from_millis(800));
}

/// The finding that explains the failures with this target.
fn explanation<'a>(report: &'a Report, target: &str) -> Result<&'a Finding> {
    let mut failures = report.processes.iter().flat_map(|it| &it.connect_failures);
    let failed = failures.rfind(|it| it.target.as_deref() == Some(target));
    let rule = failed.with_context(|| format!("no failure with {target}"))?.rule.as_deref();
    let about = |it: &&Finding| it.subject == target && Some(it.rule.as_str()) == rule;
    report.findings.iter().find(about).with_context(|| format!("{target}: {rule:?}"))
}

fn is_said(report: &Report, target: &str, rule: &str, words: &[&str]) -> Result<()> {
    let said = explanation(report, target)?;
    let text = format!("{}; {}. Next: {}", said.fact, said.consequence, said.fix);
    ensure!(said.rule == rule, "{target}: {} {text}", said.rule);
    for word in words {
        ensure!(text.contains(word), "{target}: no `{word}` in: {text}");
    }
    Ok(())
}

fn redis_cli(socket: &Place) -> Result<()> {
    let mut command = Command::new(program("redis-cli")?);
    command.uid(NOBODY).gid(NOBODY).args(["-s", &socket.to_string(), "PING"]);
    let ended = Running::start(&mut command)?.finish()?;
    ensure!(ended.err().contains("Permission denied"), "redis-cli may: {}", ended.told());
    Ok(())
}

#[test]
fn the_mode_of_the_socket_of_redis_is_what_keeps_a_client_out() -> Result<()> {
    alone()?;
    let redis = Redis::start()?;
    let recording = begin(&["-a"])?;
    redis_cli(&redis.unix)?;
    settle();
    let report = end(recording)?;
    is_said(&report, &redis.unix.to_string(), "unix-socket-mode", &["mode 0600", "root (uid 0)"])
}

#[test]
fn the_mode_of_the_socket_of_postgres_is_what_keeps_a_client_out() -> Result<()> {
    alone()?;
    let postgres = Postgres::start()?;
    let recording = begin(&["-a"])?;
    postgres.refuse(STRANGER)?;
    settle();
    let report = end(recording)?;
    is_said(&report, &postgres.unix.to_string(), "unix-socket-mode", &["mode 0700", "uid 61002"])
}

#[test]
fn an_application_that_nginx_cannot_reach_is_missing_or_has_left_its_socket_behind() -> Result<()> {
    alone()?;
    let nginx = Nginx::start(Sharing::One)?;
    let path = nginx.upstream.display().to_string();
    let recording = begin(&["-a"])?;
    nginx.ask_application()?;
    settle();
    is_said(&end(recording)?, &path, "unix-no-such-path", &["app.sock"])?;
    drop(UnixListener::bind(&nginx.upstream).context("bind")?);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&nginx.upstream, open).context("chmod")?;
    let recording = begin(&["-a"])?;
    nginx.ask_application()?;
    settle();
    is_said(&end(recording)?, &path, "unix-stale-socket", &["left behind"])
}

#[test]
fn the_mode_of_the_socket_of_php_fpm_is_what_nginx_meets() -> Result<()> {
    alone()?;
    let nginx = Nginx::start(Sharing::One)?;
    let php = PhpFpm::start(&nginx.upstream, "0660")?;
    let recording = begin(&["-a"])?;
    nginx.ask_application()?;
    settle();
    let report = end(recording)?;
    is_said(&report, &php.unix.to_string(), "unix-socket-mode", &["mode 0660", "root (uid 0)"])
}

#[test]
fn a_line_for_rsyslog_that_was_killed_meets_the_file_it_left_behind() -> Result<()> {
    alone()?;
    let mut rsyslog = Rsyslog::start()?;
    rsyslog.kill()?;
    let recording = begin(&["-a"])?;
    rsyslog.refuse(Command::new(program("logger")?))?;
    settle();
    let report = end(recording)?;
    is_said(&report, &rsyslog.unix.to_string(), "unix-stale-socket", &["left behind"])
}

/// As in a container that was not given the host's `/dev/log`.
#[test]
fn a_line_from_a_container_without_the_socket_of_rsyslog_names_who_has_it() -> Result<()> {
    alone()?;
    let rsyslog = Rsyslog::start()?;
    let directory = Path::new(&rsyslog.unix.to_string()).parent().map(Path::to_owned);
    let directory = directory.context("a directory")?;
    let recording = begin(&["-a"])?;
    let mut contained = Command::new(program("unshare")?);
    contained.args([
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs none \"$0\"; \"$@\"; it=$?; sleep 2; exit $it",
    ]);
    contained.arg(&directory).arg(program("logger")?);
    rsyslog.refuse(contained)?;
    let report = end(recording)?;
    let words = ["rsyslogd (pid", "mnt:["];
    is_said(&report, &rsyslog.unix.to_string(), "unix-other-mount-namespace", &words)
}

#[test]
fn the_socket_of_a_server_that_is_to_be_activated_keeps_a_client_out_by_its_mode() -> Result<()> {
    alone()?;
    let activate = SocketActivate::start()?;
    let recording = begin(&["-a"])?;
    redis_cli(&activate.unix)?;
    settle();
    let report = end(recording)?;
    is_said(&report, &activate.unix.to_string(), "unix-socket-mode", &["root (uid 0)"])
}
