//! What a test run consists of: stages, their results, and the table at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::libtest::{Tested, Totals};
use crate::process;

/// What a stage found.
enum Outcome {
    /// It is right, and counts nothing.
    Checked,
    /// Tests ran.
    Tested(Tested),
    /// It could not be done, and why.
    Broken(String),
    /// It could not be done, and need not be.
    Absent,
}

struct Stage {
    name: String,
    outcome: Outcome,
    seconds: f64,
}

impl Stage {
    fn run(name: &str, act: impl FnOnce() -> Result<Outcome>) -> Self {
        println!("\n== {name}");
        let start = Instant::now();
        let outcome = act().unwrap_or_else(|error| {
            let why = format!("{error:#}");
            println!("{name}: {why}");
            Outcome::Broken(why)
        });
        Self { name: name.to_owned(), outcome, seconds: start.elapsed().as_secs_f64() }
    }

    fn failed(&self) -> bool {
        match &self.outcome {
            Outcome::Checked | Outcome::Absent => false,
            // A stage that ran nothing has shown nothing.
            Outcome::Tested(tested) => tested.totals.failed > 0 || tested.totals.passed == 0,
            Outcome::Broken(_) => true,
        }
    }

    /// What it said of its failure, once more: of a long run, often only the end is kept.
    fn why(&self) -> String {
        match &self.outcome {
            Outcome::Checked | Outcome::Absent => String::new(),
            Outcome::Tested(tested) if tested.totals.failed == 0 => "no test ran".to_owned(),
            Outcome::Tested(tested) => tested.failures.join("\n"),
            Outcome::Broken(why) => why.clone(),
        }
    }
}

/// Jobs that are taken in turn, by so many lanes.
pub(crate) struct Queue<J> {
    jobs: Vec<J>,
    lanes: usize,
    next: AtomicUsize,
}

impl<J> Queue<J> {
    pub(crate) fn new(jobs: Vec<J>, lanes: usize) -> Self {
        Self { lanes: lanes.min(jobs.len()), jobs, next: AtomicUsize::new(0) }
    }

    /// One lane.
    fn take_turns(&self, run: impl Fn(usize, &J)) {
        let turn = || self.next.fetch_add(1, Ordering::Relaxed);
        while let Some((index, job)) = Some(turn()).and_then(|i| Some((i, self.jobs.get(i)?))) {
            run(index, job);
        }
    }
}

/// The stages so far. One that fails does not keep the next from running.
#[derive(Default)]
pub(crate) struct Stages {
    done: Vec<Stage>,
}

impl Stages {
    /// Runs something that is right or wrong.
    pub(crate) fn check(&mut self, name: &str, act: impl FnOnce() -> Result<()>) {
        self.record(name, || act().map(|()| Outcome::Checked));
    }

    /// Runs tests.
    pub(crate) fn test(&mut self, name: &str, act: impl FnOnce() -> Result<Tested>) {
        self.record(name, || act().map(Outcome::Tested));
    }

    /// Notes a stage that cannot run here and is not required to.
    pub(crate) fn absent(&mut self, name: &str, why: &anyhow::Error) {
        self.record(name, || {
            println!("{name}: not tested: {why:#}");
            Ok(Outcome::Absent)
        });
    }

    /// Runs tests side by side: of each queue, as many jobs at a time as it has lanes. Each job is a stage, in the queues' order.
    pub(crate) fn tests_in_lanes<J: Sync>(
        &mut self,
        queues: &[Queue<J>],
        name: impl Fn(&J) -> String + Sync,
        act: impl Fn(&J) -> Result<Tested> + Sync,
    ) {
        let done = Mutex::new(BTreeMap::new());
        let run = &|place: (usize, usize), job: &J| {
            let stage = Stage::run(&name(job), || act(job).map(Outcome::Tested));
            done.lock().unwrap_or_else(PoisonError::into_inner).insert(place, stage);
        };
        thread::scope(|scope| {
            for (number, queue) in queues.iter().enumerate() {
                for _ in 0..queue.lanes {
                    scope.spawn(move || queue.take_turns(|index, job| run((number, index), job)));
                }
            }
        });
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.done.extend(done.into_values());
    }

    fn record(&mut self, name: &str, act: impl FnOnce() -> Result<Outcome>) {
        self.done.push(Stage::run(name, act));
    }

