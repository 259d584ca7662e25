//! `demo`: a harmless incident, and a true report of it.

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
fn demo_eacces_names_the_errno_and_the_user() -> Result<()> {
    demo("eacces", &["EACCES", "65534"])
}

#[test]
fn demo_stale_socket_names_the_errno() -> Result<()> {
    demo("stale-socket", &["ECONNREFUSED"])
}

#[test]
fn demo_stall_ends_with_a_report() -> Result<()> {
    demo("stall", &["\ncomplete:", "accepted late"])
}

#[test]
fn demo_backlog_names_the_listener_and_its_drops() -> Result<()> {
    demo("backlog", &["\ncomplete:", "accept_queue_full", "threw"])
}

#[test]
fn demo_fd_limit_names_the_errno() -> Result<()> {
    demo("fd-limit", &["EMFILE"])
}
