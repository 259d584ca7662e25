//! The gate: what tracing adds in the default mode and tier, in instructions, against recorded limits.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::guest;
use super::plan;
use super::samples::{Cell, Clock};
use crate::kernels;
use crate::libtest::Tested;
use crate::programs::Programs;

/// The kernel that the limits are of.
pub(crate) const KERNEL: &str = "6.12";

const LIMITS: &str = "tests/bench-limits.toml";

#[derive(Deserialize)]
struct Limits {
    limit: Vec<Limit>,
}

/// What one operation may cost more than untraced.
#[derive(Deserialize)]
struct Limit {
    operation: String,
    /// Instructions per operation.
    added: f64,
}

/// Whether tests of `kernel`, all of them or a `part`, are to hold the limits: these are of one kernel,
/// as it boots by itself.
pub(crate) fn applies(kernel: Option<&str>, part: Option<&str>) -> bool {
    kernel.is_none_or(|kernel| kernel == KERNEL) && part.is_none()
}

/// Measures, prints each operation with its limit, and counts it as a test.
pub(crate) fn run(root: &Path, programs: &Programs) -> Result<Tested> {
    let path = root.join(LIMITS);
    let text =
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let limits: Limits =
        toml::from_str(&text).with_context(|| format!("{LIMITS} is no table of limits"))?;
    let kernel = kernels::bootable(root, Some(KERNEL))?.into_iter().next().context("no kernel")?;
    let samples = guest::default_mode(root, &kernel, programs)?;
    if let Some((subject, why)) = samples.left_out.first() {
        bail!("{subject} was not measured: {why}");
    }
    let mut tested = Tested::default();
    for (passed, line) in judge(&samples.cells(Clock::Cpu), &limits.limit) {
        println!("{line}");
        if passed {
            tested.totals.passed += 1;
        } else {
            tested.fail(line);
        }
    }
    Ok(tested)
}

/// A line per operation, and whether it keeps its limit. One of which only one of both is there fails.
fn judge(cells: &[Cell], limits: &[Limit]) -> Vec<(bool, String)> {
    let mut lines = Vec::new();
    for limit in limits {
        let cell = cells.iter().find(|cell| cell.operation == limit.operation);
        lines.push(match cell {
            Some(cell) => (cell.added <= limit.added, told(cell, limit)),
            None => (false, format!("{}: has a limit, and was not measured", limit.operation)),
        });
    }
    for cell in cells {
        if !limits.iter().any(|limit| limit.operation == cell.operation) {
            let Cell { operation, added, .. } = cell;
            let line =
                format!("{operation}: adds {added:.0} instructions and has no limit in {LIMITS}");
            lines.push((false, line));
        }
    }
    lines
}

fn told(cell: &Cell, limit: &Limit) -> String {
    let Cell { operation, added, ratio, .. } = cell;
    let figures = format!(
        "{operation}: adds {added:.0} instructions ({ratio:.3}), at most {:.0}",
        limit.added
    );
    if *added <= limit.added {
        return figures;
    }
    format!(
        "{figures}: TOO MANY. A change made `{}` costlier. Find out which; where it is worth its \
         price, say why in docs/journal/overhead.md and raise the limit in {LIMITS}",
        plan::default_name("fentry")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(added: f64) -> Cell {
        Cell {
            subject: "record, fentry".to_owned(),
            operation: "tcp".to_owned(),
            untraced: 1000.0,
            added,
            ratio: 1.0 + added / 1000.0,
            noise: 0.0,
        }
    }

    fn limit(operation: &str) -> Limit {
        Limit { operation: operation.to_owned(), added: 100.0 }
    }

    #[test]
    fn what_costs_more_than_its_limit_fails_and_says_what_to_do() {
        assert!(judge(&[cell(100.0)], &[limit("tcp")])[0].0);
        let judged = judge(&[cell(101.0)], &[limit("tcp")]);
        assert!(!judged[0].0 && judged[0].1.contains("docs/journal/overhead.md"), "{judged:?}");
    }

    #[test]
    fn an_operation_without_limit_and_a_limit_without_operation_fail() {
        let judged = judge(&[cell(1.0)], &[limit("unix")]);
        assert_eq!(judged.iter().map(|(passed, _)| *passed).collect::<Vec<_>>(), [false, false]);
    }
}
