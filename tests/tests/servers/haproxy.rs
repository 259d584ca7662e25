//! haproxy in front of nginx: both count for themselves.

use anyhow::Result;
use socktrace_tests::harness::servers::haproxy::Haproxy;
use socktrace_tests::harness::servers::nginx::{Nginx, Sharing};
use socktrace_tests::harness::servers::{http_requests, wrk};

use crate::recorded::{alone, begin, end, judge, tell};

#[test]
fn haproxy_and_the_nginx_behind_it_have_their_own_counts() -> Result<()> {
    alone()?;
    let recording = begin(&["-a"])?;
    let nginx = Nginx::start(Sharing::One)?;
    let haproxy = Haproxy::start(&nginx.place)?;
    wrk(&haproxy.tcp, 20)?;
    http_requests(&haproxy.unix, 4, 50)?;
    let front = haproxy.accepts()?;
    let back = nginx.accepts()?;
    let (holds_front, holds_back) = (haproxy.holdings()?, nginx.holdings()?);
    let report = end(recording)?;
    let mut problems = judge("haproxy", &front, &holds_front, &report);
    problems.extend(judge("nginx behind it", &back, &holds_back, &report));
    tell(&problems)
}
