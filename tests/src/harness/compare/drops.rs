//! Connections that listeners threw away, against the kernel's own counters.
//!
//! The tracepoint tier cannot split a listener's drops by reason; there, only the sum is exact, and on
//! kernels that do not tell what else a listener discarded, it is an upper bound that is called so.
//! Unix backlogs are exact in every tier.

use crate::harness::kernels::{Kernel, TracepointDrops};
use crate::harness::report::{Drops, Listener, Report};
use crate::scenario::record::{Netstat, Seen, TcpDrops};

/// Drops by reason, as the kernel's counters name them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ByReason {
    accept_queue_full: u64,
    syn_queue_full: u64,
    syncookie_sent: u64,
    other: u64,
    unknown: u64,
}

impl ByReason {
    fn of<'a>(rows: impl Iterator<Item = &'a Drops>) -> Self {
        let mut found = Self::default();
        for row in rows {
            match row.reason.as_str() {
                "accept_queue_full" => found.accept_queue_full += row.count,
                "syn_queue_full" => found.syn_queue_full += row.count,
                "syncookie_sent" => found.syncookie_sent += row.count,
                "other" => found.other += row.count,
                "unknown" => found.unknown += row.count,
                _ => {}
            }
        }
        found
    }

    /// What `ListenDrops` counts.
    fn dropped(self) -> u64 {
        self.accept_queue_full + self.syn_queue_full + self.other + self.unknown
    }

    /// How many drops, and how many syncookies, of `wanted` these lack; `None` where they have too many of one reason.
    fn missing_of(self, wanted: Self) -> Option<(u64, u64)> {
        let drops = [
            wanted.accept_queue_full.checked_sub(self.accept_queue_full),
            wanted.syn_queue_full.checked_sub(self.syn_queue_full),
            wanted.other.checked_sub(self.other),
            wanted.unknown.checked_sub(self.unknown),
        ];
        let cookies = wanted.syncookie_sent.checked_sub(self.syncookie_sent);
        drops.into_iter().sum::<Option<u64>>().zip(cookies)
    }

    fn expected(netstat: &Netstat) -> Self {
        let known = netstat.listen_overflows + netstat.reqq_full_drop;
        Self {
            accept_queue_full: netstat.listen_overflows,
            syn_queue_full: netstat.reqq_full_drop,
            syncookie_sent: netstat.reqq_full_do_cookies,
            other: netstat.listen_drops.saturating_sub(known),
            unknown: 0,
        }
    }
}

/// All drops of TCP, as exactly as this tier knows them on this kernel.
pub fn tcp_of_tier(tier: &str, kernel: &Kernel, seen: &Seen, report: &Report) -> Vec<String> {
    match (tier, kernel.tracepoint_drops) {
        ("tracepoint", TracepointDrops::Exact) => tcp_sum(seen, report),
        ("tracepoint", TracepointDrops::Bound) => tcp_bound(seen, report),
        ("kprobe", _) => tcp_unless_skipped(seen, report),
        _ => tcp_exact(seen, report),
    }
}

/// All drops of TCP, in a tier that sees each one.
pub fn tcp_exact(seen: &Seen, report: &Report) -> Vec<String> {
    tcp(seen, report, Missing::Nothing)
}

/// As [`tcp_exact`], in the kprobe tier: what the kernel skipped hooks for (docs/limitations.md) may have no listener.
pub fn tcp_unless_skipped(seen: &Seen, report: &Report) -> Vec<String> {
    let skipped = without_listener_as_skipped(report);
    tcp(seen, report, if skipped { Missing::WithoutListener } else { Missing::Nothing })
}

/// Whether some drops or syncookies have no listener in the kprobe tier, and no more than hooks on them were skipped. Where
/// the kernel does not tell how often they were (before 6.7), no more than one in twenty: in an overflow, four of 500 were the
/// most that was met.
pub fn without_listener_as_skipped(report: &Report) -> bool {
    // A hook that is not there was not skipped.
    let missed = |hook: &str| report.completeness.missed.get(hook).copied().unwrap_or(Some(0));
    let skipped = |stage: &str| {
        let hook = |kind: &str| missed(&format!("backlog_drop_{stage}_{kind}"));
        // Of one call, both may be.
        Some(hook("kprobe")?.max(hook("kretprobe")?))
    };
    let skipped: Option<u64> = ["syn", "ack", "cookie"].into_iter().map(skipped).sum();
    let (drops, cookies) = without_listener(report);
    report.tier("backlog_drop") == Some("kprobe")
        && (1..=skipped.unwrap_or_else(|| with_listener(report) / 20)).contains(&(drops + cookies))
}

