//! Filters: exactly the failures that the filter names are left, with their full counts.

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use socktrace_tests::harness::compare::{Strangers, completeness, failures};
use socktrace_tests::harness::run::record;
use socktrace_tests::scenario::record::Failure;

use crate::matrix::tell;

/// Incidents of several users, names, families, errnos and paths, all quick.
pub(crate) const INCIDENTS: [&str; 8] = [
    "unix_eacces_mode",
    "unix_eacces_dir",
    "unix_stale",
    "unix_relative",
    "unix_hostile_path",
    "tcp_refused_sync",
    "tcp6_refused",
    "tcp_unreachable",
];

/// Records under a filter; `keeps` says which of the scenario's failures must be left.
fn filtered(args: &[&str], keeps: impl Fn(&Failure) -> bool) -> Result<()> {
    filtered_words(args, &INCIDENTS, keeps)
}

fn filtered_words(args: &[&str], words: &[&str], keeps: impl Fn(&Failure) -> bool) -> Result<()> {
    let run = record(args, words)?;
    let wanted: Vec<&Failure> = run.seen.failures.iter().filter(|f| keeps(f)).collect();
    ensure!(!wanted.is_empty(), "a filter that keeps nothing tests nothing");
    ensure!(wanted.len() < run.seen.failures.len(), "a filter that keeps all tests nothing");
    let mut problems = failures::only(&wanted, &run.report, Strangers::Forbidden);
    problems.extend(completeness::identity(&run.report));
    tell(&problems).with_context(|| format!("{args:?}"))
}

#[test]
fn a_user_filter_keeps_only_that_user() -> Result<()> {
    filtered(&["-u", "65534"], |failure| failure.uid == 65534)
}

#[test]
fn an_errno_filter_keeps_only_that_errno() -> Result<()> {
    filtered(&["-e", "EACCES"], |failure| failure.errno == "EACCES")?;
    filtered(&["-e", "ECONNREFUSED"], |failure| failure.errno == "ECONNREFUSED")
}

#[test]
fn a_path_filter_keeps_only_paths_that_match() -> Result<()> {
    filtered(&["--path", "/tmp/scenario-*/stale.sock"], |failure| failure.name == "unix_stale")?;
    filtered(&["--path", "/tmp/scenario-*/closed/*"], |failure| failure.name == "unix_eacces_dir")
}

#[test]
fn a_port_filter_keeps_only_that_destination() -> Result<()> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|held| held.local_addr());
    let port = free.context("a free port")?.port().to_string();
    let words = [&["--port", &port][..], &INCIDENTS[..]].concat();
    filtered_words(&["-P", &port], &words, |failure| failure.name == "tcp_refused_sync")
}

#[test]
fn a_family_filter_keeps_only_that_family() -> Result<()> {
    filtered(&["--unix"], |failure| failure.family == "unix")?;
    filtered(&["-4"], |failure| failure.family == "inet")?;
    filtered(&["-6"], |failure| failure.family == "inet6")
}

#[test]
fn a_name_filter_keeps_only_that_command_name() -> Result<()> {
    filtered(&["-n", "st-eacces"], |failure| failure.comm == "st-eacces")
}

#[test]
fn filters_of_different_kinds_must_all_match() -> Result<()> {
    filtered(&["-u", "65534", "-n", "st-eacces-dir"], |failure| failure.comm == "st-eacces-dir")
}
