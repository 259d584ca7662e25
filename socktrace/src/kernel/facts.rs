//! What this kernel and these privileges allow, asked once, before anything is decided.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use aya::{programs::ProgramType, sys::is_program_supported};

use super::{KernelBtf, Tracefs};

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
    /// Address of `__per_cpu_offset`, needed to read per-CPU counters.
    pub per_cpu_offset: Result<u64, Refused>,
}

impl Facts {
    /// Asks the running kernel. `btf` was opened before, because its absence is an error.
    pub fn read(btf: KernelBtf) -> Self {
        let tracing = read_tracing();
        let kprobes = read_kprobes(Path::new("/sys/bus/event_source/devices/kprobe"));
        let per_cpu_offset = if tracing.is_ok() || kprobes.is_ok() {
            read_symbol(Path::new("/proc/kallsyms"), "__per_cpu_offset")
        } else {
            Err(Refused("not looked for: only the fentry and kprobe tiers use it".into()))
        };
        let release = nix::sys::utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        Self { release, btf, tracing, kprobes, tracefs: Tracefs::find(), per_cpu_offset }
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

/// Finds a symbol's address; 0 is how the kernel hides it.
fn read_symbol(kallsyms: &Path, symbol: &str) -> Result<u64, Refused> {
    let file = File::open(kallsyms)
        .map_err(|error| Refused(format!("cannot read {}: {error}", kallsyms.display())))?;
    let address = BufReader::new(file)
        .split(b'\n')
        .map_while(Result::ok)
        .find_map(|line| parse_symbol(&line, symbol));
    match address {
        Some(0) => Err(Refused(
            "the kernel hides symbol addresses; set sysctl kernel.kptr_restrict to 0 or 1 and \
             give CAP_SYSLOG"
                .into(),
        )),
        Some(address) => Ok(address),
        None => Err(Refused(format!(
            "{} does not list {symbol}; the kernel would need CONFIG_KALLSYMS_ALL",
            kallsyms.display()
        ))),
    }
}

/// `ffffffff82c0d2a0 D __per_cpu_offset`, exactly: suffixed and module symbols are others.
fn parse_symbol(line: &[u8], symbol: &str) -> Option<u64> {
    let rest = line.strip_suffix(symbol.as_bytes())?;
    let text = std::str::from_utf8(rest).ok()?;
    let mut fields = text.split(' ');
    let address = u64::from_str_radix(fields.next()?, 16).ok()?;
    (fields.next()?.len() == 1 && fields.next() == Some("") && fields.next().is_none())
        .then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_line_is_matched_whole() {
        let parse = |line: &str| parse_symbol(line.as_bytes(), "__per_cpu_offset");
        assert_eq!(parse("ffffffff82c0d2a0 D __per_cpu_offset"), Some(0xffff_ffff_82c0_d2a0));
        assert_eq!(parse("0000000000000000 D __per_cpu_offset"), Some(0));
        assert_eq!(parse("ffffffff82c0d2a0 D my__per_cpu_offset"), None);
        assert_eq!(parse("ffffffff82c0d2a0 D __per_cpu_offset\t[mod]"), None);
        assert_eq!(parse("garbage"), None);
    }

    #[test]
    fn a_kernel_without_kprobes_is_said_to_have_none() {
        let refused = read_kprobes(Path::new("/no/such/pmu"));
        assert!(refused.is_err_and(|Refused(why)| why.contains("CONFIG_KPROBES")));
    }
}
