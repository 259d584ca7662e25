//! gunicorn: workers that wait for the same listeners, each with the count of its log.

use anyhow::Result;
use socktrace_tests::harness::compare::served;
use socktrace_tests::harness::servers::gunicorn::Gunicorn;
use socktrace_tests::harness::servers::http_requests;

use crate::recorded::{alone, begin, end, judge, tell};

#[test]
fn each_worker_of_gunicorn_has_the_count_of_its_log() -> Result<()> {
    alone()?;
    let recording = begin(&["-a"])?;
    let gunicorn = Gunicorn::start()?;
    http_requests(&gunicorn.tcp, 4, 50)?;
    http_requests(&gunicorn.unix, 4, 40)?;
    let logged = gunicorn.logged()?;
    let holdings = gunicorn.holdings()?;
    let report = end(recording)?;
    println!("gunicorn's workers log {:?}", logged.workers);
    let counted =
        [(gunicorn.tcp.to_string(), logged.tcp), (gunicorn.unix.to_string(), logged.unix)];
    let mut problems = judge("gunicorn", &counted, &holdings, &report);
    problems.extend(served::processes(&logged.workers, &report));
    tell(&problems)
}
