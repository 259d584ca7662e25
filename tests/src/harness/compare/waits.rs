//! Waits in the accept queue: never below the true one, at most one histogram bucket above it.
//!
//! The scenario knows two bounds of every wait. The k-th smallest of the true waits lies between
//! the k-th smallest lower and the k-th smallest upper bound, whatever the machine did meanwhile.

use crate::harness::report::{Report, Wait};
use crate::scenario::record::{Accepts, Seen};

/// A bucket of the histogram is at most so wide: 6.25 %, as a fraction.
const BUCKET: u64 = 16;

/// All measured listeners.
pub fn problems(seen: &Seen, report: &Report) -> Vec<String> {
    let measured = seen.accepts.iter().filter(|accepts| !accepts.lower_ns.is_empty());
    measured.flat_map(|accepts| of_listener(accepts, report)).collect()
}

fn of_listener(accepts: &Accepts, report: &Report) -> Vec<String> {
    let row = report.listeners.iter().find(|row| row.inode == Some(accepts.inode));
    let Some(wait) = row.and_then(|row| row.accept.wait_ns) else {
        return vec![format!("{}: no waits in the report", accepts.listener)];
    };
    let bounds = checks(accepts, &wait);
    let outside =
        bounds.into_iter().filter(|check| !(check.low..=check.high).contains(&check.value));
    outside.map(|check| format!("{} ({}): {check}", accepts.listener, accepts.name)).collect()
}

/// One number of the report and its limits.
struct Check {
    name: &'static str,
    value: u64,
    low: u64,
    high: u64,
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, value, low, high } = self;
        write!(f, "wait {name} is {value} ns, the truth lies within {low}..={high} ns")
    }
}

fn checks(accepts: &Accepts, wait: &Wait) -> Vec<Check> {
    let (mut lower, mut upper) = (accepts.lower_ns.clone(), accepts.upper_ns.clone());
    lower.sort_unstable();
    upper.sort_unstable();
    let ranked = |name, value, per_mille| {
        let rank = rank(lower.len(), per_mille);
        // Whether a quantile is rounded to this rank or the next one is a matter of taste.
        let next = (rank + 1).min(upper.len() - 1);
        Check { name, value, low: lower[rank], high: above(upper[next]) }
    };
    vec![
        ranked("p50", wait.p50, 500),
        ranked("p90", wait.p90, 900),
        ranked("p99", wait.p99, 990),
        ranked("p999", wait.p999, 999),
        ranked("max", wait.max, 1000),
        Check { name: "sum", value: wait.sum, low: lower.iter().sum(), high: upper.iter().sum() },
    ]
}

/// Index of the smallest value that so many per mille of all are not above.
fn rank(count: usize, per_mille: usize) -> usize {
    (count * per_mille).div_ceil(1000).saturating_sub(1)
}

fn above(ns: u64) -> u64 {
    ns + ns / BUCKET
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::super::sample;
    use super::*;

    #[test]
    fn ranks_are_those_of_the_nearest_rank_definition() {
        assert_eq!(rank(20, 500), 9);
        assert_eq!(rank(20, 900), 17);
        assert_eq!(rank(20, 990), 19);
        assert_eq!(rank(1, 500), 0);
    }

    #[test]
    fn waits_within_their_bounds_are_no_problem() -> Result<()> {
        let found = problems(&sample::seen(), &sample::report(&sample::good())?);
        assert_eq!(found, Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn a_wait_below_the_true_one_and_a_sum_above_it_are_told() -> Result<()> {
        let mut json = sample::good();
        json["listeners"][0]["accept"]["wait_ns"]["max"] = 9_999_999.into();
        json["listeners"][0]["accept"]["wait_ns"]["sum"] = 14_000_001.into();
        let found = problems(&sample::seen(), &sample::report(&json)?);
        assert_eq!(found.len(), 2, "{found:?}");
        Ok(())
    }
}
