//! PID 1 of a test VM: makes a bare kernel into a place where the kernel tests run, runs them (or what
//! measures the cost of tracing), prints one verdict line and powers off.
//!
//! There is no shell and no other program in the initramfs. `cargo xtask test vm` and `cargo xtask bench`
//! pack it (see `xtask/src/vm.rs`) and read the verdict; a missing one is a failure, so this never exits otherwise.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write as _, stdout};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::utsname::uname;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, sethostname};
use socktrace_tests::scenario::netns::bring_up_loopback;

/// Filesystem type and where it goes.
const MOUNTS: &[(&str, &str)] = &[
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("tracefs", "/sys/kernel/tracing"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
];

const TESTS: &str = "/bin/kernel-tests";
const BENCH: &str = "/bin/bench";
const SOCKTRACE: &str = "/bin/socktrace";

const ENVIRONMENT: &[(&str, &str)] = &[
    ("HOME", "/root"),
    ("PATH", "/bin"),
    ("RUST_BACKTRACE", "1"),
    ("RUST_LIB_BACKTRACE", "0"),
    ("SOCKTRACE_BIN", SOCKTRACE),
    ("SOCKTRACE_KERNELS", "/etc/kernels.toml"),
    ("SOCKTRACE_SCENARIO", "/bin/scenario"),
    ("TMPDIR", "/tmp"),
];

/// What the kernel's command line asks for.
struct Run {
    /// Its row in the table.
    kernel: String,
    /// Only tests whose name contains this.
    filter: Option<String>,
    /// Beginnings of the names of tests to leave out, separated by commas.
    skip: Option<String>,
    /// Everything, and what this kernel gives, instead of a representative part.
    full: bool,
    /// A plan of what to measure, instead of any test.
    bench: Option<String>,
}

/// What the tests came to.
#[derive(Default)]
struct Totals {
    passed: u64,
    failed: u64,
}

fn main() {
    let prepared = prepare();
    // Without /proc there is no command line, and the verdict still has to name something.
    let parameter = |key| parameter(&fs::read_to_string("/proc/cmdline").unwrap_or_default(), key);
    let kernel = parameter("socktrace.kernel").unwrap_or_else(|| "unknown".to_owned());
    let run = Run {
        kernel: kernel.clone(),
        filter: parameter("socktrace.filter"),
        skip: parameter("socktrace.skip"),
        full: parameter("socktrace.full").is_some(),
        bench: parameter("socktrace.bench"),
    };
    let (totals, ok) = prepared.and_then(|()| run.execute()).unwrap_or_else(|error| {
        println!("vm-init: {error:#}");
        (Totals::default(), false)
    });
    // A test may have left the console in the middle of a line.
    println!(
        "\nSOCKTRACE-VM-VERDICT kernel={kernel} passed={} failed={} status={}",
        totals.passed,
        totals.failed,
        if ok { "ok" } else { "fail" }
    );
    power_off();
}

fn prepare() -> Result<()> {
    for (kind, target) in MOUNTS {
        // /sys/fs/cgroup and the like come with the mounts above them; /tmp is in the archive.
        if *kind == "devpts" {
            fs::create_dir_all(target).with_context(|| (*target).to_owned())?;
        }
        mount(Some(*kind), *target, Some(*kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("{kind} was not mounted on {target}"))?;
    }
    // As distributions have it.
    let links = "/proc/sys/fs/protected_symlinks";
    fs::write(links, "1").context(links)?;
    // As systemd does.
    let control = "/sys/fs/cgroup/cgroup.subtree_control";
    fs::write(control, "+cpu +memory").context(control)?;
    sethostname("socktrace-vm").context("the host name was not set")?;
    load_modules()?;
    bring_up_loopback()
}

/// The value of `key=` on the kernel's command line.
fn parameter(command_line: &str, key: &str) -> Option<String> {
    let mut pairs = command_line.split_whitespace().filter_map(|word| word.split_once('='));
    pairs.find_map(|(name, value)| (name == key).then(|| value.to_owned()))
}

/// Loads what /modules.list names, in its order.
fn load_modules() -> Result<()> {
    let list = fs::read_to_string("/modules.list").context("/modules.list cannot be read")?;
    let none = CString::default();
    for path in list.lines() {
        let module = File::open(path).with_context(|| format!("{path} cannot be opened"))?;
        let (fd, flags) = (module.as_raw_fd(), 0);
        // SAFETY: the descriptor is open and the parameters are a NUL-terminated string, both for
        // the length of the call.
        let result = unsafe { libc::syscall(libc::SYS_finit_module, fd, none.as_ptr(), flags) };
        Errno::result(result).with_context(|| format!("{path} was not loaded"))?;
    }
    Ok(())
}

impl Run {
    /// Says which kernel this is, and runs the tests to their end; the flag says whether they all passed.
    fn execute(&self) -> Result<(Totals, bool)> {
        let uname = uname().context("the kernel does not say its release")?;
        let (release, build) =
            (uname.release().to_string_lossy(), uname.version().to_string_lossy());
        println!("SOCKTRACE-VM-KERNEL {release} {build}");
        if self.full {
            println!("SOCKTRACE-VM-CHECK {}", check()?);
        }
        match &self.bench {
            Some(plan) => measure(plan),
            None => run_tests(self.tests()),
        }
    }

    fn tests(&self) -> Command {
        let mut command = Command::new(TESTS);
        command.arg("--test-threads=1").args(self.filter.as_deref());
        for name in self.skip.iter().flat_map(|names| names.split(',')) {
            command.args(["--skip", name]);
        }
        command.env_clear().envs(ENVIRONMENT.iter().copied()).env("SOCKTRACE_KERNEL", &self.kernel);
        if self.full {
            command.env("SOCKTRACE_FULL", "1");
        }
        command
    }
}

/// Measures what the plan says; that counts as one test.
fn measure(plan: &str) -> Result<(Totals, bool)> {
    // Some tracers look for tracefs below it only.
    mount(Some("debugfs"), "/sys/kernel/debug", Some("debugfs"), MsFlags::empty(), None::<&str>)
        .context("debugfs was not mounted")?;
    let mut command = Command::new(BENCH);
    command.arg(plan).env_clear().envs(ENVIRONMENT.iter().copied()).stdin(Stdio::null());
    let status = command.status().with_context(|| format!("{BENCH} did not start"))?;
    end_leftovers();
    let ok = status.success();
    Ok((Totals { passed: ok.into(), failed: (!ok).into() }, ok))
}

/// What `socktrace check` says of this kernel, as JSON in one line.
fn check() -> Result<serde_json::Value> {
    let output = Command::new(SOCKTRACE).args(["check", "--json"]).output();
    let output = output.with_context(|| format!("{SOCKTRACE} did not start"))?;
    serde_json::from_slice(&output.stdout).with_context(|| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        format!("`{SOCKTRACE} check --json` printed no JSON ({}): {stderr}", output.status)
    })
}

fn run_tests(mut command: Command) -> Result<(Totals, bool)> {
    let mut child = command
        .current_dir("/tmp")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{TESTS} did not start"))?;
    let output = child.stdout.take().context("a piped stdout is missing")?;
    let reader = thread::spawn(move || stream(output));
    let status = reap_until(Pid::from_raw(child.id().cast_signed()))?;
    end_leftovers();
    let Ok(text) = reader.join() else { bail!("the tests' output was not read to its end") };
    let totals = parse_totals(&text?);
    if !status.success() {
        println!("vm-init: {TESTS}: {status}");
    }
    let ok = status.success() && totals.failed == 0 && totals.passed > 0;
    Ok((totals, ok))
}

/// Shows the output as it comes, unfinished lines too (they name a test that hangs), and keeps it.
fn stream(mut output: ChildStdout) -> Result<String> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = output.read(&mut buffer).context("the tests' output cannot be read")?;
        if length == 0 {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        stdout().write_all(&buffer[..length]).and_then(|()| stdout().flush())?;
        text.extend_from_slice(&buffer[..length]);
    }
}

