//! The command line without eBPF: bad input, missing rights, help, a closed pipe, a list of listeners.
//!
//! Needs `SOCKTRACE_BIN`, `ss` to compare with, and root only to become somebody else.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socktrace_tests::harness::process::{Finished, Running};
use socktrace_tests::harness::run::{into_closed_pipe, run, socktrace};

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
fn an_unknown_topic_is_named_with_the_nearest_ones() -> Result<()> {
    refused(&["explain", "EACESS"], &["EACESS", "EACCES"])?;
    refused(&["explain", "listen-overflw"], &["listen-overflw", "listen-overflow"])?;
    refused(&["explain", "a\x1b[31m"], &["a\\x1b[31m"])
}

#[test]
fn a_topic_is_explained_by_any_of_its_names_without_rights() -> Result<()> {
    for name in ["EACCES", "eacces", "13"] {
        let finished = as_nobody(&["explain", name])?;
        ensure!(finished.code() == Some(0), "{}", finished.told());
        for word in ["EACCES (13)", "unix-parent-no-search", "unix_find_bsd()", "diagnose TARGET"] {
            ensure!(finished.out().contains(word), "no `{word}`: {}", finished.told());
        }
    }
    let overflow = run(&["explain", "accept_queue_full", "--json"])?;
    let told: serde_json::Value = serde_json::from_slice(&overflow.stdout)?;
    ensure!(told["topic"] == "listen-overflow" && told["kind"] == "incident", "{told}");
    Ok(())
}

#[test]
fn every_topic_that_is_listed_is_explained() -> Result<()> {
    let list = run(&["explain", "--json"])?;
    let list: serde_json::Value = serde_json::from_slice(&list.stdout)?;
    let topics = list["topics"].as_array().context("topics")?;
    ensure!(topics.len() > 70, "only {} topics", topics.len());
    let text = run(&["explain"])?.out();
    for topic in topics {
        let name = topic["topic"].as_str().context("a name")?;
        ensure!(text.contains(&format!("  {name} ")), "{name} is not in the text");
        let finished = run(&["explain", name])?;
        ensure!(finished.code() == Some(0) && finished.out().contains(name), "{}", finished.told());
    }
    Ok(())
}

#[test]
fn an_unknown_command_or_flag_is_a_usage_error() -> Result<()> {
    refused(&["recrod"], &["recrod"])?;
    refused(&["record", "--no-such-flag"], &["--no-such-flag"])
}

#[test]
fn every_command_explains_itself() -> Result<()> {
    for command in
        [&[][..], &["record"], &["watch"], &["listeners"], &["check"], &["explain"], &["demo"]]
    {
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
fn without_rights_a_command_is_not_run_and_the_code_is_socktraces_own() -> Result<()> {
    let finished = as_nobody(&["record", "--", "echo", "it-ran"])?;
    ensure!(finished.code() == Some(125), "{}", finished.told());
    ensure!(!finished.out().contains("it-ran"), "{}", finished.told());
    Ok(())
}

#[test]
fn without_rights_listeners_are_listed_and_what_cannot_be_seen_is_told() -> Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("a listener")?;
    let address = listener.local_addr()?.to_string();
    let finished = as_nobody(&["listeners"])?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    let line = finished.out().lines().find(|line| line.contains(&address)).map(str::to_owned);
    let line = line.with_context(|| format!("no {address}: {}", finished.told()))?;
    ensure!(!line.contains(&format!("({})", std::process::id())), "how does it know? {line}");
    for word in ["owners may be missing", "network namespaces", "CAP_SYS_PTRACE"] {
        ensure!(finished.err().contains(word), "no `{word}`: {}", finished.told());
    }
    let json = as_nobody(&["listeners", "--json"])?;
    let list: serde_json::Value = serde_json::from_slice(&json.stdout)?;
    let unseen = list["unseen"]["descriptors_of"].as_u64();
    ensure!(unseen.is_some_and(|count| count > 0), "{}", json.told());
    Ok(())
}

/// `Recv-Q` and `Send-Q`, side by side from `column` on, of the line that names `address`.
fn queue_and_limit(lines: &str, address: &str, column: usize) -> Result<[String; 2]> {
    let line = lines.lines().find(|line| line.split_whitespace().any(|word| word == address));
    let words: Vec<&str> = line.with_context(|| lines.to_owned())?.split_whitespace().collect();
    Ok([column, column + 1].map(|column| words[column].to_owned()))
}

#[test]
fn queues_and_limits_are_those_that_ss_shows() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("a.sock");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").context("a listener")?;
    let _unix = std::os::unix::net::UnixListener::bind(&path)?;
    let address = tcp.local_addr()?.to_string();
    let _tcp_clients = [0; 3].map(|_| std::net::TcpStream::connect(&address));
    let _unix_clients = [0; 2].map(|_| std::os::unix::net::UnixStream::connect(&path));
    let path = path.to_str().context("a path")?;
    let listed = run(&["listeners"])?;
    for (args, column, name, queue) in [("-ltnH", 1, address.as_str(), "3"), ("-xlH", 2, path, "2")]
    {
        let ss = Command::new("ss").arg(args).output().context("ss, of iproute2")?;
        let wanted = queue_and_limit(&String::from_utf8_lossy(&ss.stdout), name, column)?;
        ensure!(wanted[0] == queue, "{wanted:?}");
        let found = queue_and_limit(&listed.out(), name, 2)?;
        ensure!(found == wanted, "{found:?}, ss says {wanted:?}: {}", listed.told());
    }
    Ok(())
}

#[test]
fn a_list_in_a_file_is_for_its_owner_only_and_never_behind_a_link() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("list.json");
    let path = file.to_str().context("a path")?;
    let finished = run(&["listeners", "-o", path])?;
    ensure!(finished.code() == Some(0) && finished.stdout.is_empty(), "{}", finished.told());
    let mode = std::fs::metadata(&file)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    let list: serde_json::Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    ensure!(list["listeners"].is_array(), "{list}");

    let link = dir.path().join("link");
    std::os::unix::fs::symlink("list.json", &link)?;
    let before = std::fs::read(&file)?;
    let finished = run(&["listeners", "-o", link.to_str().context("a path")?])?;
    ensure!(finished.code() == Some(125), "{}", finished.told());
    ensure!(std::fs::read(&file)? == before, "it was written through a link");
    Ok(())
}

#[test]
fn a_closed_stdout_ends_quietly() -> Result<()> {
    let lists: [&[&str]; 2] = [&["listeners"], &["listeners", "--json"]];
    for args in
        [&["check"][..], &["explain"], &["--help"], &["record", "--help"]].into_iter().chain(lists)
    {
        let finished = into_closed_pipe(args)?;
        let text = finished.err();
        for word in ["panicked", "Broken pipe", "os error"] {
            ensure!(!text.contains(word), "{args:?} complains: {}", finished.told());
        }
        let quiet = finished.code() == run(args)?.code();
        ensure!(quiet, "{args:?}: {}", finished.told());
    }
    Ok(())
}

#[test]
fn what_is_wrong_is_the_exit_code_where_nobody_reads_it_to_the_end() -> Result<()> {
    let finished = into_closed_pipe(&["diagnose", "/nonexistent/directory/socket"])?;
    ensure!(finished.code() == Some(1) && finished.err().is_empty(), "{}", finished.told());
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
