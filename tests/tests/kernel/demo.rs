//! `demo`: a harmless incident, and a true report of it.
//!
//! The words are those of the one rule that is to explain it. Its certainty is not asked for: whoever else
//! makes a file in the temporary directory meanwhile changes that directory, and the finding is inferred.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use socktrace_tests::harness::kernels::this_kernel;
use socktrace_tests::harness::process::{Finished, Running, wait_for};
use socktrace_tests::harness::report::Report;
use socktrace_tests::harness::run::{run, socktrace};
use socktrace_tests::scenario::causes::files::tmpfs_keeps_flags;

use crate::matrix::surety_of_no_accept;

/// Longer than a tracer takes to attach on a slow machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs a demo; what it says must contain all of `words`.
fn demo(name: &str, words: &[&str]) -> Result<()> {
    let finished = run(&["demo", name])?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    let text = finished.out() + &finished.err();
    for word in words {
        ensure!(text.contains(word), "demo {name} does not say `{word}`: {}", finished.told());
    }
    Ok(())
}

/// Runs a demo to its end; its report as JSON, where it was not refused.
fn report(name: &str) -> Result<(Finished, Option<Report>)> {
    let dir = tempfile::tempdir().context("a directory for the report")?;
    let file = dir.path().join("report.json");
    let path = file.to_str().context("a path that is text")?;
    let finished = run(&["demo", name, "--report", path])?;
    let read = std::fs::read(&file).ok();
    let parsed = read.map(|bytes| serde_json::from_slice(&bytes)).transpose();
    Ok((finished, parsed.context("the report")?))
}

/// Runs a demo; its first finding is of `rule`, and what it says contains all of `words`.
fn first_is(name: &str, rule: &str, words: &[&str]) -> Result<Report> {
    let (finished, report) = report(name)?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    let report = report.with_context(|| finished.told())?;
    let first = report.findings.first();
    ensure!(first.is_some_and(|it| it.rule == rule), "not {rule}: {:?}", report.findings);
    let text = finished.out();
    for word in words {
        ensure!(text.contains(word), "demo {name} does not say `{word}`: {}", finished.told());
    }
    Ok(report)
}

/// A host that cannot have the incident is told so, and nothing is recorded.
fn refused(name: &str, why: &str) -> Result<()> {
    let (finished, report) = report(name)?;
    ensure!(finished.code() == Some(3), "{}", finished.told());
    let text = finished.err();
    ensure!(text.contains("this demo cannot be shown here: ") && text.contains(why), "{text}");
    ensure!(report.is_none() && finished.out().is_empty(), "{}", finished.told());
    Ok(())
}

#[test]
fn demo_eacces_names_mode_and_user() -> Result<()> {
    let mode = ["EACCES", "65534", "write permission on", "mode 0600"];
    demo("eacces", &mode)
}

#[test]
fn demo_no_search_names_the_closed_directory() -> Result<()> {
    demo("no-search", &["EACCES", "search permission on the directory", "mode 0700"])
}

#[test]
fn demo_acl_names_the_entry() -> Result<()> {
    demo("acl", &["EACCES", "the ACL entry of", "uid 65534"])
}

#[test]
fn demo_missing_directory_names_it() -> Result<()> {
    demo("missing-directory", &["ENOENT", "there is no directory run in"])
}

#[test]
fn demo_not_a_socket_says_what_lies_there() -> Result<()> {
    demo("not-a-socket", &["ECONNREFUSED", "it is a regular file and no socket"])
}

#[test]
fn demo_not_a_directory_says_what_lies_there() -> Result<()> {
    demo("not-a-directory", &["ENOTDIR", "is a regular file and no directory"])
}

#[test]
fn demo_stale_socket_says_that_nothing_is_bound() -> Result<()> {
    demo(
        "stale-socket",
        &["ECONNREFUSED", "is bound to the file: it was left behind", "(inferred)"],
    )
}

#[test]
fn demo_removed_socket_names_who_listens_still() -> Result<()> {
    demo("removed-socket", &["ENOENT", "listens under that name, but the file was removed"])
}