    /// Prints why stages failed, and the table; an error when one did.
    pub(crate) fn finish(&self) -> Result<()> {
        let failed: Vec<_> = self.done.iter().filter(|stage| stage.failed()).collect();
        for stage in &failed {
            println!("\n== failed: {}\n{}", stage.name, stage.why());
        }
        print!("\n{}", self.render());
        let names: Vec<_> = failed.iter().map(|stage| &*stage.name).collect();
        if !names.is_empty() {
            bail!("failed: {}; each says why above, under its `== name`", names.join(", "));
        }
        Ok(())
    }

    fn render(&self) -> String {
        let mut text =
            format!("{:<34} {:>6} {:>6} {:>8}\n", "stage", "passed", "failed", "seconds");
        let mut sum = Totals::default();
        for stage in &self.done {
            let (passed, failed) = match &stage.outcome {
                Outcome::Checked => ("ok".to_owned(), String::new()),
                Outcome::Absent => ("absent".to_owned(), String::new()),
                Outcome::Broken(_) => (String::new(), "FAILED".to_owned()),
                Outcome::Tested(Tested { totals, .. }) => {
                    sum += *totals;
                    (totals.passed.to_string(), totals.failed.to_string())
                }
            };
            let note = match &stage.outcome {
                Outcome::Tested(Tested { totals: Totals { passed: 0, failed: 0, .. }, .. }) => {
                    "  no test ran: FAILED"
                }
                _ => "",
            };
            let Stage { name, seconds, .. } = stage;
            let _cannot_fail =
                writeln!(text, "{name:<34} {passed:>6} {failed:>6} {seconds:>8.1}{note}");
        }
        let broken = self.done.iter().filter(|stage| stage.failed()).count();
        text + &format!(
            "total: {} tests passed, {} failed, {} ignored; {} of {} stages failed\n",
            sum.passed,
            sum.failed,
            sum.ignored,
            broken,
            self.done.len()
        )
    }
}

#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Runs a `cargo build` and gives the programs that it made, as target name and path.
pub(crate) fn build_programs(command: &mut Command) -> Result<Vec<(String, PathBuf)>> {
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let line = process::render(command);
    let mut child = command.spawn().with_context(|| process::cannot_start(&line))?;
    let output = child.stdout.take().context("a piped stdout is missing")?;
    let mut programs = Vec::new();
    for message in serde_json::Deserializer::from_reader(BufReader::new(output)).into_iter() {
        let message: Message =
            message.with_context(|| format!("`{line}` printed something that is no message"))?;
        if let (Some(target), Some(executable)) = (message.target, message.executable) {
            programs.push((target.name, executable));
        }
    }
    let status = child.wait().with_context(|| format!("`{line}` cannot be waited for"))?;
    if !status.success() {
        bail!("`{line}` failed ({status}); its messages are above");
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tested(passed: u64, failed: u64) -> Stages {
        let mut stages = Stages::default();
        stages.test("some", || Ok(ran(passed, failed)));
        stages
    }

    fn ran(passed: u64, failed: u64) -> Tested {
        let totals = Totals { passed, failed, ignored: 0 };
        Tested { totals, ..Tested::default() }
    }

    #[test]
    fn a_stage_that_ran_no_test_fails() {
        assert!(tested(0, 0).finish().is_err());
        assert!(tested(1, 0).finish().is_ok());
        assert!(tested(1, 1).finish().is_err());
    }

    #[test]
    fn jobs_in_lanes_all_run_and_are_told_in_their_order() {
        let mut stages = Stages::default();
        let act = |n: &u64| Ok(ran(*n, 0));
        let queues = [Queue::new(vec![1, 2], 1), Queue::new(vec![], 2), Queue::new(vec![3], 2)];
        stages.tests_in_lanes(&queues, |n| format!("job {n}"), act);
        let names: Vec<_> = stages.done.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names, ["job 1", "job 2", "job 3"]);
        assert!(stages.render().contains("total: 6 tests passed"));
    }

    #[test]
    fn a_broken_stage_fails_and_the_next_still_runs() {
        let mut stages = Stages::default();
        stages.check("broken", || bail!("no"));
        stages.test("next", || Ok(ran(2, 0)));
        assert_eq!(stages.done[0].why(), "no");
        let error = stages.finish().expect_err("one stage is broken").to_string();
        assert!(error.contains("broken") && !error.contains("next"), "{error}");
        assert!(stages.render().contains("total: 2 tests passed, 0 failed"));
    }
}
