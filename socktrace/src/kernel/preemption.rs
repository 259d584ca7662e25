//! Who may be stopped inside a BPF program on this kernel: the kernel then skips that program for everybody else on
//! the CPU, and what only it sees is missed.

use std::{fs, io, path::Path};

use super::{KernelBtf, private_mount};

/// Where a kernel that can change its way of preempting says which it has.
const DEBUGFS: &str = "/sys/kernel/debug";

/// Each with what the one before it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preemption {
    /// Nobody: threads run kernel code until they give up the CPU by themselves. Softirqs interrupt all the same.
    Nobody,
    /// Threads that run fentry and fexit programs.
    Tracing,
    /// Threads that run hooks of tracepoints, too.
    Tracepoints,
}

impl Preemption {
    /// Asks the running kernel. What it does not tell, it is taken to do.
    pub(super) fn read(btf: &KernelBtf) -> Self {
        if preempts_tracepoints(btf) {
            return Self::Tracepoints;
        }
        let version = nix::sys::utsname::uname()
            .map(|name| name.version().to_string_lossy().into_owned())
            .unwrap_or_default();
        let chosen = || read_chosen(Path::new(DEBUGFS)).ok();
        if preempts_kernel_code(&version, chosen) { Self::Tracing } else { Self::Nobody }
    }
}

/// 7.2 guards tracepoints with SRCU instead of turning preemption off, 6.18 does not: what the BTF has of that, and of
/// what 7.2 has no more, tells. A kernel of which neither is known may do it.
fn preempts_tracepoints(btf: &KernelBtf) -> bool {
    let guarded_by_srcu = btf.has_type("class_srcu_fast_notrace_t");
    let is_older = btf.field_offset("task_struct", &["trc_reader_special"]).is_some();
    guarded_by_srcu || !is_older
}

/// Whether threads are preempted in kernel code: `version` (`uname -v`) says so where it was decided when the kernel
/// was built (`init/Makefile`). With `PREEMPT_DYNAMIC`, it is what was `chosen`, at boot or later.
fn preempts_kernel_code(version: &str, chosen: impl FnOnce() -> Option<String>) -> bool {
    let mut words = version.split_ascii_whitespace().filter(|word| word.starts_with("PREEMPT"));
    match words.next() {
        None => false,
        Some("PREEMPT_DYNAMIC") => {
            let chosen = chosen().as_deref().and_then(parse_chosen).map(str::to_owned);
            !matches!(chosen.as_deref(), Some("none" | "voluntary"))
        }
        Some(_) => true,
    }
}

/// The file's text (`none (voluntary) full lazy`); debugfs is mounted for this alone where it is not.
fn read_chosen(debugfs: &Path) -> io::Result<String> {
    let file = debugfs.join("sched/preempt");
    match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            private_mount::with("debugfs", DEBUGFS, || fs::read_to_string(&file))?
        }
        read => read,
    }
}

/// The word in parentheses.
fn parse_chosen(text: &str) -> Option<&str> {
    text.split_ascii_whitespace().find_map(|word| word.strip_prefix('(')?.strip_suffix(')'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preempts(version: &str, chosen: Option<&str>) -> bool {
        preempts_kernel_code(version, || chosen.map(str::to_owned))
    }

    #[test]
    fn a_kernel_that_was_built_one_way_says_so() {
        assert!(!preempts("#1 SMP Debian 5.10.262-1 (2026-07-01)", None));
        assert!(preempts("#1 SMP PREEMPT Debian 5.10.262-1", None));
        assert!(preempts("#1 SMP PREEMPT_RT Debian 6.1.192-2", None));
    }

    #[test]
    fn a_kernel_that_can_choose_has_chosen_or_is_taken_to_preempt() {
        let version = "#1 SMP PREEMPT_DYNAMIC Debian 6.12.95-1 (2026-07-05)";
        assert!(!preempts(version, Some("none (voluntary) full \n")));
        assert!(!preempts(version, Some("(none) voluntary full lazy")));
        assert!(preempts(version, Some("none voluntary (full)")));
        assert!(preempts(version, Some("none voluntary full (lazy)")));
        assert!(preempts(version, Some("nothing of the kind")));
        assert!(preempts(version, None));
    }
}
