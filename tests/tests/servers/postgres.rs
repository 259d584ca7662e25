//! `PostgreSQL` under pgbench, recorded by its pid.

use anyhow::Result;
use socktrace_tests::harness::servers::postgres::Postgres;

use crate::recorded::{alone, begin, end, judge, tell};

#[test]
fn postgres_under_pgbench_has_the_count_of_its_log_per_socket() -> Result<()> {
    alone()?;
    let postgres = Postgres::start()?;
    let recording = begin(&["-p", &postgres.pid().to_string()])?;
    postgres.load()?;
    let counted = postgres.received()?;
    let holdings = postgres.holdings()?;
    let report = end(recording)?;
    tell(&judge("postgres", &counted, &holdings, &report))
}
