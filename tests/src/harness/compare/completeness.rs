//! Nothing without its loss: the verdict, and where every event went.

use std::collections::BTreeMap;

use super::drops;
use crate::harness::kernels::Kernel;
use crate::harness::report::{Report, SignalLoss};
use crate::scenario::record::Seen;

/// For every signal, everything seen was filtered, counted only, delivered or lost, exactly; and
/// the totals are the sums.
pub fn identity(report: &Report) -> Vec<String> {
    let completeness = &report.completeness;
    let mut problems: Vec<String> = completeness.signals.iter().filter_map(unbalanced).collect();
    if completeness.signals.is_empty() {
        problems.push("no signal says where its events went".to_owned());
    }
    let sum = |part: fn(&SignalLoss) -> u64| completeness.signals.iter().map(part).sum::<u64>();
    let totals = [
        ("events_seen", completeness.events_seen, sum(|s| s.seen)),
        ("events_delivered", completeness.events_delivered, sum(|s| s.delivered)),
        ("events_lost", completeness.events_lost, sum(lost)),
    ];
    let wrong = totals.iter().filter(|(_, total, sum)| total != sum);
    problems.extend(wrong.map(|(name, total, sum)| format!("{name} is {total}, the sum is {sum}")));
    problems
}

/// The verdict is this one, and it fits the number of lost events.
pub fn verdict(report: &Report, wanted: &str) -> Vec<String> {
    let completeness = &report.completeness;
    let mut problems = Vec::new();
    if completeness.verdict != wanted {
        problems.push(format!("verdict {}, not {wanted}: {completeness:?}", completeness.verdict));
    }
    if (wanted == "incomplete") != (completeness.events_lost > 0) {
        problems.push(format!("{wanted} with {} events lost", completeness.events_lost));
    }
    problems
}

/// How often the kernel skipped hooks is a number of those that share a guard (kprobes, perf tracepoints) where it `counts`
/// that, else it is said of none to be known.
pub fn skipped_hooks(report: &Report, counts: bool) -> Vec<String> {
    let is_guarded = |hook: &str| {
        hook.starts_with("sys_")
            || ["_kprobe", "_kretprobe", "_perf"].iter().any(|kind| hook.contains(kind))
    };
    let missed = report.completeness.missed.iter();
    let guarded: Vec<_> = missed.filter(|(hook, _)| is_guarded(hook)).collect();
    let wrong = guarded.iter().filter(|(_, missed)| missed.is_some() != counts);
    let mut problems: Vec<String> =
        wrong.map(|(hook, missed)| format!("{hook} was skipped {missed:?} times")).collect();
    if guarded.is_empty() {
        problems.push("no kprobe and no perf tracepoint is there".to_owned());
    }
    problems
}

/// The verdict is complete. On a kernel that preempts its own code, a hook without a twin may be skipped in any tier: there, it
/// may also say how much may not have been seen, with the number; counts are exact all the same. In the kprobe tier, drops may
/// have no listener, as far as hooks on them were skipped.
pub fn nothing_lost(report: &Report, kernel: &Kernel) -> Vec<String> {
    let completeness = &report.completeness;
    let may_be_skipped = matches!(kernel.preempts(), Ok(Some(true)));
    let (drops, cookies) = drops::without_listener(report);
    let skipped = drops::without_listener_as_skipped(report);
    let told = |reason: &String| {
        let counts =
            |n, what| n != 0 && reason.starts_with(&format!("{n} {what} that the kernel counted"));
        may_be_skipped && reason.starts_with("up to ") && reason.contains("skipped")
            || skipped && (counts(drops, "drops") || counts(cookies, "syncookies"))
    };
    let reasons = &completeness.reasons;
    if completeness.verdict == "incomplete" && !reasons.is_empty() && reasons.iter().all(told) {
        return Vec::new();
    }
    verdict(report, "complete")
}

/// As many failures passed the filters as the scenario saw; besides them, only connects that were taken back.
pub fn failures_seen(seen: &Seen, report: &Report) -> Vec<String> {
    let signals = &report.completeness.signals;
    let Some(row) = signals.iter().find(|row| row.signal == "connect_failure") else {
        return vec!["nothing says where connect_failure's events went".to_owned()];
    };
    let wanted: u64 = seen.failures.iter().map(|failure| failure.count).sum();
    let rows = report.processes.iter().flat_map(|it| it.connects_abandoned.iter().flatten());
    let abandoned: u64 = rows.map(|row| row.count).sum();
    let passed = row.seen.saturating_sub(row.filtered);
    if passed == wanted + abandoned && row.below_threshold == abandoned {
        return Vec::new();
    }
    vec![format!(
        "{wanted} connects failed, {abandoned} were taken back, {passed} passed the filters: {row:?}"
    )]
}

