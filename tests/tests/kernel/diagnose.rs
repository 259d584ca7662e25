//! `diagnose TARGET`: exit codes, steps and findings, against targets that the test made itself.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde_json::Value;
use socktrace_tests::harness::process::Running;
use socktrace_tests::harness::run::{run, scenario, socktrace};
use socktrace_tests::scenario::gate::Gate;
use socktrace_tests::scenario::held::Held;

/// As long as a checkup may take.
const LIMIT: Duration = Duration::from_secs(2);

/// The checkup of a target as JSON, with its exit code.
fn diagnose(args: &[&str]) -> Result<(Value, Option<i32>)> {
    let begin = Instant::now();
    let finished = run(&[&["diagnose", "--json"], args].concat())?;
    let took = begin.elapsed();
    let value = serde_json::from_slice(&finished.stdout).with_context(|| finished.told())?;
    ensure!(took < LIMIT, "it took {took:?}");
    Ok((value, finished.code()))
}

fn rules(checkup: &Value) -> Vec<(&str, &str)> {
    let checks = checkup["checks"].as_array().into_iter().flatten();
    let findings = checks.flat_map(|check| check["findings"].as_array().into_iter().flatten());
    findings
        .filter(|finding| finding["severity"] != "info")
        .map(|it| (it["rule"].as_str().unwrap_or(""), it["certainty"].as_str().unwrap_or("")))
        .collect()
}

fn step<'a>(checkup: &'a Value, name: &str) -> Result<&'a Value> {
    let mut checks = checkup["checks"].as_array().into_iter().flatten();
    checks.find(|check| check["name"] == name).with_context(|| format!("no step {name}: {checkup}"))
}

fn path_of(path: &Path) -> Result<&str> {
    path.to_str().context("a path of a temporary directory")
}

/// Open to all, as `/run` is.
fn open_dir() -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    Ok(dir)
}

#[test]
fn a_healthy_unix_listener_is_said_to_be_with_its_facts() -> Result<()> {
    let dir = open_dir()?;
    let path = dir.path().join("app.sock");
    let _listener = UnixListener::bind(&path)?;
    let (checkup, code) = diagnose(&[path_of(&path)?])?;
    ensure!(code == Some(0) && checkup["healthy"] == true, "{code:?}: {checkup}");
    let last = step(&checkup, "path")?["facts"].as_array().and_then(|facts| facts.last()).cloned();
    let mode = format!("{:04o}", fs::metadata(&path)?.mode() & 0o7777);
    let last = last.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
    ensure!(last.contains(&format!("socket {mode}")), "no type and mode in {last:?}");
    let owner = step(&checkup, "owners")?.to_string();
    ensure!(owner.contains(&format!("(pid {})", std::process::id())), "not this process: {owner}");
    Ok(())
}

#[test]
fn a_user_who_may_not_write_is_told_who_may_and_what_to_do() -> Result<()> {
    let dir = open_dir()?;
    let path = dir.path().join("app.sock");
    let _listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let (checkup, code) = diagnose(&[path_of(&path)?, "--as-user", "65534"])?;
    ensure!(code == Some(1), "{code:?}");
    ensure!(rules(&checkup) == [("unix-socket-mode", "measured")], "{checkup}");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700))?;
    let (checkup, _) = diagnose(&[path_of(&path)?, "--as-user", "65534"])?;
    let found: Vec<&str> = rules(&checkup).into_iter().map(|(rule, _)| rule).collect();
    ensure!(found == ["unix-parent-no-search", "unix-socket-mode"], "{found:?}");
    Ok(())
}

#[test]
fn broken_unix_targets_are_each_found_for_what_they_are() -> Result<()> {
    let dir = open_dir()?;
    let at = |name: &str| dir.path().join(name);
    drop(UnixListener::bind(at("stale"))?);
    fs::write(at("file"), "")?;
    nix::unistd::mkfifo(&at("fifo"), Mode::from_bits_truncate(0o666))?;
    std::os::unix::fs::symlink("loop", at("loop"))?;
    let _receiver = UnixDatagram::bind(at("datagram"))?;
    let cases = [
        ("stale", "unix-stale-socket"),
        ("file", "unix-not-a-socket"),
        ("fifo", "unix-not-a-socket"),
        ("loop", "unix-symlink-loop"),
        ("fifo/app.sock", "unix-not-a-directory"),
        ("missing", "unix-no-such-path"),
        ("nowhere/app.sock", "unix-no-such-path"),
    ];
    for (name, rule) in cases {
        let (checkup, code) = diagnose(&[path_of(&at(name))?])?;
        let found = rules(&checkup);
        ensure!(
            code == Some(1) && found.iter().any(|it| it.0 == rule),
            "{name}: {code:?} {found:?}"
        );
    }
    let (_, code) = diagnose(&["@socktrace-test-no-such-name"])?;
    ensure!(code == Some(1), "an abstract name that nobody has: {code:?}");
    Ok(())
}

#[test]
fn tcp_targets_are_healthy_or_say_who_listens_instead() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.2:0")?;
    let port = listener.local_addr()?.port();
    let (checkup, code) = diagnose(&[&format!("127.0.0.2:{port}")])?;
    ensure!(code == Some(0), "{checkup}");
    let (checkup, code) = diagnose(&[&format!(":{port}")])?;
    let found = rules(&checkup);
    ensure!(code == Some(1) && found[0].0 == "tcp-listens-on-other-address", "{found:?}");
    drop(listener);
    let (checkup, code) = diagnose(&[&format!("127.0.0.2:{port}")])?;
    let found = rules(&checkup);
    ensure!(code == Some(1) && found[0].0 == "tcp-nobody-listens", "{found:?}");
    Ok(())
}

