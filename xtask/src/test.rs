//! `cargo xtask test`: the stages of a test run, in the order of what they cost.

use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use nix::unistd::geteuid;

use crate::bench::gate;
use crate::kernels::{self, Kernel, PREEMPT_FULL, Unpacked};
use crate::libtest::{self, Tested};
use crate::programs::{KERNEL_TEST, Programs, SERVERS_TEST};
use crate::results::{self, Row};
use crate::stages::{Queue, Stages};
use crate::{build_ebpf, docs, paths, process, setup, tools, vm};

/// `cargo xtask test`'s arguments.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to run.
    #[arg(default_value = "all")]
    part: Part,
    /// Boot only this kernel of tests/kernels.toml.
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// Run only kernel tests whose name contains this (host and vm, without servers), or only
    /// such tests of servers.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// In VMs, run every combination of tier and transport instead of a part of them, and record
    /// the results in docs/ (unless there is a filter, or --boot-with).
    #[arg(long)]
    full: bool,
    /// Boot with this on the kernel's command line, too, like preempt=full.
    #[arg(long, value_name = "PARAMETER")]
    boot_with: Option<String>,
    /// Kill a VM that has run this long: it hangs. Twice what a guest takes on a slow machine, if not given: 1800, with
    /// --full 7200.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Format, lints, licences, the committed object, and every test that needs no kernel.
    Unit,
    /// The kernel tests on this machine, and the tests with real servers (root).
    Host,
    /// The tests with real servers, on this machine (root).
    Servers,
    /// The kernel tests in QEMU, on each kernel of tests/kernels.toml.
    Vm,
    /// All of them.
    All,
}

impl Part {
    fn includes(self, part: Self) -> bool {
        self == Self::All || self == part
    }
}

impl Arguments {
    /// What traces this machine. A filter names kernel tests, unless only servers are asked for: a stage that runs no test fails.
    fn here(&self) -> Vec<Job> {
        let kernel = Job::Here("kernel tests: host", |built| &built.kernel_tests);
        let servers = Job::Here("real servers: host", |built| &built.server_tests);
        match self.part {
            Part::Unit | Part::Vm => Vec::new(),
            Part::Servers => vec![servers],
            Part::Host | Part::All if self.filter.is_some() => vec![kernel],
            Part::Host | Part::All => vec![kernel, servers],
        }
    }

    /// Whether guests run everything, or what is asked for by name.
    fn runs_all(&self) -> bool {
        self.full || self.filter.is_some()
    }

    /// Whether docs/ tell what guests found.
    fn records(&self) -> bool {
        self.full && self.filter.is_none() && self.boot_with.is_none()
    }

    fn guest_options(&self) -> vm::Options<'_> {
        let seconds = if self.full { 7200 } else { 1800 };
        vm::Options {
            filter: self.filter.as_deref(),
            timeout: Duration::from_secs(self.timeout.unwrap_or(seconds)),
            full: self.full,
            boot_with: self.boot_with.as_deref(),
        }
    }
}

/// Runs the stages, prints the totals, and fails when one of them failed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run(&setup::Arguments::default())?;
    let root = paths::workspace()?;
    let mut stages = Stages::default();
    if arguments.part.includes(Part::Unit) {
        unit(&root, &mut stages);
    }
    if arguments.part != Part::Unit {
        on_kernels(&root, arguments, &mut stages);
    }
    stages.finish()
}

fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = process::cargo();
    command.args(arguments).current_dir(root);
    command
}

fn unit(root: &Path, stages: &mut Stages) {
    let lint = ["clippy", "--workspace", "--exclude", "socktrace-ebpf", "--all-targets"];
    stages.check("format", || process::run(&mut cargo(root, &["fmt", "--all", "--check"])));
    stages.check("clippy", || process::run(cargo(root, &lint).args(["--", "-D", "warnings"])));
    stages.check("clippy: eBPF", || build_ebpf::clippy(root));
    stages.check("licences, bans, sources", || deny(root));
    stages.check("committed eBPF object", || build_ebpf::check(root));
    stages.check("generated docs", || docs::check(root));
    let exclude = ["--exclude", "socktrace-ebpf", "--exclude", "socktrace-tests"];
    stages.test("unit tests", || {
        libtest::run("", cargo(root, &["test", "--workspace", "--no-fail-fast"]).args(exclude))
    });
    stages.test("integration tests", || integration(root));
}

fn deny(root: &Path) -> Result<()> {
    let mut command = Command::new(tools::CARGO_DENY.require()?);
    process::run(
        command
            .args(["check", "--hide-inclusion-graph", "licenses", "bans", "sources"])
            .current_dir(root),
    )
}

/// The tests of the tests crate that need no kernel of their own.
fn integration(root: &Path) -> Result<Tested> {
    let programs = Programs::build(root)?;
    let mut command = cargo(root, &["test", "--no-fail-fast", "--package", "socktrace-tests"]);
    command.arg("--bins");
    if root.join("tests/src/lib.rs").is_file() {
        command.arg("--lib");
    }
    for name in test_names(&root.join("tests/tests"))? {
        if name != KERNEL_TEST && name != SERVERS_TEST {
            command.args(["--test", &name]);
        }
    }
    libtest::run("", programs.announce(root, &mut command))
}