/// Every signal of the table has the tier that the table gives it.
pub fn tiers(report: &Report, wanted: &BTreeMap<String, String>) -> Vec<String> {
    let wrong = wanted.iter().filter(|(signal, tier)| report.tier(signal) != Some(tier.as_str()));
    wrong.map(|(signal, tier)| format!("{signal}: {:?}, not {tier}", report.tier(signal))).collect()
}

/// Drops without a listener are told with their number, and make the report incomplete.
pub fn verdict_with(report: &Report, unattributed: u64) -> Vec<String> {
    let told = format!("{unattributed} drops that the kernel counted");
    let says = report.completeness.reasons.iter().any(|reason| reason.starts_with(&told));
    let is_told = says && report.completeness.verdict != "complete";
    if unattributed == 0 || is_told {
        return Vec::new();
    }
    vec![format!("{unattributed} drops without a listener, told: {:?}", report.completeness)]
}

/// Every signal has the tier that was forced.
pub fn forced_tier(report: &Report, tier: &str) -> Vec<String> {
    let signals = &report.session.signals;
    let mut problems: Vec<String> = signals
        .iter()
        .filter(|row| row.tier != tier)
        .map(|row| format!("{}: {}, although {tier} was forced", row.signal, row.tier))
        .collect();
    if signals.is_empty() {
        problems.push("the session names no signal".to_owned());
    }
    problems
}

fn lost(row: &SignalLoss) -> u64 {
    row.lost.buffer + row.lost.decode
}

fn unbalanced(row: &SignalLoss) -> Option<String> {
    let counted = row.filtered + row.below_threshold + row.sampled_out + row.delivered + lost(row);
    (counted != row.seen).then(|| format!("seen {}, accounted for {counted}: {row:?}", row.seen))
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::super::sample;
    use super::*;

    #[test]
    fn a_balanced_account_is_no_problem() -> Result<()> {
        let report = sample::report(&sample::good())?;
        assert_eq!(identity(&report), Vec::<String>::new());
        assert_eq!(verdict(&report, "complete"), Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn an_event_that_went_nowhere_is_told() -> Result<()> {
        let mut json = sample::good();
        json["completeness"]["signals"][0]["delivered"] = 3.into();
        let problems = identity(&sample::report(&json)?);
        assert_eq!(problems.len(), 2, "{problems:?}");
        Ok(())
    }

    #[test]
    fn skipped_hooks_are_a_number_or_unknown_as_the_kernel_has_it() -> Result<()> {
        let report = |missed: serde_json::Value| {
            let mut json = sample::good();
            json["completeness"]["missed"] = missed;
            sample::report(&json)
        };
        let json =
            serde_json::json!({"sys_exit_accept": 2, "listen_kprobe": null, "listen_fexit": null});
        let mixed = report(json)?;
        assert_eq!(skipped_hooks(&mixed, true).len(), 1, "one is unknown");
        assert_eq!(skipped_hooks(&mixed, false).len(), 1, "one is known");
        let json = serde_json::json!({"sys_exit_accept": null, "listen_kprobe": null, "listen": 3});
        assert_eq!(skipped_hooks(&report(json)?, false), Vec::<String>::new());
        assert_eq!(skipped_hooks(&report(serde_json::json!({"listen": 3}))?, false).len(), 1);
        Ok(())
    }

    #[test]
    fn complete_with_lost_events_is_a_contradiction() -> Result<()> {
        let mut json = sample::good();
        json["completeness"]["events_lost"] = 1.into();
        assert_eq!(verdict(&sample::report(&json)?, "complete").len(), 1);
        Ok(())
    }

    #[test]
    fn failures_that_passed_the_filters_are_counted_without_the_others() -> Result<()> {
        let mut json = sample::good();
        let problems = failures_seen(&sample::seen(), &sample::report(&json)?);
        assert!(
            problems[0].starts_with("3 connects failed, 0 were taken back, 4 passed"),
            "{problems:?}"
        );
        let row =
            serde_json::json!({"family": "inet", "target": "127.0.0.1:80", "uid": 5, "count": 1});
        json["processes"][0]["connects_abandoned"] = serde_json::json!([row]);
        assert_eq!(
            failures_seen(&sample::seen(), &sample::report(&json)?).len(),
            1,
            "an event too many"
        );
        json["completeness"]["signals"][0]["below_threshold"] = 1.into();
        assert!(failures_seen(&sample::seen(), &sample::report(&json)?).is_empty());
        Ok(())
    }
}
