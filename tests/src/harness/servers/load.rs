//! Load on servers: the tools that people use, each bounded, and plain connections.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::place::{Place, exchange};
use super::server::program;
use crate::harness::process::Running;

/// `wrk` for a second with so many connections at a time.
///
/// # Errors
/// When it is not installed or fails.
pub fn wrk(place: &Place, connections: u32) -> Result<()> {
    let url = format!("http://{place}/");
    let mut command = Command::new(program("wrk")?);
    done(command.args(["-t1", "-d1s", "-c", &connections.to_string(), &url]))
}

/// `redis-benchmark`: a number of requests from 50 clients, over a new connection for each.
///
/// # Errors
/// When it is not installed or fails.
pub fn redis_benchmark(place: &Place) -> Result<()> {
    let mut command = Command::new(program("redis-benchmark")?);
    match place {
        Place::Tcp(port) => command.args(["-p", &port.to_string()]),
        Place::Unix(path) => command.arg("-s").arg(path),
    };
    done(command.args(["-q", "-k", "0", "-c", "50", "-n", "2000", "-t", "set,get"]))
}

/// `pgbench` with a new connection for each transaction of the script.
///
/// # Errors
/// When it is not installed or fails.
pub fn pgbench(host: &str, port: u16, script: &std::path::Path) -> Result<()> {
    let mut command = Command::new(program("pgbench")?);
    command.args(["--connect", "--no-vacuum", "--client=4", "--jobs=2", "--transactions=40"]);
    command.args(["--username=postgres", "--host", host, "--port", &port.to_string()]);
    done(command.arg("--file").arg(script).arg("postgres"))
}

/// So many connections by each of so many clients, with one HTTP request each.
///
/// # Errors
/// When an answer is not the server's "200 OK".
pub fn http_requests(place: &Place, clients: usize, each: usize) -> Result<()> {
    let client = || -> Result<()> {
        for _ in 0..each {
            let answer = exchange(place, b"GET / HTTP/1.0\r\n\r\n")?;
            ensure!(answer.contains(" 200 OK"), "{place} answers: {answer}");
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        let ended = started.into_iter().map(|thread| thread.join().ok().context("a client")?);
        ended.collect()
    })
}

fn done(command: &mut Command) -> Result<()> {
    let finished = Running::start(command)?.finish()?;
    ensure!(finished.code() == Some(0), "{command:?} failed: {}", finished.told());
    Ok(())
}
