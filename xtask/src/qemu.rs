//! One QEMU run: boots an image, streams its serial console, and ends it by its process id.
//!
//! Knows nothing of tests: it gives the console's lines and how the run ended.

use std::fs::File;
use std::io::{self, Read, Write as _, stdout};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use crate::process;

const QEMU: &str = "qemu-system-x86_64";
const KVM: &str = "kvm";
const TCG: &str = "tcg,thread=single";
/// A kernel needs a second or two to find that it has no root.
const KVM_BOOTS_WITHIN: Duration = Duration::from_secs(20);

/// What to boot.
pub(crate) struct Guest<'a> {
    /// What each line is prefixed with.
    pub(crate) name: &'a str,
    /// The kernel image.
    pub(crate) image: &'a Path,
    /// The initramfs.
    pub(crate) initramfs: &'a Path,
    /// Appended to the kernel's command line.
    pub(crate) parameters: &'a str,
    /// Where the console is kept.
    pub(crate) log: &'a Path,
    /// After this the guest counts as hung and is killed.
    pub(crate) timeout: Duration,
    /// What its time is.
    pub(crate) time: Time,
}

/// What a guest's clocks count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Time {
    /// Time as it goes by, on two CPUs.
    Real,
    /// The instructions that its one CPU executes, a nanosecond each: the same on every machine. When
    /// it sleeps, time goes on at once to what wakes it.
    Instructions,
}

/// How a run ended.
pub(crate) struct Run {
    /// The console, line by line.
    pub(crate) lines: Vec<String>,
    /// It did not end in time; the last, unfinished line tells where.
    pub(crate) hung: bool,
}

/// Boots `guest` and waits for its end, or for the timeout.
pub(crate) fn boot(guest: &Guest<'_>) -> Result<Run> {
    let console = Console::new(guest)?;
    let mut child = spawn(guest)?;
    let output = child.stdout.take().context("a piped stdout is missing")?;
    let followed = console.follow(&stream(output), Instant::now() + guest.timeout);
    // On every way out: a guest must not outlive its test.
    if followed.as_ref().map_or(true, |run| run.hung) {
        child.kill().context("QEMU cannot be killed")?;
    }
    child.wait().context("QEMU cannot be waited for")?;
    followed
}

fn spawn(guest: &Guest<'_>) -> Result<Child> {
    // An oops in the guest ends the run: it would be socktrace's doing. `-no-reboot` makes a panic an exit.
    // On a busy machine an emulated timer ticks too late for the kernel's check of it, which then
    // panics at boot: the check is left out, as the kernel itself does under KVM.
    let append =
        format!("console=ttyS0 panic=-1 oops=panic no_timer_check quiet {}", guest.parameters);
    let mut command = Command::new(QEMU);
    let accelerator = match guest.time {
        Time::Real => accelerator(guest.image),
        Time::Instructions => TCG,
    };
    let cpu = if accelerator == KVM { "max" } else { &without_fast_strings()? };
    command.args(["-accel", accelerator, "-cpu", cpu]);
    match guest.time {
        Time::Real => command.args(["-smp", "2", "-m", "1G"]),
        Time::Instructions => {
            command.args(["-icount", "shift=0,sleep=off", "-smp", "1", "-m", "2G"])
        }
    };
    command.args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]);
    command.arg("-kernel").arg(guest.image).arg("-initrd").arg(guest.initramfs);
    command.args(["-append", &append]).stdin(Stdio::null()).stdout(Stdio::piped());
    spawn_to_end_with_us(&mut command).with_context(|| process::cannot_start(QEMU))
}

/// Whoever kills us must not leave a guest behind.
fn spawn_to_end_with_us(command: &mut Command) -> io::Result<Child> {
    // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
    unsafe {
        command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?));
    }
    command.spawn()
}

/// What makes kernels move and clear bytes by `rep movsb` and `rep stosb`. An emulated CPU does that byte by byte, and under
/// `-icount` each byte counts as an instruction; without these, it takes eight at a time.
const FAST_STRINGS: &[&str] = &["erms", "fsrm", "fzrm", "fsrs", "fsrc"];

