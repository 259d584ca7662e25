//! What this kernel and these privileges allow, asked once, before anything is decided.

use std::path::Path;

use aya::{programs::ProgramType, sys::is_program_supported};

use super::{KernelBtf, Preemption, Symbols, Tracefs};

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
}

impl Facts {
    /// Asks the running kernel. `btf` was opened before, because its absence is an error.
    pub fn read(btf: KernelBtf) -> Self {
        let tracing = read_tracing();
        let kprobes = read_kprobes(Path::new("/sys/bus/event_source/devices/kprobe"));
        let symbols = Symbols::read(Path::new("/proc/kallsyms"));
        let release = nix::sys::utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        let preemption = Preemption::read(&btf);
        let tracefs = Tracefs::find();
        Self { release, btf, tracing, kprobes, tracefs, symbols, preemption }
    }
}

fn read_tracing() -> Result<(), Refused> {
    let refused = "this kernel refuses BPF programs of type tracing (fentry, fexit) although the \
                   privileges are there; it was built without them, or a security policy forbids \
                   them";
    match is_program_supported(ProgramType::Tracing) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Refused(refused.into())),
        Err(error) if errno_of(&error) == Some(libc::EPERM) => Err(Refused(refused.into())),
        Err(error) => Err(Refused(format!(
            "asking the kernel for BPF programs of type tracing (fentry, fexit) failed: {error}"
        ))),
    }
}

/// The system's error number behind an error, however deep.
fn errno_of(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.raw_os_error();
        }
        current = error.source();
    }
    None
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
