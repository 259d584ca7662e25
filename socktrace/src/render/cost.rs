//! What tracing itself cost.

use std::time::Duration;

use crate::event::Runs;

/// What the tracer used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// CPU time of the tracer, user and system.
    pub cpu: Duration,
    /// Most memory it had, bytes.
    pub peak_rss_bytes: u64,
}

/// What its hooks took of whoever ran into them.
pub fn of_hooks(runs: &Runs, duration: Duration) -> String {
    let sum = runs.sum();
    let Some(mean_ns) = sum.mean_ns() else { return "its hooks did not run".to_owned() };
    let share = sum.time_ns as f64 / (duration.as_nanos().max(1) as f64) * 100.0;
    let most = runs.0.iter().max_by_key(|(_, of)| of.time_ns);
    let most = most.map_or("", |(name, _)| name);
    format!(
        "its hooks ran {} times, {mean_ns} ns each on average: {share:.2} % of one CPU, most of it in {most}",
        sum.count
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::event::ProgramRuns;

    #[test]
    fn runs_are_told_with_their_mean_their_share_and_the_dearest() {
        let of = |count, time_ns| ProgramRuns { count, time_ns };
        let runs = Runs(BTreeMap::from([
            ("cheap".to_owned(), of(30, 3_000)),
            ("dear".to_owned(), of(10, 7_000)),
            ("idle".to_owned(), of(0, 0)),
        ]));
        assert_eq!(
            of_hooks(&runs, Duration::from_millis(1)),
            "its hooks ran 40 times, 250 ns each on average: 1.00 % of one CPU, most of it in dear"
        );
        assert_eq!(of_hooks(&Runs::default(), Duration::ZERO), "its hooks did not run");
    }
}
