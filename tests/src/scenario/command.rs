//! What a command is run with, as it sees that itself, and commands that end in ways of their own.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use serde::{Deserialize, Serialize};

use super::gate::Gate;

/// What `scenario inherits` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inherited {
    /// Lines of `/proc/self/status` about users, signals and capabilities, by name.
    pub status: BTreeMap<String, String>,
    /// Whether SIGPIPE was ignored before Rust's own start, which ignores it.
    pub ignores_sigpipe: bool,
    /// `RLIMIT_MEMLOCK`, soft and hard.
    pub locked_memory: (u64, u64),
    /// Open descriptors, but for the one that lists them.
    pub descriptors: Vec<u32>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
}

/// Lines of the status that exec hands on, or makes.
const HANDED_ON: [&str; 13] = [
    "Uid",
    "Gid",
    "Groups",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
];

static SIGPIPE_AT_START: AtomicBool = AtomicBool::new(false);

extern "C" fn remember_sigpipe() {
    // SAFETY: an empty sigaction is a valid one to write to, and nothing is set.
    let ignored = unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), &raw mut now) == 0
            && now.sa_sigaction == libc::SIG_IGN
    };
    SIGPIPE_AT_START.store(ignored, Ordering::Relaxed);
}

// SAFETY: called once before `main`, without arguments; it needs nothing that is set up later.
#[used]
#[unsafe(link_section = ".init_array")]
static REMEMBER: extern "C" fn() = remember_sigpipe;

/// What this process was run with.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn inherited() -> Result<Inherited> {
    let text = std::fs::read_to_string("/proc/self/status").context("status")?;
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let status = lines
        .filter(|(name, _)| HANDED_ON.contains(name))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut descriptors = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").context("descriptors")? {
        let entry = entry.context("a descriptor")?;
        let number = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let leads_to_the_list = std::fs::read_link(entry.path()).is_ok_and(|to| to.ends_with("fd"));
        descriptors.extend(number.filter(|_| !leads_to_the_list));
    }
    descriptors.sort_unstable();
    let ignores_sigpipe = SIGPIPE_AT_START.load(Ordering::Relaxed);
    let locked_memory = getrlimit(Resource::RLIMIT_MEMLOCK).context("RLIMIT_MEMLOCK")?;
    let environment = std::env::vars().collect();
    Ok(Inherited { status, ignores_sigpipe, locked_memory, descriptors, environment })
}

/// A server that goes to the background: this process ends, its child lives on for a while.
///
/// # Errors
/// When there can be no child.
pub fn leave_child(ms: &str) -> Result<()> {
    let own = std::env::current_exe().context("where am I")?;
    let mut child = Command::new(own);
    child.args(["sleep", ms]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    child.process_group(0).spawn().context("a child")?;
    Ok(())
}

/// Is deaf to Ctrl-C, and waits at its gate.
///
/// # Errors
/// When leave does not come.
pub fn deaf(gate: &Gate) -> Result<()> {
    // SAFETY: ignored; no handler runs.
    unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) }.context("SIGINT")?;
    gate.arrive()
}
