//! nginx, with one listener for all workers and with one for each.

use anyhow::{Result, ensure};
use socktrace_tests::harness::compare::served;
use socktrace_tests::harness::process::{PATIENCE, wait_for};
use socktrace_tests::harness::servers::nginx::{Nginx, Sharing};
use socktrace_tests::harness::servers::{http_requests, wrk};

use crate::recorded::{alone, begin, end, judge, tell};

/// The server starts within the session, so all its figures begin at 0.
fn under_wrk(sharing: Sharing) -> Result<()> {
    alone()?;
    let recording = begin(&["-a"])?;
    let nginx = Nginx::start(sharing)?;
    wrk(&nginx.place, 40)?;
    let counted = nginx.accepts()?;
    let holdings = nginx.holdings()?;
    let report = end(recording)?;
    tell(&judge("nginx", &counted, &holdings, &report))
}

/// Plain connections make a request each, so the access log has all that a worker accepted.
fn per_worker(sharing: Sharing) -> Result<()> {
    alone()?;
    let recording = begin(&["-a"])?;
    let nginx = Nginx::start(sharing)?;
    http_requests(&nginx.place, 8, 100)?;
    let counted = nginx.accepts()?;
    let all: u64 = counted.iter().map(|(_, count)| count).sum();
    let mut logged = nginx.logged()?;
    // A request is logged after it was answered.
    wait_for(PATIENCE / 10, || {
        logged = nginx.logged().unwrap_or_default();
        logged.values().sum::<u64>() >= all
    });
    let holdings = nginx.holdings()?;
    let report = end(recording)?;
    println!("nginx's workers log {logged:?}");
    ensure!(logged.values().sum::<u64>() == all, "nginx logs {logged:?}, and counts {all}");
    let mut problems = judge("nginx", &counted, &holdings, &report);
    problems.extend(served::processes(&logged, &report));
    tell(&problems)
}

#[test]
fn nginx_with_one_listener_under_wrk_has_its_own_count() -> Result<()> {
    under_wrk(Sharing::One)
}

#[test]
fn nginx_with_reuseport_under_wrk_has_its_own_count() -> Result<()> {
    under_wrk(Sharing::Reuseport)
}

#[test]
fn each_worker_of_nginx_with_one_listener_has_the_count_of_its_log() -> Result<()> {
    per_worker(Sharing::One)
}

#[test]
fn each_worker_of_nginx_with_reuseport_has_the_count_of_its_log() -> Result<()> {
    per_worker(Sharing::Reuseport)
}
