//! `kernels.toml`: which kernel runs under test, and what socktrace must manage there.

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
    /// The tier that each signal gets by itself.
    pub auto: BTreeMap<String, String>,
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
    let row = table.kernel.into_iter().find(|kernel| kernel.name == name);
    row.with_context(|| format!("no kernel `{name}`"))
}

fn both_transports() -> Vec<String> {
    vec!["perf".to_owned(), "ring".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[[kernel]]\nname = \"a\"\ntiers = [\"tracepoint\"]\nmore = 1\n\
                        [kernel.auto]\naccept = \"tracepoint\"\n";

    #[test]
    fn a_row_is_found_by_name_and_has_both_transports_unless_it_says_otherwise() -> Result<()> {
        let kernel = parse(TEXT, "a")?;
        assert_eq!(kernel.tiers, ["tracepoint"]);
        assert_eq!(kernel.transports, ["perf", "ring"]);
        assert_eq!(kernel.auto["accept"], "tracepoint");
        Ok(())
    }

    #[test]
    fn an_unknown_kernel_is_an_error() {
        assert!(parse(TEXT, "b").is_err());
    }
}
