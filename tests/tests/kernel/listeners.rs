//! `listeners`: every listener with its queue, backlog, namespace and holders, as those who made
//! them know it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::socket::{SockFlag, SockType};
use serde_json::{Value, json};
use socktrace_tests::harness::process::{PATIENCE, Running, wait_for};
use socktrace_tests::harness::run::{run, scenario, socktrace};
use socktrace_tests::scenario::clock::now_ns;
use socktrace_tests::scenario::gate::Gate;
use socktrace_tests::scenario::held::{HOSTILE_NAME, Held, SMALL_SOMAXCONN};
use socktrace_tests::scenario::listener::{loopback, wait_queued};
use socktrace_tests::scenario::socket::listen;

use crate::matrix::tell;

/// A scenario that holds listeners until it is dropped or ended.
struct Holding {
    running: Running,
    held: Vec<Held>,
    // After `running`: its listeners' files are gone before.
    dir: tempfile::TempDir,
}

/// Unmounts what keeps a namespace, whatever becomes of the test.
struct Pin(PathBuf);

impl Drop for Pin {
    fn drop(&mut self) {
        // Where the scenario did not get so far, nothing is mounted.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn hold(place: &str) -> Result<Holding> {
    let dir = tempfile::tempdir().context("a gate")?;
    let mut command = Command::new(scenario()?);
    let running = Running::start(command.arg("--gate").arg(dir.path()).args(["hold", place]))?;
    let ended = || running.out_so_far().ends_with('\n');
    ensure!(wait_for(PATIENCE, ended), "no listeners: {}", running.err_so_far());
    let held = serde_json::from_str(&running.out_so_far()).context("the held listeners")?;
    Ok(Holding { running, held, dir })
}

impl Holding {
    fn end(self) -> Result<()> {
        let gate = Gate::at(self.dir.path());
        let _pid = gate.wait_ready()?;
        gate.open()?;
        let finished = self.running.finish()?;
        ensure!(finished.code() == Some(0), "{}", finished.told());
        Ok(())
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

fn list(args: &[&str]) -> Result<Value> {
    let finished = run(&[&["listeners", "--json"], args].concat())?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    serde_json::from_slice(&finished.stdout).with_context(|| finished.told())
}

fn rows<'a>(list: &'a Value) -> Result<HashMap<u64, &'a Value>> {
    let rows = list["listeners"].as_array().context("no `listeners`")?;
    let by_inode = |row: &'a Value| row["inode"].as_u64().map(|inode| (inode, row));
    Ok(rows.iter().filter_map(by_inode).collect())
}

fn pids(row: &Value) -> Vec<u64> {
    let owners = row["owners"].as_array().into_iter().flatten();
    owners.filter_map(|owner| owner["pid"].as_u64()).collect()
}

/// The address as it is printed.
fn shown(local: &str) -> String {
    local.replace('\n', "\\n").replace('\x1b', "\\x1b")
}

/// Everything that is held is listed as it is.
fn problems(held: &[Held], list: &Value) -> Result<Vec<String>> {
    let rows = rows(list)?;
    let mut problems = Vec::new();
    for held in held {
        let Some(row) = rows.get(&held.inode) else {
            problems.push(format!("not listed: {held:?}"));
            continue;
        };
        let drops = if held.family == "unix" { Value::Null } else { json!(0) };
        let fields = [
            ("family", json!(held.family), &row["family"]),
            ("kind", json!(held.kind), &row["kind"]),
            ("local", json!(shown(&held.local)), &row["local"]),
            ("netns", json!(held.netns), &row["netns"]),
            ("queue", json!({"now": held.queue, "peak": null}), &row["queue"]),
            (
                "backlog",
                json!({"requested": null, "effective": held.effective, "somaxconn": held.somaxconn}),
                &row["backlog"],
            ),
            ("drops", drops, &row["drops"]),
            ("oldest", Value::Null, &row["pending_oldest_ns"]),
            ("owners", json!(held.pids), &json!(pids(row))),
        ];
        for (name, wanted, found) in fields {
            if wanted != *found {
                problems.push(format!("{}: {name} is {found}, not {wanted}", held.local));
            }
        }
        let maker = row["owners"].as_array().into_iter().flatten();
        let named = |owner: &Value| owner["comm"] == json!(held.comm) && owner["uid"] == held.uid;
        if !maker.into_iter().any(named) {
            problems.push(format!("{}: no owner {}: {}", held.local, held.comm, row["owners"]));
        }
    }
    Ok(problems)
}

#[test]
fn listeners_of_every_kind_are_listed_with_queue_backlog_and_both_holders() -> Result<()> {
    let holding = hold("here")?;
    tell(&problems(&holding.held, &list(&[])?)?)?;
    let own = holding.held.iter().find(|held| held.pids.len() == 1);
    ensure!(own.is_some(), "one of them is held by one process only");
    holding.end()
}

#[test]
fn a_listener_in_another_namespace_is_listed_with_that_namespace_its_limit_and_its_owner()
-> Result<()> {
    let holding = hold("netns")?;
    let listed = list(&[])?;
    tell(&problems(&holding.held, &listed)?)?;
    let netns = holding.held[0].netns;
    ensure!(listed["netns"] != netns, "it is another one than socktrace's own");
    let namespaces = listed["namespaces"].as_array().context("no `namespaces`")?;
    let row = namespaces.iter().find(|row| row["netns"] == netns).context("its namespace")?;
    ensure!(row["somaxconn"] == SMALL_SOMAXCONN, "{row}");
    ensure!(row["netstat"]["listen_drops"] == 0, "a new namespace has dropped nothing: {row}");
    holding.end()
}

#[test]
fn a_namespace_that_only_a_file_keeps_is_looked_into() -> Result<()> {
    let holding = hold("pinned")?;
    let _pin = Pin(holding.path().join("pin"));
    tell(&problems(&holding.held, &list(&[])?)?)?;
    holding.end()
}

#[test]
fn filters_leave_what_they_name() -> Result<()> {
    let (here, there) = (hold("here")?, hold("netns")?);
    let pid = here.held[0].pids[0].to_string();
    let netns = there.held[0].netns.to_string();
    let port = here.held.iter().find_map(|held| held.local.rsplit_once(':')).context("TCP")?.1;
    let held = || here.held.iter().chain(&there.held);
    let only = |args: &[&str], keeps: &dyn Fn(&Held) -> bool| {
        let listed = list(args)?;
        let rows = rows(&listed)?;
        let wrong = held().filter(|held| rows.contains_key(&held.inode) != keeps(held));
        let wrong: Vec<&str> = wrong.map(|held| held.local.as_str()).collect();
        ensure!(wrong.is_empty(), "{args:?}: {wrong:?}");
        Ok(())
    };
    let own_pid = here.held[0].pids[0];
    only(&["-p", &pid], &|held| held.pids.contains(&own_pid))?;
    only(&["-n", "scenario"], &|_| true)?;
    only(&["-n", "no-such-name"], &|_| false)?;
    only(&["-u", "0", "--unix"], &|held| held.family == "unix")?;
    only(&["-u", "65534"], &|_| false)?;
    only(&["-4"], &|held| held.family == "inet")?;
    only(&["-6"], &|held| held.family == "inet6")?;
    only(&["-P", port], &|held| held.local.ends_with(&format!(":{port}")))?;
    only(&["--path", "/tmp/scenario-*/seq.sock"], &|held| held.kind == "seqpacket")?;
    only(&["--path", "@own-*"], &|held| held.local.starts_with("@own-"))?;
    let there_inode = there.held[0].netns;
    only(&["--netns", &netns], &|held| held.netns == there_inode)?;
    here.end()?;
    there.end()
}

#[test]
fn the_table_has_the_fullest_first_and_no_raw_byte_of_a_name() -> Result<()> {
    let holding = hold("here")?;
    let pid = holding.held[0].pids[0].to_string();
    let finished = run(&["listeners", "-p", &pid])?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    let text = finished.out();
    ensure!(!text.contains('\x1b'), "an escape sequence reaches the terminal: {text:?}");
    let lines: Vec<&str> = text.lines().collect();
    ensure!(lines.len() == holding.held.len() + 1, "a line for each: {text}");
    ensure!(lines[0].contains("NETNS") && lines[0].contains("Recv-Q"), "{text}");
    let name = shown(&String::from_utf8_lossy(HOSTILE_NAME));
    let full = lines.iter().position(|line| line.contains(&name)).context(text.clone())?;
    // Two listeners hold one more than their backlog.
    ensure!(full <= 2, "not among the fullest: {text}");
    ensure!(lines[full].contains(&format!("scenario({pid})")), "{text}");
    holding.end()
}

#[test]
fn a_namespace_that_is_not_there_is_told() -> Result<()> {
    let finished = run(&["listeners", "--netns", "1"])?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    ensure!(finished.err().contains("no network namespace 1"), "{}", finished.told());
    ensure!(finished.out().lines().count() == 1, "{}", finished.told());
    Ok(())
}

#[test]
fn a_tracer_that_is_attached_for_a_while_tells_how_long_connections_have_waited() -> Result<()> {
    let here = hold("here")?;
    let listed = list(&["--for", "500ms"])?;
    let rows = rows(&listed)?;
    let mut problems = Vec::new();
    for held in &here.held {
        let row = rows.get(&held.inode).with_context(|| format!("not listed: {held:?}"))?;
        let (oldest, bound) = (&row["pending_oldest_ns"], &row["pending_oldest_is_lower_bound"]);
        // They were queued before: half a second, or more.
        let waits = oldest.as_u64().is_some_and(|ns| ns >= 500_000_000) && *bound == true;
        let is_right = if row["queue"]["now"] == 0 { oldest.is_null() } else { waits };
        if !is_right {
            problems.push(format!("{held:?}: {row}"));
        }
    }
    here.end()?;
    tell(&problems)
}

/// A connection that waits, by the clock of the test: queued from before until after.
#[derive(Debug)]
struct Queued {
    inode: u64,
    between_ns: (u64, u64),
}

#[test]
fn how_long_a_connection_has_waited_is_exact_where_it_came_while_the_tracer_was_attached()
-> Result<()> {
    let mut command = socktrace(&["listeners", "--json", "--for", "1500ms"])?;
    let mut running = Running::start(&mut command)?;
    let (mut kept, mut queued) = (Vec::new(), Vec::new());
    // Each has a listener of its own, as only the oldest of one is told.
    while !running.has_ended() {
        let listener = listen(&loopback(), SockType::Stream, 16)?;
        let client = listener.at.socket(SockType::Stream, SockFlag::empty())?;
        let before_ns = now_ns()?;
        listener.at.connect(&client).context("connect")?;
        wait_queued(&listener, 1)?;
        queued.push(Queued { inode: listener.inode, between_ns: (before_ns, now_ns()?) });
        kept.push((listener, client));
        thread::sleep(Duration::from_millis(200));
    }
    let ended_ns = now_ns()?;
    let finished = running.finish()?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    let listed: Value = serde_json::from_str(&finished.out()).context("the list")?;
    let rows = rows(&listed)?;
    // When the list was made, by each connection whose age is exact: all must agree.
    let (mut earliest, mut latest, mut exact) = (0, ended_ns, 0);
    let mut problems = Vec::new();
    for Queued { inode, between_ns: (before_ns, after_ns) } in &queued {
        let Some(row) = rows.get(inode) else { continue };
        let Some(age_ns) = row["pending_oldest_ns"].as_u64() else { continue };
        if before_ns + age_ns > ended_ns {
            problems.push(format!("older than it is: {row}"));
        }
        if row["pending_oldest_is_lower_bound"] == false {
            exact += 1;
            earliest = earliest.max(before_ns + age_ns);
            latest = latest.min(after_ns + age_ns);
        }
    }
    if exact < 2 || earliest > latest {
        problems.push(format!("{exact} exact, {earliest} to {latest}: {queued:?}\n{listed:#}"));
    }
    tell(&problems)
}

#[test]
fn a_listener_is_listed_with_every_syn_that_it_dropped() -> Result<()> {
    const DROPPED: u64 = 7;
    let listener = listen(&loopback(), SockType::Stream, 0)?;
    let connect = |flags| {
        let client = listener.at.socket(SockType::Stream, flags)?;
        Ok::<_, anyhow::Error>((listener.at.connect(&client), client))
    };
    let (outcome, _fits) = connect(SockFlag::empty())?;
    outcome.context("a connection that fits")?;
    wait_queued(&listener, 1)?;
    for _ in 0..DROPPED {
        let (outcome, client) = connect(SockFlag::SOCK_NONBLOCK)?;
        ensure!(outcome == Err(Errno::EINPROGRESS), "{outcome:?}");
        // It does not repeat its SYN.
        drop(client);
    }
    let listed = list(&[])?;
    let rows = rows(&listed)?;
    let row = rows.get(&listener.inode).context("the listener")?;
    ensure!(row["drops"] == DROPPED && row["queue"]["now"] == 1, "{row}");
    Ok(())
}
