//! `demo`: a harmless incident, and a true report of it.
//!
//! The words are those of the one rule that is to explain it. Its certainty is not asked for: whoever else
//! makes a file in the temporary directory meanwhile changes that directory, and the finding is inferred.

use anyhow::{Result, ensure};
use socktrace_tests::harness::run::run;

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
            "was full (2 connections waiting now, backlog 1); the oldest connection in its queue",
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

#[test]
fn demo_inherited_listener_names_the_heir_and_who_left_it() -> Result<()> {
    demo(
        "inherited-listener",
        &["nobody has accepted since listen()", "who inherited it", "(measured)"],
    )
}

#[test]
fn demo_closed_listener_counts_what_lay_in_its_queue() -> Result<()> {
    demo("closed-listener", &["it was closed with 3 connections in its queue", "(measured)"])
}

#[test]
fn demo_fd_limit_names_the_errno_and_the_limit() -> Result<()> {
    demo("fd-limit", &["EMFILE", "had no descriptor left", " of 16 were open"])
}
