//! A process that holds back what is asked of it, as a hostile one may for ever: it holds up nobody.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use socktrace_tests::harness::process::{Finished, PATIENCE, Running, wait_for};
use socktrace_tests::harness::run::{scenario, socktrace};
use socktrace_tests::scenario::gate::Gate;

/// Much longer than a command takes that is not held up, and not for ever.
const LIMIT: Duration = Duration::from_secs(20);

struct Withholding {
    running: Running,
    pid: u32,
    dir: tempfile::TempDir,
}

impl Withholding {
    fn begin() -> Result<Self> {
        let dir = tempfile::tempdir().context("a gate")?;
        let mut command = Command::new(scenario()?);
        let running = Running::start(command.arg("--gate").arg(dir.path()).arg("withhold"))?;
        let holds = wait_for(PATIENCE, || running.out_so_far().ends_with('\n'));
        ensure!(holds, "nothing is held back: {}", running.err_so_far());
        let pid = running.out_so_far().trim().parse().context("a pid")?;
        Ok(Self { running, pid, dir })
    }

    /// Whether this kernel lets it hold back a file of its own, by somebody who waits for it a while.
    fn holds_back(&self, name: &str) -> bool {
        let path = PathBuf::from(format!("/proc/{}/{name}", self.pid));
        let (tell, told) = channel();
        thread::spawn(move || tell.send(fs::read(path).is_ok()));
        told.recv_timeout(Duration::from_secs(2)).is_err()
    }

    /// Whether it is where it is meant to be: a kernel that does not let it hold that back tells.
    fn is_in_execve(&self) -> bool {
        let told = || fs::read_to_string(format!("/proc/{}/syscall", self.pid)).unwrap_or_default();
        self.holds_back("syscall") || told().starts_with(&format!("{} ", libc::SYS_execve))
    }

    /// What it does instead.
    fn told(&self) -> String {
        let read = |name| fs::read_to_string(format!("/proc/{}/{name}", self.pid));
        let told = ["comm", "syscall", "stack"].map(|name| read(name).unwrap_or_default());
        told.join("; ")
    }

    fn end(self) -> Result<()> {
        let gate = Gate::at(self.dir.path());
        gate.wait_ready()?;
        gate.open()?;
        let finished = self.running.finish()?;
        ensure!(finished.code() == Some(0), "{}", finished.told());
        Ok(())
    }
}

/// A command that must end by itself, or else is killed, and fails.
fn in_time(args: &[&str]) -> Result<Finished> {
    let mut running = Running::start(&mut socktrace(args)?)?;
    let ended = wait_for(LIMIT, || running.has_ended());
    ensure!(ended, "{args:?} goes on after {LIMIT:?}: {}", running.err_so_far());
    running.finish()
}

fn list() -> Result<Value> {
    let finished = in_time(&["listeners", "--json"])?;
    serde_json::from_slice(&finished.stdout).with_context(|| finished.told())
}

/// How many processes it could not look into.
fn unseen(list: &Value) -> Result<u64> {
    list["unseen"]["descriptors_of"].as_u64().context("no `descriptors_of`")
}

#[test]
fn a_process_that_holds_back_its_files_holds_up_nobody_and_is_told_as_not_seen() -> Result<()> {
    let unseen_before = unseen(&list()?)?;
    let withholding = Withholding::begin()?;
    ensure!(withholding.is_in_execve(), "its execve() is done: {}", withholding.told());
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?.to_string();

    let list = list()?;
    let rows = list["listeners"].as_array().context("no `listeners`")?;
    let own = rows.iter().find(|row| row["local"] == at.as_str()).context("own listener")?;
    ensure!(own["owners"][0]["pid"] == std::process::id(), "its owner: {own}");
    let unseen = unseen(&list)? - unseen_before;
    ensure!(unseen == u64::from(withholding.holds_back("stat")), "not seen: {}", list["unseen"]);

    let checkup = in_time(&["diagnose", "--json", &at])?;
    ensure!(checkup.out().contains(&at), "{}", checkup.told());
    let of_it = in_time(&["diagnose", "--json", &withholding.pid.to_string()])?;
    ensure!(of_it.out().contains("\"checks\""), "{}", of_it.told());
    let recorded = in_time(&["record", "--no-save", "--json", "-d", "1s"])?;
    ensure!(recorded.out().contains("\"completeness\""), "{}", recorded.told());
    withholding.end()
}