#[test]
fn a_process_is_imagined_as_the_client_with_its_own_rights() -> Result<()> {
    let dir = open_dir()?;
    let path = dir.path().join("app.sock");
    let _listener = UnixListener::bind(&path)?;
    let nobodys = tempfile::tempdir()?;
    std::os::unix::fs::chown(nobodys.path(), Some(65534), Some(65534))?;
    let mut command = std::process::Command::new(scenario()?);
    command.arg("--gate").arg(nobodys.path()).arg("pulse").env("TMPDIR", nobodys.path());
    let client = Running::start(command.uid(65534).gid(65534))?;
    Gate::at(nobodys.path()).wait_ready()?;
    let ask = |mode| {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        diagnose(&[path_of(&path)?, "--as-pid", &client.pid().to_string()])
    };
    let (checkup, code) = ask(0o600)?;
    ensure!(code == Some(1), "{code:?}: {checkup}");
    ensure!(rules(&checkup) == [("unix-socket-mode", "measured")], "{checkup}");
    let (checkup, code) = ask(0o666)?;
    ensure!(code == Some(0) && checkup["healthy"] == true, "{code:?}: {checkup}");
    Ok(())
}

/// Listeners of all kinds, one of them full.
fn holding(dir: &Path) -> Result<(Running, Vec<Held>)> {
    let mut command = std::process::Command::new(scenario()?);
    let running = Running::start(command.arg("--gate").arg(dir).args(["hold", "here"]))?;
    let ended = || running.out_so_far().ends_with('\n');
    ensure!(
        socktrace_tests::harness::process::wait_for(Duration::from_secs(20), ended),
        "no listeners: {}",
        running.err_so_far()
    );
    let held = serde_json::from_str(&running.out_so_far())?;
    Ok((running, held))
}

#[test]
fn a_process_whose_listener_is_full_is_said_to_have_one() -> Result<()> {
    let dir = open_dir()?;
    let (running, _) = holding(dir.path())?;
    let (checkup, code) = diagnose(&[&running.pid().to_string()])?;
    let found: Vec<&str> = rules(&checkup).into_iter().map(|(rule, _)| rule).collect();
    ensure!(code == Some(1) && found.contains(&"listener-queue-full"), "{found:?}: {checkup}");
    let is_socket = |link: &Path| link.to_string_lossy().starts_with("socket:");
    let links = fs::read_dir(format!("/proc/{}/fd", running.pid()))?.flatten();
    let sockets = links.filter_map(|it| fs::read_link(it.path()).ok()).filter(|it| is_socket(it));
    let expected = format!("{} × socket", sockets.count());
    let kinds = step(&checkup, "descriptors")?["facts"].to_string();
    ensure!(kinds.contains(&expected), "no {expected} in {kinds}");
    Ok(())
}

#[test]
fn a_stopped_server_is_held_up() -> Result<()> {
    let dir = open_dir()?;
    let (running, held) = holding(dir.path())?;
    let pid = Pid::from_raw(i32::try_from(running.pid())?);
    // One that no other process could accept from.
    let own = held.iter().find(|it| it.pids == [running.pid()]);
    let own = own.with_context(|| format!("no listener of one process: {held:?}"))?;
    let local = own.local.as_str();
    kill(pid, Signal::SIGSTOP)?;
    let result = diagnose(&[local]);
    kill(pid, Signal::SIGCONT)?;
    let (checkup, code) = result?;
    let found: Vec<&str> = rules(&checkup).into_iter().map(|(rule, _)| rule).collect();
    ensure!(code == Some(1) && found.contains(&"owner-held-up"), "{found:?}: {checkup}");
    Ok(())
}

#[test]
fn what_is_no_target_ends_with_2_and_the_forms_that_are() -> Result<()> {
    for target in ["nonsense", "10.0.0.1", "", "4294967295"] {
        let finished = run(&["diagnose", target])?;
        ensure!(finished.code() == Some(2), "{target:?}: {}", finished.told());
        ensure!(!finished.err().is_empty(), "{target:?}: nothing is said");
    }
    Ok(())
}

#[test]
fn without_root_it_sees_less_and_says_what() -> Result<()> {
    let dir = open_dir()?;
    let path = dir.path().join("app.sock");
    let _listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    let mut command = socktrace(&["diagnose", "--json", path_of(&path)?])?;
    let finished = Running::start(command.uid(65534).gid(65534))?.finish()?;
    let checkup: Value =
        serde_json::from_slice(&finished.stdout).with_context(|| finished.told())?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    let unseen = step(&checkup, "sockets")?["unseen"].as_array().map_or(0, Vec::len);
    ensure!(unseen > 0, "nothing is said to be unseen: {checkup}");
    Ok(())
}

/// What is traced meanwhile is part of the answer.
#[test]
fn a_traced_target_shows_what_happened_to_it() -> Result<()> {
    let dir = open_dir()?;
    let path = dir.path().join("app.sock");
    drop(UnixListener::bind(&path)?);
    let mut command = socktrace(&["diagnose", "--json", "--trace", "3s", path_of(&path)?])?;
    let running = Running::start(&mut command)?;
    let begin = Instant::now();
    // It attaches at some time in these seconds.
    while begin.elapsed() < Duration::from_secs(20) && !running.out_so_far().ends_with("}\n") {
        let _ = std::os::unix::net::UnixStream::connect(&path);
        std::thread::sleep(Duration::from_millis(100));
    }
    let finished = running.finish()?;
    let checkup: Value =
        serde_json::from_slice(&finished.stdout).with_context(|| finished.told())?;
    let traced = &checkup["trace"]["findings"];
    let told = traced.as_array().into_iter().flatten().any(|it| it["rule"] == "unix-stale-socket");
    ensure!(told && finished.code() == Some(1), "{}", finished.told());
    Ok(())
}
