//! `kernels.toml`: which kernel runs under test, what socktrace must manage there, and how much of it
//! this run tries.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The whole table.
#[derive(Clone, Debug, Deserialize)]
struct Table {
    kernel: Vec<Kernel>,
}

/// One kernel.
#[derive(Clone, Debug, Deserialize)]
pub struct Kernel {
    /// Its name in the table.
    pub name: String,
    /// The tiers that every signal can be forced to.
    pub tiers: Vec<String>,
    /// The transports that it has.
    #[serde(default = "both_transports")]
    pub transports: Vec<String>,
    /// Whether hooks on functions can be switched off.
    #[serde(default)]
    pub switches_ftrace: bool,
    /// Whether it preempts its own code by itself, where the table knows.
    preempts: Option<bool>,
    /// Tiers whose hooks this kernel may skip all at once under contention: what they miss then must be
    /// told, and no more than that may be missing.
    #[serde(default)]
    pub short_under_contention: Vec<String>,
    /// Whether connections that a closing listener leaves behind move to another of its group, where
    /// `net.ipv4.tcp_migrate_req` is set.
    #[serde(default = "yes")]
    pub migrates: bool,
    /// Whether it counts what it skips of kprobes and perf tracepoints.
    #[serde(default = "yes")]
    pub counts_skipped: bool,
    /// What its tracepoint tier can tell of one TCP listener's drops.
    pub tracepoint_drops: TracepointDrops,
    /// The tier that each signal gets by itself.
    pub auto: BTreeMap<String, String>,
    /// Its place in the table.
    #[serde(skip)]
    place: usize,
}

/// What the tracepoint tier can tell of one TCP listener's drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TracepointDrops {
    /// How many.
    Exact,
    /// An upper bound: packets that the listener discarded for other reasons are among them.
    Bound,
}

/// How much of the matrix a run tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// Every tier over every transport.
    Full,
    /// Every tier over one transport, in turns: each kernel sees all transports, and successive
    /// kernels of the table see a tier over different ones.
    Part,
}

/// Whether the kernel was told at boot to preempt its own code wherever it can.
///
/// # Errors
/// When nothing tells how it was booted.
pub fn preempts_all() -> Result<bool> {
    let words = std::fs::read_to_string("/proc/cmdline").context("/proc/cmdline")?;
    Ok(words.split_whitespace().any(|word| word == "preempt=full"))
}

impl Kernel {
    /// Whether it preempts its own code, where that is known.
    ///
    /// # Errors
    /// When nothing tells how it was booted.
    pub fn preempts(&self) -> Result<Option<bool>> {
        Ok(if preempts_all()? { Some(true) } else { self.preempts })
    }

    /// The tiers to force and the transport to force each with: everything where `SOCKTRACE_FULL` is
    /// set, else a representative part.
    pub fn combinations(&self) -> Vec<(&str, &str)> {
        self.select_combinations(if is_full() { Extent::Full } else { Extent::Part })
    }

    /// The tiers that a test forces which tries each by itself: all where everything is tried, else
    /// one, in turns over tests and kernels.
    pub fn tiers_of(&self, test: &str) -> Vec<&str> {
        self.select_tiers(test, if is_full() { Extent::Full } else { Extent::Part })
    }

    fn select_tiers(&self, test: &str, extent: Extent) -> Vec<&str> {
        let letters: usize = test.bytes().map(usize::from).sum();
        let turn = (self.place + letters) % self.tiers.len().max(1);
        let chosen = |(index, _): &(usize, &String)| extent == Extent::Full || *index == turn;
        self.tiers.iter().enumerate().filter(chosen).map(|(_, tier)| tier.as_str()).collect()
    }

    fn select_combinations(&self, extent: Extent) -> Vec<(&str, &str)> {
        let (tiers, transports) = (&self.tiers, &self.transports);
        let all = tiers.iter().enumerate().flat_map(|(number, tier)| {
            let turn = (self.place + number) % transports.len().max(1);
            let chosen = move |(index, _): &(usize, _)| extent == Extent::Full || *index == turn;
            let over = transports.iter().enumerate().filter(chosen);
            over.map(|(_, transport)| (tier.as_str(), transport.as_str()))
        });
        all.collect()
    }
}

