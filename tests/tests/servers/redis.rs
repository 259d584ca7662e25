//! redis: counts over TCP and over its Unix socket, and a client that may not use that socket.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use socktrace_tests::harness::process::Running;
use socktrace_tests::harness::report::{ConnectFailure, Process};
use socktrace_tests::harness::servers::redis::Redis;
use socktrace_tests::harness::servers::{NOBODY, program, redis_benchmark};

use crate::recorded::{alone, begin, end, judge, tell, whole};

/// redis-cli connects once when it starts and once more for its command.
const ATTEMPTS: u64 = 2;

#[test]
fn redis_under_redis_benchmark_has_its_own_count_per_socket() -> Result<()> {
    alone()?;
    let redis = Redis::start()?;
    let before = redis.received()?;
    let asked_before = redis.asked();
    let recording = begin(&["-a"])?;
    redis_benchmark(&redis.tcp)?;
    let between = redis.received()?;
    redis_benchmark(&redis.unix)?;
    let after = redis.received()?;
    let holdings = redis.holdings()?;
    let report = end(recording)?;
    let questions = redis.asked() - asked_before;
    let counted = [
        (redis.tcp.to_string(), between - before),
        (redis.unix.to_string(), after - between + questions),
    ];
    tell(&judge("redis", &counted, &holdings, &report))
}

#[test]
fn a_client_that_may_not_use_the_socket_of_redis_fails_with_path_and_uid() -> Result<()> {
    alone()?;
    let redis = Redis::start()?;
    let recording = begin(&["-a"])?;
    let mut command = Command::new(program("redis-cli")?);
    command.uid(NOBODY).gid(NOBODY).args(["-s", &redis.unix.to_string(), "PING"]);
    let client = Running::start(&mut command)?;
    let pid = client.pid();
    let ended = client.finish()?;
    ensure!(ended.err().contains("Permission denied"), "redis-cli may: {}", ended.told());
    let report = end(recording)?;
    tell(&whole(&report))?;
    let client = report.processes.iter().find(|process| process.pid == Some(pid));
    the_failure(client.context("the client is not in the report")?, &redis.unix.to_string())
}

fn the_failure(client: &Process, path: &str) -> Result<()> {
    let to_redis = |failure: &&ConnectFailure| failure.target.as_deref() == Some(path);
    let failures: Vec<_> = client.connect_failures.iter().filter(to_redis).collect();
    let [failure] = failures[..] else { anyhow::bail!("not one failure: {client:?}") };
    let told = (failure.family.as_str(), failure.errno.as_str(), failure.uid, failure.count);
    let wanted = ("unix", "EACCES", Some(NOBODY), ATTEMPTS);
    ensure!(told == wanted, "{told:?}, wanted {wanted:?}");
    ensure!(client.comm.as_deref() == Some("redis-cli"), "{client:?}");
    ensure!(client.uid == Some(NOBODY), "{client:?}");
    Ok(())
}
