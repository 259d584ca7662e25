//! Before, during, after: one worker, and each tracer in its turn.
//!
//! Prints one line of JSON per operation and turn, behind [`MARK`]; what could not be measured is a
//! line, too.

use std::io::{BufRead, BufReader, Lines, Write, stdout};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::operation::Operation;
use super::plan::{Plan, Subject};
use super::programs;
use super::tracer::Tracer;
use super::worker::{self, Cost};

/// What `cargo xtask bench` looks for.
const MARK: &str = "SOCKTRACE-BENCH ";

/// A kernel that has just booted has work left that runs between the first rounds.
const SETTLE: Duration = Duration::from_secs(3);
/// By then, what a tracer does about the first failure of a kind (it looks into its cause) is over, and socktrace tells of
/// failures again if it has told of as many in one second as it may.
const NEXT: Duration = Duration::from_millis(1200);

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    /// The rounds of one operation, untraced where there is no subject.
    Rounds {
        subject: Option<&'a str>,
        operation: Operation,
        count: u64,
        wall: Vec<u64>,
        cpu: Vec<u64>,
    },
    /// How long it took until a tracer was attached, in nanoseconds.
    Attached { subject: &'a str, took: u64 },
    /// How often an eBPF program ran in a round, and what that took, in nanoseconds.
    Program {
        subject: &'a str,
        operation: Operation,
        count: u64,
        name: String,
        runs: u64,
        took: u64,
    },
    /// What a tracer printed last.
    Said { subject: &'a str, text: String },
    /// A tracer that could not be measured.
    LeftOut { subject: &'a str, why: String },
}

/// Measures all of the plan; tracers and the worker have their files in `dir`.
///
/// # Errors
/// When the worker fails. A tracer that fails is left out, by name.
pub fn drive(plan: &Plan, dir: &Path) -> Result<()> {
    let mut worker = Worker::start(dir)?;
    sleep(SETTLE);
    worker.measure(plan, None)?;
    for _ in 0..plan.pairs {
        for subject in &plan.subjects {
            match with_tracer(plan, subject, &mut worker, dir)? {
                Ok(text) => print(&Line::Said { subject: &subject.name, text })?,
                Err(error) => {
                    print(&Line::LeftOut { subject: &subject.name, why: format!("{error:#}") })?;
                }
            }
            worker.measure(plan, None)?;
        }
    }
    Ok(())
}

/// The inner result is the tracer's, the outer one ours.
fn with_tracer(
    plan: &Plan,
    subject: &Subject,
    worker: &mut Worker,
    dir: &Path,
) -> Result<Result<String>> {
    let tracer = match Tracer::start(subject, worker.child.id(), dir) {
        Ok(tracer) => tracer,
        Err(error) => return Ok(Err(error)),
    };
    if let Some(took) = tracer.attached() {
        let took = u64::try_from(took.as_nanos())?;
        print(&Line::Attached { subject: &subject.name, took })?;
    }
    worker.measure(plan, Some(&subject.name))?;
    if let Some(bpftool) = &plan.bpftool {
        worker.measure_programs(plan, &subject.name, bpftool)?;
    }
    Ok(tracer.end().and_then(|(text, bytes)| {
        anyhow::ensure!(bytes > 0, "it printed nothing at all, so it may have traced nothing");
        Ok(format!("{bytes} bytes, in the end: {text}"))
    }))
}

fn print(line: &Line<'_>) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{MARK}{}", serde_json::to_string(line)?)?;
    out.flush().context("stdout")
}

struct Worker {
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start(dir: &Path) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("worker")
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the worker did not start")?;
        let commands = child.stdin.take().context("stdin")?;
        let answers = BufReader::new(child.stdout.take().context("stdout")?).lines();
        Ok(Self { child, commands, answers })
    }

    /// All operations, once to warm up and then so many rounds each. What is done once is not measured, and in guests every failure is told.
    fn measure(&mut self, plan: &Plan, subject: Option<&str>) -> Result<()> {
        for work in &plan.work {
            let (operation, count) = (work.operation, work.count);
            self.round(operation, count)?;
            sleep(NEXT);
            let (mut wall, mut cpu) = (Vec::new(), Vec::new());
            for _ in 0..plan.rounds {
                let cost = self.round(operation, count)?;
                wall.push(cost.wall);
                cpu.push(cost.cpu);
            }
            print(&Line::Rounds { subject, operation, count, wall, cpu })?;
        }
        Ok(())
    }

    /// One round of each operation, with the kernel's statistics, which cost something themselves.
    fn measure_programs(&mut self, plan: &Plan, subject: &str, bpftool: &str) -> Result<()> {
        let _on = programs::enable()?;
        for work in &plan.work {
            let (operation, count) = (work.operation, work.count);
            let before = programs::read(bpftool)?;
            self.round(operation, count)?;
            for (name, runs, took) in programs::since(&before, programs::read(bpftool)?) {
                print(&Line::Program { subject, operation, count, name, runs, took })?;
            }
        }
        Ok(())
    }

    fn round(&mut self, operation: Operation, count: u64) -> Result<Cost> {
        let command = serde_json::to_string(&worker::Command { operation, count })?;
        writeln!(self.commands, "{command}").context("the worker is gone")?;
        let answer = self.answers.next().context("the worker ended; it said why on stderr")??;
        serde_json::from_str(&answer).context("the worker's answer")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