/// Waits for `wanted`, and meanwhile for every orphan that the kernel hands to PID 1.
fn reap_until(wanted: Pid) -> Result<ExitStatus> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == wanted => {
                return Ok(ExitStatus::from_raw(code << 8));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == wanted => {
                return Ok(ExitStatus::from_raw(signal as i32));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("the tests cannot be waited for"),
        }
    }
}

/// Kills what the tests left running: it may hold their stdout open.
fn end_leftovers() {
    // From PID 1, -1 means every other process. ESRCH, when there is none, is as good.
    let _none_left = kill(Pid::from_raw(-1), Signal::SIGKILL);
    while !matches!(waitpid(None, None), Err(Errno::ECHILD)) {}
}

/// Adds up libtest's `test result:` lines.
fn parse_totals(text: &str) -> Totals {
    let mut totals = Totals::default();
    for (_, counts) in text.lines().filter_map(|line| line.split_once("test result: ")) {
        for (number, what) in counts
            .split(['.', ';'])
            .filter_map(|count| count.trim().split_once(' '))
            .filter_map(|(number, what)| Some((number.parse::<u64>().ok()?, what)))
        {
            match what {
                "passed" => totals.passed += number,
                "failed" => totals.failed += number,
                _ => {}
            }
        }
    }
    totals
}

/// Lets the console drain and turns the machine off. There is no way on from here.
fn power_off() -> ! {
    // SAFETY: tcdrain takes no pointer; stdout is open. Where it fails, output may be cut, no more.
    unsafe {
        libc::tcdrain(libc::STDOUT_FILENO);
    }
    let error = reboot(RebootMode::RB_POWER_OFF);
    println!("vm-init: the machine was not powered off: {error:?}");
    loop {
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_parameter_is_found_by_its_whole_name() {
        let line = "quiet socktrace.kernel=6.1 socktrace.filter=a=b\n";
        assert_eq!(parameter(line, "socktrace.kernel").as_deref(), Some("6.1"));
        assert_eq!(parameter(line, "socktrace.filter").as_deref(), Some("a=b"));
        assert_eq!(parameter(line, "kernel"), None);
    }

    #[test]
    fn result_lines_are_added_up() {
        let text = "test result: ok. 2 passed; 0 failed; 0 ignored; finished in 0.00s\n\
            noise\ntest result: FAILED. 1 passed; 3 failed; 0 ignored; finished in 0.00s\n";
        let totals = parse_totals(text);
        assert_eq!((totals.passed, totals.failed), (3, 3));
    }
}