#[test]
fn demo_symlink_loop_names_the_links() -> Result<()> {
    demo("symlink-loop", &["ELOOP", "one.sock"])
}

#[test]
fn demo_replaced_socket_names_who_listens_on_another_file() -> Result<()> {
    demo("replaced-socket", &["ECONNREFUSED", "listens under that name, but on another file"])
}

#[test]
fn demo_mount_namespace_names_who_listens_there() -> Result<()> {
    demo("mount-namespace", &["ENOENT", "listens on that path in another mount namespace (mnt:["])
}

#[test]
fn demo_wrong_type_names_both_types() -> Result<()> {
    let types = ["EPROTOTYPE", "is a datagram socket", "the client's is a stream socket"];
    demo("wrong-type", &types)
}

#[test]
fn demo_not_listening_names_who_has_not_called_listen() -> Result<()> {
    demo("not-listening", &["ECONNREFUSED", "has not called listen()"])
}

#[test]
fn demo_shut_down_names_who_has_called_shutdown() -> Result<()> {
    demo("shut-down", &["ECONNREFUSED", "has called shutdown() on its listener"])
}

#[test]
fn demo_peer_taken_says_that_it_has_a_peer() -> Result<()> {
    demo("peer-taken", &["EPERM", "is connected to another socket"])
}

#[test]
fn demo_unix_backlog_says_that_it_was_full() -> Result<()> {
    demo("unix-backlog", &["EAGAIN", "was full (2 connections waiting now, backlog 1)"])
}

#[test]
fn demo_stopped_unix_server_says_who_is_stopped_and_for_how_long_the_queue_has_stood() -> Result<()>
{
    demo(
        "stopped-unix-server",
        &[
            "EAGAIN",
            "was full (2 connections waiting now, backlog 1); the oldest connection",
            "Also: ",
            "is stopped (SIGSTOP)",
        ],
    )
}

#[test]
fn demo_blocked_connect_names_who_slept() -> Result<()> {
    demo("blocked-connect", &["slept in connect()", "BLOCKED CONNECTS"])
}

#[test]
fn demo_abstract_namespace_names_both_namespaces() -> Result<()> {
    let both =
        ["ECONNREFUSED", "has that name in network namespace net:[", "the client is in net:["];
    demo("abstract-namespace", &both)
}

#[test]
fn demo_abstract_missing_says_that_no_socket_has_the_name() -> Result<()> {
    demo("abstract-missing", &["ECONNREFUSED", "no socket has that abstract name"])
}

#[test]
fn demo_tcp_refused_says_that_nobody_listens() -> Result<()> {
    demo("tcp-refused", &["ECONNREFUSED", "nobody listens on port"])
}

#[test]
fn demo_tcp_other_address_names_the_address() -> Result<()> {
    demo("tcp-other-address", &["ECONNREFUSED", "listens on 127.0.0.2:", "the client asked for"])
}

#[test]
fn demo_tcp_no_route_says_that_there_is_none() -> Result<()> {
    demo("tcp-no-route", &["ENETUNREACH", "192.0.2.1:9", "no route"])
}

#[test]
fn demo_tcp_timeout_names_the_queue_that_is_full() -> Result<()> {
    demo("tcp-timeout", &["ETIMEDOUT", "accept queue", "accept_queue_full"])
}

#[test]
fn demo_backlog_names_the_listener_and_its_drops() -> Result<()> {
    demo("backlog", &["\ncomplete:", "accept_queue_full", "were thrown away"])
}

#[test]
fn demo_stall_ends_with_a_report() -> Result<()> {
    demo("stall", &["\ncomplete:", "accepted late"])
}

#[test]
fn demo_busy_server_says_that_it_is_on_a_cpu() -> Result<()> {
    demo("busy-server", &["did not accept in time: 3 connections", "on CPU"])
}

#[test]
fn demo_sleeping_server_says_where_it_sleeps() -> Result<()> {
    demo("sleeping-server", &["did not accept in time: 3 connections", "asleep in"])
}