/// Drops and syncookies of all listeners.
fn with_listener(report: &Report) -> u64 {
    let rows = report.listeners.iter().flat_map(|listener| &listener.backlog_drops);
    let found = ByReason::of(rows);
    found.dropped() + found.syncookie_sent
}

/// Drops and syncookies that no listener could be named for.
pub fn without_listener(report: &Report) -> (u64, u64) {
    (report.unattributed(), report.unattributed_syncookies.unwrap_or(0))
}

/// What the drops of listeners may lack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Nothing,
    /// Exactly what the report has without a listener.
    WithoutListener,
}

impl Missing {
    /// Whether this is what one listener has of what the kernel counted.
    fn allows(self, found: ByReason, wanted: ByReason) -> bool {
        match self {
            Self::Nothing => found == wanted,
            Self::WithoutListener => found.missing_of(wanted).is_some(),
        }
    }
}

fn tcp(seen: &Seen, report: &Report, missing: Missing) -> Vec<String> {
    let rows = report.listeners.iter().flat_map(|listener| &listener.backlog_drops);
    let (found, wanted) = (ByReason::of(rows), ByReason::expected(&seen.netstat));
    let rest = match missing {
        Missing::Nothing => (0, 0),
        Missing::WithoutListener => without_listener(report),
    };
    let mut problems = Vec::new();
    if found.missing_of(wanted) != Some(rest) {
        problems.push(format!("all listeners: the kernel counted {wanted:?}, found {found:?}"));
    }
    if missing == Missing::Nothing && report.unattributed() != 0 {
        problems.push(format!("{} drops without a listener", report.unattributed()));
    }
    problems.extend(seen.tcp_drops.iter().flat_map(|drops| of_one(drops, report, missing)));
    problems.extend(seen.tcp_drops.iter().flat_map(|drops| of_process(drops, report, missing)));
    problems
}

/// The sums of TCP drops, of each listener and of all, in a tier that cannot always tell reasons.
pub fn tcp_sum(seen: &Seen, report: &Report) -> Vec<String> {
    let rows = report.listeners.iter().flat_map(|listener| &listener.backlog_drops);
    let found = ByReason::of(rows).dropped();
    let (rest, wanted) = (report.unattributed(), seen.netstat.listen_drops);
    let mut problems = Vec::new();
    if found != wanted || rest != 0 {
        problems.push(format!(
            "the kernel counted {wanted} drops, found {found} of listeners and {rest} unattributed"
        ));
    }
    for drops in &seen.tcp_drops {
        let found = row_of(drops.inode, report).map(|row| ByReason::of(row.backlog_drops.iter()));
        let (found, wanted) = (found.unwrap_or_default().dropped(), drops.netstat.listen_drops);
        if found != wanted {
            problems
                .push(format!("{}: {found} drops, the kernel counted {wanted}", drops.listener));
        }
    }
    if says_upper_bound(report) {
        problems.push("the session calls exact drops an upper bound".to_owned());
    }
    problems
}

/// The sums of TCP drops where the tracepoint tier has an upper bound only: never fewer than the
/// kernel counted, of each listener and of all, and the report says that it is a bound.
pub fn tcp_bound(seen: &Seen, report: &Report) -> Vec<String> {
    let rows = report.listeners.iter().flat_map(|listener| &listener.backlog_drops);
    let found = ByReason::of(rows).dropped();
    let (rest, wanted) = (report.unattributed(), seen.netstat.listen_drops);
    let mut problems = Vec::new();
    if found < wanted || rest != 0 {
        problems.push(format!(
            "the kernel counted {wanted} drops, found no more than {found} of listeners and {rest} \
             unattributed"
        ));
    }
    for drops in &seen.tcp_drops {
        let found = row_of(drops.inode, report).map(|row| ByReason::of(row.backlog_drops.iter()));
        let (found, wanted) = (found.unwrap_or_default().dropped(), drops.netstat.listen_drops);
        if found < wanted {
            let listener = &drops.listener;
            problems
                .push(format!("{listener}: at most {found} drops, the kernel counted {wanted}"));
        }
    }
    if !says_upper_bound(report) {
        problems.push("the session does not say that its drops are an upper bound".to_owned());
    }
    problems
}

fn says_upper_bound(report: &Report) -> bool {
    let mut signals = report.session.signals.iter().filter(|row| row.signal == "backlog_drop");
    signals.any(|row| row.loses.as_deref().is_some_and(|loses| loses.contains("an upper bound")))
}