/// Whether everything is to be tried (`SOCKTRACE_FULL`), or a representative part.
pub fn is_full() -> bool {
    std::env::var_os("SOCKTRACE_FULL").is_some()
}

/// Every tier that there is.
pub const TIERS: [&str; 3] = ["fentry", "kprobe", "tracepoint"];

/// The row of the kernel that runs now: `SOCKTRACE_KERNEL` (default `host`) in the file
/// `SOCKTRACE_KERNELS` (default: the one beside this crate).
///
/// # Errors
/// When there is no such file or row.
pub fn this_kernel() -> Result<Kernel> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("kernels.toml");
    let path = std::env::var_os("SOCKTRACE_KERNELS").map_or_else(beside, PathBuf::from);
    let name = std::env::var("SOCKTRACE_KERNEL").unwrap_or_else(|_| "host".to_owned());
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    parse(&text, &name).with_context(|| path.display().to_string())
}

fn parse(text: &str, name: &str) -> Result<Kernel> {
    let table: Table = toml::from_str(text).context("not a table of kernels")?;
    let rows = table.kernel.into_iter().enumerate();
    let mut rows = rows.map(|(place, kernel)| Kernel { place, ..kernel });
    rows.find(|kernel| kernel.name == name).with_context(|| format!("no kernel `{name}`"))
}

const fn yes() -> bool {
    true
}

fn both_transports() -> Vec<String> {
    vec!["perf".to_owned(), "ring".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_takes_the_tiers_in_turns_and_the_whole_takes_all() -> Result<()> {
        let kernel = parse(TEXT, "b")?;
        let of = |test| kernel.select_tiers(test, Extent::Part);
        let mut taken = [of("a"), of("b"), of("c")].concat();
        taken.sort_unstable();
        assert_eq!(taken, ["fentry", "kprobe", "tracepoint"]);
        assert_eq!(kernel.select_tiers("a", Extent::Full).len(), 3);
        Ok(())
    }

    const TEXT: &str = "[[kernel]]\nname = \"a\"\ntiers = [\"tracepoint\"]\nmore = 1\n\
                        tracepoint_drops = \"exact\"\n\
                        [kernel.auto]\naccept = \"tracepoint\"\n\
                        [[kernel]]\nname = \"b\"\ntiers = [\"fentry\", \"kprobe\", \"tracepoint\"]\n\
                        tracepoint_drops = \"bound\"\n[kernel.auto]\n";

    #[test]
    fn a_row_is_found_by_name_and_has_both_transports_unless_it_says_otherwise() -> Result<()> {
        let kernel = parse(TEXT, "a")?;
        assert_eq!(kernel.tiers, ["tracepoint"]);
        assert_eq!(kernel.transports, ["perf", "ring"]);
        assert_eq!(kernel.auto["accept"], "tracepoint");
        Ok(())
    }

    #[test]
    fn a_full_run_has_every_tier_over_every_transport() -> Result<()> {
        let kernel = parse(TEXT, "a")?;
        let all = kernel.select_combinations(Extent::Full);
        assert_eq!(all, [("tracepoint", "perf"), ("tracepoint", "ring")]);
        assert_eq!(parse(TEXT, "b")?.select_combinations(Extent::Full).len(), 6);
        Ok(())
    }

    #[test]
    fn a_part_has_every_tier_once_and_every_transport() -> Result<()> {
        let kernel = parse(TEXT, "b")?;
        let part = kernel.select_combinations(Extent::Part);
        assert_eq!(part, [("fentry", "ring"), ("kprobe", "perf"), ("tracepoint", "ring")]);
        assert_eq!(parse(TEXT, "a")?.select_combinations(Extent::Part), [("tracepoint", "perf")]);
        Ok(())
    }

    #[test]
    fn an_unknown_kernel_is_an_error() {
        assert!(parse(TEXT, "c").is_err());
    }
}