#[test]
fn demo_stopped_server_says_that_it_is_stopped() -> Result<()> {
    demo("stopped-server", &["did not accept in time: 3 connections", "is stopped"])
}

/// Runs a demo in a cgroup of its own, of which nothing is left; its report has a finding of `rule`, and contains all
/// of `words`.
fn in_cgroup(name: &str, rule: &str, words: &[&str]) -> Result<()> {
    let (finished, report) = report(name)?;
    let report = report.with_context(|| finished.told())?;
    let found = report.findings.iter().any(|it| it.rule == rule);
    ensure!(finished.code() == Some(0) && found, "{}", finished.told());
    let text = finished.out();
    for word in words {
        ensure!(text.contains(word), "demo {name} does not say `{word}`: {}", finished.told());
    }
    for top in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].into_iter().map(std::fs::read_dir) {
        let groups = top.into_iter().flatten().flatten().map(|it| it.file_name());
        let own = |it: &std::ffi::OsString| it.to_string_lossy().starts_with("socktrace-demo");
        let left: Vec<_> = groups.filter(own).collect();
        ensure!(left.is_empty(), "left behind: {left:?}");
    }
    Ok(())
}

/// The same with a controller; a host that has not switched it on for its cgroups is told so.
fn with_controller(name: &str, controller: &str, rule: &str, words: &[&str]) -> Result<()> {
    let on = std::fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control").unwrap_or_default();
    if !on.split_whitespace().any(|it| it == controller) {
        return refused(name, &format!("the controller `{controller}` of cgroup version 2"));
    }
    in_cgroup(name, rule, words)
}

#[test]
fn demo_throttled_server_names_the_quota() -> Result<()> {
    with_controller("throttled-server", "cpu", "owner-throttled", &["CPU quota", "cpu.max"])
}

#[test]
fn demo_memory_pressure_says_that_the_cgroup_is_short_of_memory() -> Result<()> {
    let words = ["short of memory", "memory.high"];
    with_controller("memory-pressure", "memory", "owner-short-of-memory", &words)
}

#[test]
fn demo_frozen_server_says_that_its_cgroup_is_frozen() -> Result<()> {
    in_cgroup("frozen-server", "owner-frozen", &["frozen by its cgroup", "cgroup.freeze"])
}

#[test]
fn demo_no_descriptors_names_how_many_are_open() -> Result<()> {
    demo("no-descriptors", &["out of descriptors (16 of 16)", "LimitNOFILE="])
}

#[test]
fn demo_inherited_listener_names_the_heir_and_who_left_it() -> Result<()> {
    let surety = format!("({})", surety_of_no_accept()?);
    let words = ["nobody has accepted since listen()", "who inherited it", &surety];
    demo("inherited-listener", &words)
}

#[test]
fn demo_closed_listener_counts_what_lay_in_its_queue() -> Result<()> {
    demo("closed-listener", &["it was closed with 3 connections in its queue", "(measured)"])
}

#[test]
fn demo_fd_limit_names_the_errno_and_the_limit() -> Result<()> {
    demo("fd-limit", &["EMFILE", "had no descriptor left", " of 16 were open"])
}

#[test]
fn demo_protected_symlink_names_the_link_and_the_setting_or_says_that_it_is_off() -> Result<()> {
    let setting = "/proc/sys/fs/protected_symlinks";
    if std::fs::read_to_string(setting).context(setting)?.trim() != "1" {
        return refused("protected-symlink", "fs.protected_symlinks is 0 on this host");
    }
    let words = ["EACCES", "/tmp/app.sock", "fs.protected_symlinks"];
    first_is("protected-symlink", "unix-protected-symlink", &words).map(drop)
}

#[test]
fn demo_immutable_names_the_flag_or_says_that_it_cannot_be_had() -> Result<()> {
    if !tmpfs_keeps_flags()? {
        return refused("immutable", "tmpfs keeps no such flag");
    }
    first_is("immutable", "unix-immutable", &["EPERM", "it is immutable (chattr +i)"]).map(drop)
}