/// Unix listeners that turned connects away: exact, at the stage `connect`, under their owner.
pub fn unix(seen: &Seen, report: &Report) -> Vec<String> {
    let mut problems = Vec::new();
    for drops in &seen.unix_drops {
        let row = row_of(drops.inode, report);
        let listed = row.map(|row| unix_count(row.backlog_drops.iter())).unwrap_or_default();
        let of_pid = report.processes.iter().filter(|process| process.pid == Some(drops.pid));
        let owned = unix_count(of_pid.flat_map(|process| {
            let own = process.backlog_drops.iter();
            own.filter(|row| row.listener.as_deref() == Some(&drops.listener))
        }));
        for (place, found) in [("listener", listed), ("owner", owned)] {
            if found != drops.count {
                let (name, count) = (&drops.listener, drops.count);
                problems.push(format!("{name}: {count} turned away, its {place} has {found}"));
            }
        }
    }
    let total = report.processes.iter().flat_map(|process| &process.backlog_drops);
    let (total, wanted) = (unix_count(total), seen.unix_drops.iter().map(|d| d.count).sum::<u64>());
    if total != wanted {
        problems.push(format!("{wanted} turned away by Unix backlogs, all processes have {total}"));
    }
    problems
}

fn unix_count<'a>(rows: impl Iterator<Item = &'a Drops>) -> u64 {
    let full =
        |r: &&Drops| r.reason == "unix_backlog_full" && r.stage.as_deref() == Some("connect");
    rows.filter(full).map(|row| row.count).sum()
}

fn row_of(inode: u64, report: &Report) -> Option<&Listener> {
    report.listeners.iter().find(|row| row.inode == Some(inode))
}

/// How many drops one listener has.
pub fn of_inode(inode: u64, report: &Report) -> u64 {
    row_of(inode, report).map_or(0, |row| ByReason::of(row.backlog_drops.iter()).dropped())
}

/// The drops of one listener, by reason, stage and owner.
pub fn of_listener(drops: &TcpDrops, report: &Report) -> Vec<String> {
    of_one(drops, report, Missing::Nothing)
}

fn of_one(drops: &TcpDrops, report: &Report, missing: Missing) -> Vec<String> {
    let Some(row) = row_of(drops.inode, report) else {
        return vec![format!("{} ({}): not in the report", drops.listener, drops.name)];
    };
    let found = ByReason::of(row.backlog_drops.iter());
    let wanted = ByReason::expected(&drops.netstat);
    let at_ack = row.backlog_drops.iter().filter(|d| d.stage.as_deref() == Some("ack"));
    let acks: u64 = at_ack.map(|drops| drops.count).sum();
    let mut problems = Vec::new();
    if !missing.allows(found, wanted) {
        problems.push(format!(
            "{} ({}): wanted {wanted:?}, found {found:?}",
            row.name(),
            drops.name
        ));
    }
    if missing == Missing::Nothing && acks < drops.at_least_ack {
        let least = drops.at_least_ack;
        problems.push(format!("{}: {acks} drops at stage ack, at least {least}", row.name()));
    }
    if !row.owners.iter().any(|owner| owner.pid == drops.pid) {
        let owners = &row.owners;
        problems.push(format!("{}: owned by {}, found {owners:?}", row.name(), drops.pid));
    }
    problems
}

