//! Filters on a saved session: what is left is what they would have let pass live.

use std::net::TcpListener;

use anyhow::{Context, Result, anyhow, ensure};
use socktrace_tests::harness::compare::{Strangers, completeness, failures};
use socktrace_tests::harness::run::{Run, record};
use socktrace_tests::scenario::record::Failure;

use super::report;
use crate::filters::INCIDENTS;
use crate::matrix::tell;

type Keeps = dyn Fn(&Failure) -> bool;

#[test]
fn filters_leave_of_a_saved_session_what_they_leave_live() -> Result<()> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|held| held.local_addr());
    let port = free.context("a free port")?.port().to_string();
    let run = record(&[], &[&["--port", &port][..], &INCIDENTS[..]].concat())?;
    let someone = run.seen.failures.iter().find(|failure| failure.pid != run.seen.pid);
    let someone = someone.context("a process of its own")?.pid;
    let pid = someone.to_string();
    let cases: [(&[&str], &Keeps); 14] = [
        (&["-u", "65534"], &|failure| failure.uid == 65534),
        (&["-e", "EACCES"], &|failure| failure.errno == "EACCES"),
        (&["-e", "ECONNREFUSED"], &|failure| failure.errno == "ECONNREFUSED"),
        (&["--path", "/tmp/scenario-*/stale.sock"], &|failure| failure.name == "unix_stale"),
        (&["--path", "/tmp/scenario-*/closed/*"], &|failure| failure.name == "unix_eacces_dir"),
        (&["-P", &port], &|failure| failure.name == "tcp_refused_sync"),
        (&["--unix"], &|failure| failure.family == "unix"),
        (&["-4"], &|failure| failure.family == "inet"),
        (&["-6"], &|failure| failure.family == "inet6"),
        (&["-4", "-6"], &|failure| failure.family != "unix"),
        (&["-n", "st-eacces"], &|failure| failure.comm == "st-eacces"),
        (&["-p", &pid], &move |failure| failure.pid == someone),
        (&["-u", "65534", "-n", "st-eacces-dir"], &|failure| failure.comm == "st-eacces-dir"),
        (&["-u", "65534", "-e", "ECONNREFUSED,EACCES"], &|failure| failure.uid == 65534),
    ];
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("session");
    std::fs::write(&file, &run.session)?;
    let mut problems = Vec::new();
    for (args, keeps) in cases {
        let found =
            filtered(&run, &file, args, keeps).map_err(|error| anyhow!("{args:?}: {error:#}"))?;
        problems.extend(found.into_iter().map(|text| format!("{args:?}: {text}")));
    }
    tell(&problems)
}

fn filtered(
    run: &Run,
    file: &std::path::Path,
    args: &[&str],
    keeps: &Keeps,
) -> Result<Vec<String>> {
    let all = &run.seen.failures;
    let wanted: Vec<&Failure> = all.iter().filter(|failure| keeps(failure)).collect();
    ensure!(!wanted.is_empty(), "a filter that keeps nothing tests nothing");
    ensure!(wanted.len() < all.len(), "a filter that keeps all tests nothing");
    let finished = report(file, &[args, &["--json"]].concat())?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    let left = serde_json::from_slice(&finished.stdout)?;
    let mut problems = failures::only(&wanted, &left, Strangers::Forbidden);
    problems.extend(completeness::identity(&left));
    Ok(problems)
}