/// A CPU that has everything else, among what this QEMU knows.
fn without_fast_strings() -> Result<String> {
    let known = process::capture(Command::new(QEMU).args(["-cpu", "help"]))?;
    let known: Vec<&str> = known.split_ascii_whitespace().collect();
    let off = FAST_STRINGS.iter().filter(|name| known.contains(name));
    Ok(off.fold("max".to_owned(), |cpu, name| format!("{cpu},-{name}")))
}

/// `kvm` where a kernel really boots with it, else `tcg`: the device may be there and QEMU refuse it, or a hypervisor
/// that emulates what the CPU cannot do may fail at the first instruction that it does not know (`cmpxchg16b`). Tried
/// once, with the kernel of the first guest.
///
/// Emulated CPUs take turns on one thread ([`TCG`]). On a thread each, QEMU 7.2 goes on executing code that the
/// guest has patched: a breakpoint at a hooked function that is long gone, for ever (see
/// `docs/journal/emulated-code-patching.md`).
fn accelerator(image: &Path) -> &'static str {
    static CHOSEN: OnceLock<&str> = OnceLock::new();
    CHOSEN.get_or_init(|| if boots_with_kvm(image) { KVM } else { TCG })
}

/// Whether a kernel without a root comes to its panic, and so to the end of QEMU.
fn boots_with_kvm(image: &Path) -> bool {
    let mut probe = Command::new(QEMU);
    probe.args(["-accel", KVM, "-smp", "2", "-m", "1G", "-cpu", "max"]);
    probe.args(["-nodefaults", "-no-reboot", "-display", "none"]);
    probe.arg("-kernel").arg(image).args(["-append", "panic=-1 quiet"]);
    probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = spawn_to_end_with_us(&mut probe) else { return false };
    let deadline = Instant::now() + KVM_BOOTS_WITHIN;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => thread::sleep(Duration::from_millis(20)),
            Err(_) => break,
        }
    }
    let _may_have_ended = child.kill();
    let _status = child.wait();
    false
}

/// Reads in pieces, not lines: a hung test leaves its name in an unfinished line.
fn stream(mut output: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The guest's console: cut into lines, shown with the guest's name, and kept in a file.
struct Console {
    prefix: String,
    log: File,
    lines: Vec<String>,
    unfinished: Vec<u8>,
}

impl Console {
    fn new(guest: &Guest<'_>) -> Result<Self> {
        let log = File::create(guest.log)
            .with_context(|| format!("{} was not made", guest.log.display()))?;
        let prefix = format!("[{}] ", guest.name);
        Ok(Self { prefix, log, lines: Vec::new(), unfinished: Vec::new() })
    }

    fn follow(mut self, pieces: &Receiver<Vec<u8>>, deadline: Instant) -> Result<Run> {
        let hung = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match pieces.recv_timeout(left) {
                Ok(piece) => self.take(&piece)?,
                Err(RecvTimeoutError::Timeout) => break true,
                Err(RecvTimeoutError::Disconnected) => break false,
            }
        };
        if !self.unfinished.is_empty() {
            self.finish_line()?;
        }
        Ok(Run { lines: self.lines, hung })
    }

    fn take(&mut self, piece: &[u8]) -> Result<()> {
        self.log.write_all(piece).context("the console log cannot be written")?;
        for byte in piece {
            if *byte == b'\n' {
                self.finish_line()?;
            } else {
                self.unfinished.push(*byte);
            }
        }
        Ok(())
    }

    fn finish_line(&mut self) -> Result<()> {
        let line = String::from_utf8_lossy(&self.unfinished);
        let line = line.trim_end_matches('\r').to_owned();
        writeln!(stdout(), "{}{line}", self.prefix)?;
        self.lines.push(line);
        self.unfinished.clear();
        Ok(())
    }
}