/// The integration tests' names in `dir`: `name.rs`, or a directory `name` with a `main.rs`.
fn test_names(dir: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(dir).with_context(|| format!("{} cannot be read", dir.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let in_file = path.extension().is_some_and(|extension| extension == "rs");
        if in_file || path.join("main.rs").is_file() {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
    names.sort();
    Ok(names)
}

/// What is tested on one kernel.
enum Job {
    /// A test program that traces this machine.
    Here(&'static str, fn(&Programs) -> &Path),
    /// The kernel tests in a guest.
    Guest(Kernel, Unpacked),
}

fn on_kernels(root: &Path, arguments: &Arguments, stages: &mut Stages) {
    let mut programs = None;
    stages.check("programs", || {
        programs = Some(Programs::build(root)?);
        Ok(())
    });
    let Some(programs) = programs else { return };
    let has_guests = arguments.part.includes(Part::Vm);
    let guests = if has_guests {
        obtain_guests(root, arguments.kernel.as_deref(), stages)
    } else {
        Vec::new()
    };
    let runs = Runs { root, programs: &programs, arguments, recording: Mutex::new(()) };
    // Tests that trace this machine would see each other. Guests see nobody; an emulated one keeps one core busy.
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let queues = [Queue::new(arguments.here(), 1), Queue::new(guests, cores)];
    stages.tests_in_lanes(&queues, |job| runs.name(job), |job| runs.run(job));
    let narrowed = arguments.filter.as_deref().or(arguments.boot_with.as_deref());
    if has_guests && gate::applies(arguments.kernel.as_deref(), narrowed) {
        stages
            .test(&format!("what tracing costs: {}", gate::KERNEL), || gate::run(root, &programs));
    }
    if has_guests && arguments.records() {
        stages.check("results in docs/", || docs::update(root));
    }
}

/// How jobs run.
struct Runs<'a> {
    root: &'a Path,
    programs: &'a Programs,
    arguments: &'a Arguments,
    /// Held by who writes down a result.
    recording: Mutex<()>,
}

impl Runs<'_> {
    fn name(&self, job: &Job) -> String {
        match job {
            Job::Here(name, _) => (*name).to_owned(),
            Job::Guest(kernel, _) => match kernel.full_only.join(", ") {
                left_out if left_out.is_empty() || self.arguments.runs_all() => stage_name(kernel),
                left_out => format!("{} without {left_out}", stage_name(kernel)),
            },
        }
    }

    fn run(&self, job: &Job) -> Result<Tested> {
        match job {
            Job::Here(_, program) => self.here(program(self.programs)),
            Job::Guest(kernel, unpacked) => self.guest(kernel, unpacked),
        }
    }

    fn here(&self, program: &Path) -> Result<Tested> {
        if !geteuid().is_root() {
            bail!("these tests load eBPF programs, and this user is not root; run them as root");
        }
        let mut command = Command::new(program);
        command.current_dir(self.root.join("tests")).arg("--test-threads=1");
        command.args(&self.arguments.filter);
        libtest::run("[host] ", self.programs.announce(self.root, &mut command))
    }

    fn guest(&self, kernel: &Kernel, unpacked: &Unpacked) -> Result<Tested> {
        let start = Instant::now();
        let options = self.arguments.guest_options();
        let run = |options| vm::run(self.root, kernel, unpacked, self.programs, options);
        let mut found = run(&options);
        if self.arguments.records() && kernel.takes_preempt_full {
            let contended =
                vm::Options { filter: Some("stress"), boot_with: Some(PREEMPT_FULL), ..options };
            found = found.map(|found| found.and(run(&contended), PREEMPT_FULL));
        }
        if self.arguments.records() {
            // At once: a run takes hours, and may be ended before the others are through.
            let seconds = start.elapsed().as_secs();
            let row = Row::new(&kernel.name, &unpacked.package, seconds, &found);
            let _one_at_a_time = self.recording.lock().unwrap_or_else(PoisonError::into_inner);
            results::update(self.root, row)?;
        }
        found.map(|found| found.tested)
    }
}

fn stage_name(kernel: &Kernel) -> String {
    format!("kernel tests: {}", kernel.name)
}

/// The kernels that can be had. One that cannot is a stage of its own, failed if it is required.
fn obtain_guests(root: &Path, only: Option<&str>, stages: &mut Stages) -> Vec<Job> {
    let (mut guests, mut missing) = (Vec::new(), Vec::new());
    stages.check("kernel packages", || {
        for kernel in kernels::bootable(root, only)? {
            match kernel.obtain() {
                Ok(unpacked) => guests.push((kernel, unpacked)),
                Err(error) => missing.push((kernel, error)),
            }
        }
        Ok(())
    });
    for (kernel, error) in missing {
        if kernel.required {
            stages.check(&stage_name(&kernel), || Err(error));
        } else {
            stages.absent(&stage_name(&kernel), &error);
        }
    }
    // Those that have most to do come first, so that none of them is the last, alone; where hooks are doubled, all takes longer.
    guests.sort_by_key(|(kernel, _)| (kernel.full_only.len(), !kernel.preempts));
    guests.into_iter().map(|(kernel, unpacked)| Job::Guest(kernel, unpacked)).collect()
}
