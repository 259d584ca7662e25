//! Who may be stopped inside a BPF program on this kernel: the kernel then skips that program for everybody else on
//! the CPU, and what only it sees is missed.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use flate2::read::GzDecoder;

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
        let Ok(name) = nix::sys::utsname::uname() else { return Self::Tracing };
        let (version, release) = (name.version().to_string_lossy(), name.release());
        let chosen = || {
            let now = read_chosen(Path::new(DEBUGFS)).ok();
            let now = now.as_deref().and_then(parse_chosen).map(str::to_owned);
            now.or_else(|| read_chosen_at_boot(&release.to_string_lossy()))
        };
        if preempts_kernel_code(&version, chosen) { Self::Tracing } else { Self::Nobody }
    }
}

/// A type of kernels that preempt the hooks of tracepoints, and a field of those that do not.
const SRCU_GUARD: &str = "class_srcu_fast_notrace_t";
const OLDER: (&str, &str) = ("task_struct", "trc_reader_special");

/// Every type that is asked for by its name.
pub(super) const NAMES: [&str; 2] = [SRCU_GUARD, OLDER.0];

/// 7.2 guards tracepoints with SRCU instead of turning preemption off, 6.18 does not: what the BTF has of that, and of
/// what 7.2 has no more, tells. A kernel of which neither is known may do it.
fn preempts_tracepoints(btf: &KernelBtf) -> bool {
    let guarded_by_srcu = btf.has_type(SRCU_GUARD);
    let is_older = btf.field_offset(OLDER.0, &[OLDER.1]).is_some();
    guarded_by_srcu || !is_older
}

/// Whether threads are preempted in kernel code: `version` (`uname -v`) says so where it was decided when the kernel
/// was built (`init/Makefile`). With `PREEMPT_DYNAMIC`, it is what was `chosen`, at boot or later.
fn preempts_kernel_code(version: &str, chosen: impl FnOnce() -> Option<String>) -> bool {
    let mut words = version.split_ascii_whitespace().filter(|word| word.starts_with("PREEMPT"));
    match words.next() {
        None => false,
        Some("PREEMPT_DYNAMIC") => !matches!(chosen().as_deref(), Some("none" | "voluntary")),
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

/// Where debugfs does not tell, nobody is taken to have changed by it what was chosen at boot.
fn read_chosen_at_boot(release: &str) -> Option<String> {
    let cmdline = fs::read_to_string("/proc/cmdline").ok()?;
    let config = fs::read_to_string(format!("/boot/config-{release}"))
        .or_else(|_| read_own_config(Path::new("/proc/config.gz")))
        .ok()?;
    parse_chosen_at_boot(&config, &cmdline).map(str::to_owned)
}

/// The kernel's copy of its configuration, of which it has one with `CONFIG_IKCONFIG_PROC`.
fn read_own_config(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    // Far more than any: it is the kernel's, but a limit costs nothing.
    GzDecoder::new(fs::File::open(path)?).take(4 << 20).read_to_string(&mut text)?;
    Ok(text)
}

/// `preempt=` on the command line, of which the last one counts, or else what was configured
/// (`preempt_dynamic_init` in `kernel/sched/core.c`).
fn parse_chosen_at_boot<'a>(config: &str, cmdline: &'a str) -> Option<&'a str> {
    const CONFIGURED: [(&str, &str); 4] = [
        ("CONFIG_PREEMPT_NONE=y", "none"),
        ("CONFIG_PREEMPT_VOLUNTARY=y", "voluntary"),
        ("CONFIG_PREEMPT_LAZY=y", "lazy"),
        ("CONFIG_PREEMPT=y", "full"),
    ];
    let words = cmdline.split_ascii_whitespace();
    let asked = words.filter_map(|word| word.strip_prefix("preempt=")).next_back();
    asked.or_else(|| {
        let set = |(line, _): &&(&str, &str)| config.lines().any(|other| other == *line);
        CONFIGURED.iter().find(set).map(|(_, chosen)| *chosen)
    })
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
        assert!(!preempts(version, Some("voluntary")));
        assert!(!preempts(version, Some("none")));
        assert!(preempts(version, Some("full")));
        assert!(preempts(version, Some("lazy")));
        assert!(preempts(version, Some("whatever comes next")));
        assert!(preempts(version, None));
    }

    #[test]
    fn the_choice_stands_in_parentheses() {
        assert_eq!(parse_chosen("none (voluntary) full \n"), Some("voluntary"));
        assert_eq!(parse_chosen("(none) voluntary full lazy"), Some("none"));
        assert_eq!(parse_chosen("nothing of the kind"), None);
    }

    #[test]
    fn what_was_asked_for_at_boot_goes_before_what_was_configured() {
        let config = "# CONFIG_PREEMPT_NONE is not set\nCONFIG_PREEMPT_VOLUNTARY=y\nCONFIG_PREEMPT_DYNAMIC=y\n";
        assert_eq!(parse_chosen_at_boot(config, "quiet root=/dev/vda"), Some("voluntary"));
        assert_eq!(parse_chosen_at_boot(config, "preempt=none preempt=full quiet"), Some("full"));
        assert_eq!(parse_chosen_at_boot("CONFIG_PREEMPT=y", ""), Some("full"));
        assert_eq!(parse_chosen_at_boot("CONFIG_HZ=250", ""), None);
    }
}
