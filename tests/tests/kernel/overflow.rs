//! Every kind of overflow, each in a network namespace of its own: what socktrace gives to listeners
//! is what the kernel counted there (`/proc/net/netstat`), reason by reason.

use anyhow::{Result, anyhow};
use socktrace_tests::harness::compare::{completeness, drops};
use socktrace_tests::harness::kernels::{TracepointDrops, is_full, this_kernel};
use socktrace_tests::harness::run::record_in_netns;

use crate::matrix::tell;

/// Addresses, and settings of `net.ipv4`: as different as can be in succession.
const KINDS: &[(&str, &[&str])] = &[
    ("overflow", &["tcp_syncookies=1"]),
    ("overflow_v6", &["tcp_syncookies=0"]),
    ("overflow_mapped", &["tcp_syncookies=2"]),
    ("overflow", &["tcp_abort_on_overflow=1"]),
    ("overflow", &["tcp_syncookies=0"]),
    ("overflow", &["tcp_syncookies=2"]),
    ("overflow_v6", &["tcp_syncookies=1"]),
    ("overflow_v6", &["tcp_syncookies=2"]),
    ("overflow_mapped", &["tcp_syncookies=0"]),
    ("overflow_mapped", &["tcp_syncookies=1"]),
];
/// With all kinds: twenty runs per tier.
const ROUNDS: usize = 2;

#[test]
fn every_kind_of_overflow_equals_the_counters_of_its_namespace() -> Result<()> {
    let bound = this_kernel()?.tracepoint_drops == TracepointDrops::Bound;
    let runs = if is_full() { KINDS.len() * ROUNDS } else { 1 };
    let mut told = Vec::new();
    // In a part, each tier has a kind of its own.
    for (number, tier) in this_kernel()?.tiers.iter().enumerate() {
        for (incident, settings) in KINDS.iter().cycle().skip(number).take(runs) {
            let run = record_in_netns(settings, &["--tier", tier], &[incident])
                .map_err(|error| anyhow!("{tier} {incident} {settings:?}: {error:#}"))?;
            let mut problems = match tier.as_str() {
                "tracepoint" if bound => drops::tcp_bound(&run.seen, &run.report),
                "tracepoint" => drops::tcp_sum(&run.seen, &run.report),
                _ => drops::tcp_exact(&run.seen, &run.report),
            };
            problems.extend(completeness::verdict(&run.report, "complete"));
            told.extend(problems.iter().map(|it| format!("[{tier} {incident} {settings:?}] {it}")));
        }
    }
    tell(&told)
}