/// The owner's row has all of the listener's drops; nobody else's has any.
fn of_process(drops: &TcpDrops, report: &Report, missing: Missing) -> Vec<String> {
    let of_pid = |mine: bool| {
        let chosen = report.processes.iter().filter(move |p| (p.pid == Some(drops.pid)) == mine);
        let rows = chosen.flat_map(|process| &process.backlog_drops);
        ByReason::of(rows.filter(|row| row.listener.as_deref() == Some(&drops.listener)))
    };
    let (own, others) = (of_pid(true), of_pid(false));
    let mut problems = Vec::new();
    if !missing.allows(own, ByReason::expected(&drops.netstat)) {
        problems.push(format!("{}: its owner {} has {own:?}", drops.listener, drops.pid));
    }
    if others != ByReason::default() {
        problems.push(format!("{}: others than its owner have {others:?}", drops.listener));
    }
    problems
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::super::sample;
    use super::*;

    #[test]
    fn drops_equal_to_the_counters_are_no_problem() -> Result<()> {
        let (seen, report) = (sample::seen(), sample::report(&sample::good())?);
        assert_eq!(tcp_exact(&seen, &report), Vec::<String>::new());
        assert_eq!(tcp_sum(&seen, &report), Vec::<String>::new());
        assert_eq!(unix(&seen, &report), Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn one_drop_too_few_is_told_for_the_total_and_for_the_listener() -> Result<()> {
        let mut json = sample::good();
        json["listeners"][0]["backlog_drops"][1]["count"] = 1.into();
        let report = sample::report(&json)?;
        assert_eq!(tcp_exact(&sample::seen(), &report).len(), 3);
        assert_eq!(tcp_sum(&sample::seen(), &report).len(), 2);
        Ok(())
    }

    #[test]
    fn an_upper_bound_is_no_problem_where_it_is_called_so_and_never_too_low() -> Result<()> {
        let bound = "which drops hit the last ACK; what a listener drops is an upper bound";
        let signal = |loses: &str| serde_json::json!({"signal": "backlog_drop", "tier": "tracepoint", "loses": loses});
        let mut json = sample::good();
        json["session"]["signals"] = serde_json::json!([signal(bound)]);
        json["listeners"][0]["backlog_drops"][1]["count"] = 100.into();
        assert!(tcp_bound(&sample::seen(), &sample::report(&json)?).is_empty());
        assert!(!tcp_sum(&sample::seen(), &sample::report(&json)?).is_empty());
        json["listeners"][0]["backlog_drops"][1]["count"] = 1.into();
        assert_eq!(tcp_bound(&sample::seen(), &sample::report(&json)?).len(), 2);
        json["session"]["signals"] = serde_json::json!([signal("")]);
        assert_eq!(tcp_bound(&sample::seen(), &sample::report(&json)?).len(), 3);
        Ok(())
    }

    #[test]
    fn a_drop_without_a_listener_is_told() -> Result<()> {
        let mut json = sample::good();
        json["listeners"][0]["backlog_drops"][1]["count"] = 1.into();
        json["unattributed"] = 1.into();
        let (seen, report) = (sample::seen(), sample::report(&json)?);
        let problems = tcp_exact(&seen, &report);
        assert!(problems.iter().any(|problem| problem.contains("1 drops without")), "{problems:?}");
        assert!(!tcp_sum(&seen, &report).is_empty());
        Ok(())
    }

    #[test]
    fn drops_without_a_listener_are_excused_by_as_many_skipped_hooks_of_the_kprobe_tier()
    -> Result<()> {
        let json = |tier: &str, skipped: Option<u64>, unattributed: u64, cookies: u64| {
            let mut json = sample::good();
            json["session"]["signals"] =
                serde_json::json!([{"signal": "backlog_drop", "tier": tier}]);
            json["completeness"]["missed"] = serde_json::json!({"backlog_drop_syn_kprobe": skipped, "backlog_drop_syn_kretprobe": skipped});
            json["unattributed"] = unattributed.into();
            json["unattributed_syncookies"] = cookies.into();
            for rows in ["listeners", "processes"] {
                json[rows][0]["backlog_drops"][1]["count"] = 1.into();
            }
            json
        };
        let problems = |json: &serde_json::Value| {
            Ok::<_, anyhow::Error>(tcp_unless_skipped(&sample::seen(), &sample::report(json)?))
        };
        let missing = 1;
        assert_eq!(problems(&json("kprobe", Some(1), missing, 0))?, Vec::<String>::new());
        assert!(!problems(&json("fentry", Some(1), missing, 0))?.is_empty(), "another tier");
        assert!(!problems(&json("kprobe", Some(0), missing, 0))?.is_empty(), "nothing skipped");
        assert!(!problems(&json("kprobe", Some(1), 0, 0))?.is_empty(), "missing, and not told");
        assert!(!problems(&json("kprobe", Some(1), 0, 1))?.is_empty(), "told as another kind");
        assert!(!problems(&json("kprobe", Some(9), 2, 0))?.is_empty(), "told more than is missing");
        let mut of_another = json("kprobe", Some(1), missing, 0);
        of_another["processes"][0]["pid"] = 11.into();
        assert!(!problems(&of_another)?.is_empty(), "under another process");
        let many = |tier: &str, cookies: u64| {
            let mut json = json(tier, None, missing, cookies);
            json["listeners"][0]["backlog_drops"][0]["count"] = 57.into();
            Ok::<_, anyhow::Error>(without_listener_as_skipped(&sample::report(&json)?))
        };
        assert!(many("kprobe", 2)?, "3 of 60, and nobody counted what was skipped");
        assert!(!many("kprobe", 3)?, "4 of 60");
        assert!(!many("fentry", 2)?, "another tier");
        Ok(())
    }

    #[test]
    fn a_drop_under_the_client_instead_of_the_owner_is_told() -> Result<()> {
        let mut json = sample::good();
        json["processes"][0]["pid"] = 11.into();
        let report = sample::report(&json)?;
        assert!(tcp_exact(&sample::seen(), &report).iter().any(|p| p.contains("others than")));
        assert!(unix(&sample::seen(), &report).iter().any(|p| p.contains("its owner has 0")));
        Ok(())
    }
}