#[test]
fn demo_path_too_long_names_both_lengths() -> Result<()> {
    let words = ["EINVAL", "the address has 128 bytes of path", "holds 108"];
    first_is("path-too-long", "unix-path-too-long", &words).map(drop)
}

#[test]
fn demo_inherited_unix_listener_says_who_holds_it_and_does_not_accept() -> Result<()> {
    let (finished, report) = report("inherited-unix-listener")?;
    let report = report.with_context(|| finished.told())?;
    // Of the listener itself it may be told besides how it ended.
    let of_clients = report.findings.iter().filter(|it| it.listener.is_none());
    let rules: Vec<&str> = of_clients.map(|it| it.rule.as_str()).collect();
    ensure!(rules == ["unix-backlog-full", "owner-never-accepts"], "{:?}", report.findings);
    let text = finished.out();
    for word in ["EAGAIN", "Also: ", "holds the listener"] {
        ensure!(text.contains(word), "not `{word}`: {}", finished.told());
    }
    Ok(())
}

#[test]
fn demo_tcp_namespace_names_both_namespaces() -> Result<()> {
    let words = ["ECONNREFUSED", "listens on 127.0.0.1:4 in network namespace net:["];
    first_is("tcp-namespace", "tcp-listens-in-other-namespace", &words).map(drop)
}

#[test]
fn demo_tcp_no_ports_says_that_all_are_in_use() -> Result<()> {
    let words = ["EADDRNOTAVAIL", "4 of 4 local ports towards 127.0.0.1:9000 are in use"];
    first_is("tcp-no-ports", "tcp-ports-exhausted", &words).map(drop)
}

#[test]
fn demo_stopped_server_is_found_to_be_stopped_first() -> Result<()> {
    first_is("stopped-server", "owner-stopped", &["(SIGSTOP)", "kill -CONT"]).map(drop)
}

#[test]
fn demo_syn_queue_says_that_it_was_full() -> Result<()> {
    first_is("syn-queue", "syn-queue-full", &["its SYN queue was full", "were thrown away"])
        .map(drop)
}

/// What a tier cannot see is not found, and the report says that it is not.
#[test]
fn demo_syncookies_counts_them_where_the_tier_sees_them() -> Result<()> {
    if this_kernel()?.auto.get("backlog_drop").is_some_and(|tier| tier != "tracepoint") {
        let words = ["answered with a syncookie"];
        return first_is("syncookies", "syncookies", &words).map(drop);
    }
    let (finished, report) = report("syncookies")?;
    let report = report.with_context(|| finished.told())?;
    ensure!(finished.code() == Some(0) && report.findings.is_empty(), "{}", finished.told());
    ensure!(report.loses("backlog_drop", "syncookie"), "{}", finished.told());
    ensure!(finished.out().contains("the tracepoint tier cannot see"), "{}", finished.told());
    Ok(())
}

/// As from a terminal: all that belongs to the demo gets the signal, before the client has tried.
#[test]
fn a_demo_that_ctrl_c_ends_leaves_nothing_behind_and_tells_what_it_saw() -> Result<()> {
    let dir = tempfile::tempdir().context("a temporary directory")?;
    let mut command = socktrace(&["demo", "stopped-unix-server"])?;
    let demo = Running::start(command.env("TMPDIR", dir.path()).process_group(0))?;
    let inside = || std::fs::read_dir(dir.path()).into_iter().flatten().flatten();
    let listens = || inside().any(|entry| entry.path().join("app.sock").exists());
    ensure!(wait_for(PATIENCE, listens), "nobody listens");
    killpg(Pid::from_raw(i32::try_from(demo.pid())?), Signal::SIGINT).context("Ctrl-C")?;
    let finished = demo.finish()?;
    let text = finished.out();
    ensure!(text.contains("LISTENERS") && !text.contains("EAGAIN"), "{}", finished.told());
    let left: Vec<_> = inside().map(|entry| entry.path()).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}
