//! What this kernel and these privileges allow, asked once, before anything is decided.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    thread::{self, JoinHandle},
};

use super::{
    KernelBtf, Preemption, Symbols, Tracefs,
    bpf::{self, ProgramKind, instruction},
    limit_may_refuse, offsets, preemption,
};

/// Why a kind of hook is not to be had: fact, and what would change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub String);

/// The kernel's answers.
pub struct Facts {
    /// `uname -r`.
    pub release: String,
    /// Type information.
    pub btf: KernelBtf,
    /// Whether fentry and fexit programs load.
    pub tracing: Result<(), Refused>,
    /// Whether kprobes can be opened.
    pub kprobes: Result<(), Refused>,
    /// Where perf tracepoints get their ids.
    pub tracefs: Result<Tracefs, Refused>,
    /// Addresses of symbols.
    pub symbols: Symbols,
    /// Who may be stopped inside a hook.
    pub preemption: Preemption,
    /// The hook that `tracing` was tried with.
    pub tried: Detaching,
}

/// Whether the switch is off without which no hook on a function's entry fires: `kernel.ftrace_enabled`, which is not there where
/// the kernel has no such hooks. None is tried then: 5.10 and 6.12 attach some or all of them all the same, and 6.1 gave up
/// ftrace for good after that.
fn read_ftrace() -> Result<(), Refused> {
    let switch = fs::read("/proc/sys/kernel/ftrace_enabled");
    if switch.is_ok_and(|value| value.trim_ascii() == b"0") {
        let why = "no hook on a function fires while kernel.ftrace_enabled is 0: set it to 1";
        return Err(Refused(why.to_owned()));
    }
    Ok(())
}

/// A hook that is being taken out of the kernel again, which takes it some tenths of a second: until it has run all tasks.
/// Waited for when this is dropped.
#[derive(Default)]
pub struct Detaching(Option<JoinHandle<()>>);

impl Detaching {
    fn begin(link: OwnedFd) -> Self {
        // Where there is no thread to be had, it is waited for at once.
        Self(thread::Builder::new().name("detach".into()).spawn(move || drop(link)).ok())
    }
}

impl Drop for Detaching {
    fn drop(&mut self) {
        // It does nothing that could panic.
        let _done = self.0.take().map(JoinHandle::join);
    }
}

impl Facts {
    /// Asks the running kernel. `btf` was opened before, because its absence is an error; it will be asked for
    /// these functions and tracepoints.
    pub fn read(btf: KernelBtf, functions: &[&str], tracepoints: &[&str]) -> Self {
        let types: Vec<_> = tracepoints.iter().map(|it| KernelBtf::tracepoint_type(it)).collect();
        let mut names = vec![TRACED];
        names.extend(preemption::NAMES);
        names.extend(types.iter().map(String::as_str));
        names.extend_from_slice(functions);
        names.extend(offsets::names());
        btf.look_up(&names);
        let ftrace = read_ftrace();
        let (tracing, tried) = match ftrace.clone().and_then(|()| read_tracing(&btf)) {
            Ok(tried) => (Ok(()), tried),
            Err(refused) => (Err(refused), Detaching::default()),
        };
        let pmu = Path::new("/sys/bus/event_source/devices/kprobe");
        let kprobes = ftrace.and_then(|()| read_kprobes(pmu));
        let symbols = Symbols::find(Path::new("/proc/kallsyms"));
        let release = nix::sys::utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        let preemption = Preemption::read(&btf);
        let tracefs = Tracefs::find();
        Self { release, btf, tracing, kprobes, tracefs, symbols, preemption, tried }
    }
}

/// A function that the kernel has for such questions.
const TRACED: &str = "bpf_fentry_test1";
const PROGRAM_TYPE_TRACING: u32 = 26;
const TRACE_FENTRY: u32 = 24;
/// What the verifier says of a tracing program for no function: it knows the type.
const NO_FUNCTION: &[u8] = b"Tracing programs must provide btf_id";

/// How a kernel answers that has no such programs, or gives none; libc does not know the last.
const REFUSALS: [(i32, &str); 5] = [
    (libc::EPERM, "EPERM"),
    (libc::EACCES, "EACCES"),
    (libc::EINVAL, "EINVAL"),
    (libc::E2BIG, "E2BIG"),
    (524, "ENOTSUPP"),
];

fn read_tracing(btf: &KernelBtf) -> Result<Detaching, Refused> {
    tries_tracing(btf.function_id(TRACED).unwrap_or(0)).map_err(|(step, error)| {
        let refusal = REFUSALS.iter().find(|(errno, _)| error.raw_os_error() == Some(*errno));
        let Some((_, name)) = refusal else {
            return Refused(format!(
                "asking the kernel for BPF programs of type tracing (fentry, fexit) failed: {step} one: {error}"
            ));
        };
        let limit = limit_may_refuse(&error).map(|limit| format!(", or, {limit}"));
        Refused(format!(
            "this kernel refuses BPF programs of type tracing (fentry, fexit) although the privileges are there \
             ({step} one gives {name}); it was built without them, or a security policy forbids them{}",
            limit.unwrap_or_default()
        ))
    })
}

/// Whether a tracing program loads and attaches; if not, which of it failed.
fn tries_tracing(function: u32) -> Result<Detaching, (&'static str, io::Error)> {
    let kind = ProgramKind {
        program_type: PROGRAM_TYPE_TRACING,
        attach_type: TRACE_FENTRY,
        flags: 0,
        function,
    };
    let mut log = [0; 256];
    let program = match bpf::load(kind, &[instruction::set(0, 0), instruction::exit()], &mut log) {
        Ok(program) => program,
        Err(_) if log.starts_with(NO_FUNCTION) => return Ok(Detaching::default()),
        Err(error) => return Err(("loading", error)),
    };
    let link = bpf::attach(program.as_fd()).map_err(|error| ("attaching", error))?;
    Ok(Detaching::begin(link))
}

fn read_kprobes(pmu: &Path) -> Result<(), Refused> {
    if pmu.exists() {
        return Ok(());
    }
    Err(Refused(format!(
        "this kernel has no kprobes ({} is missing); it would need CONFIG_KPROBES and \
         CONFIG_KPROBE_EVENTS",
        pmu.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_kprobes_is_said_to_have_none() {
        let refused = read_kprobes(Path::new("/no/such/pmu"));
        assert!(refused.is_err_and(|Refused(why)| why.contains("CONFIG_KPROBES")));
    }
}
