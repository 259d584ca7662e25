//! `PostgreSQL`: a postmaster that accepts and forks, a port and a Unix socket, run as nobody since
//! it refuses root.
//!
//! Its own figure: the lines of `log_connections`, one per connection, which tell where it came from.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::holders::Holding;
use super::load::pgbench;
use super::place::Place;
use super::server::{NOBODY, Server, at_rest, directory, program};
use crate::harness::process::Running;

/// A running `PostgreSQL`.
pub struct Postgres {
    /// Its port.
    pub tcp: Place,
    /// Its socket.
    pub unix: Place,
    port: u16,
    server: Server,
    dir: TempDir,
}

impl Postgres {
    /// Makes a cluster and starts it.
    ///
    /// # Errors
    /// When it is not installed or does not listen.
    pub fn start() -> Result<Self> {
        let dir = directory()?;
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).context("a directory of nobody's")?;
        let data = initialise(dir.path())?;
        let tcp = Place::free_port()?;
        let port = tcp.port().context("a port")?;
        let unix = Place::socket(dir.path(), &format!(".s.PGSQL.{port}"));
        let mut command = Command::new(program("postgres")?);
        command.uid(NOBODY).gid(NOBODY).current_dir(dir.path()).arg("-D").arg(data);
        for setting in settings(dir.path(), port) {
            command.arg("-c").arg(setting);
        }
        let places = [tcp.clone(), unix.clone()];
        let mut server = Server::start(&mut command, &places, Signal::SIGINT)?;
        server.wait_err("ready to accept connections")?;
        Ok(Self { tcp, unix, port, server, dir })
    }

    /// Starts psql as somebody who may not use its socket, and waits for the refusal.
    ///
    /// # Errors
    /// When it is not installed, or is not refused.
    pub fn refuse(&self, uid: u32) -> Result<()> {
        let mut command = Command::new(program("psql")?);
        command.uid(uid).gid(uid).current_dir("/").arg("-h").arg(self.dir.path());
        command.args(["-p", &self.port.to_string(), "-U", "postgres", "-c", "SELECT 1"]);
        let finished = Running::start(&mut command)?.finish()?;
        ensure!(finished.err().contains("Permission denied"), "psql: {}", finished.told());
        Ok(())
    }

    /// The postmaster's pid.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Load over the port and over the socket, with a connection for each transaction.
    ///
    /// # Errors
    /// When pgbench fails.
    pub fn load(&self) -> Result<()> {
        let script = self.dir.path().join("one.sql");
        std::fs::write(&script, "SELECT 1;\n").context("a script")?;
        pgbench("127.0.0.1", self.port, &script)?;
        pgbench(&self.dir.path().display().to_string(), self.port, &script)
    }

    /// The connections in its log, by place, once they rest.
    ///
    /// # Errors
    /// When they never rest.
    pub fn received(&self) -> Result<[(String, u64); 2]> {
        let counted = || parse_log(&self.server.err_so_far());
        let _all = at_rest(0, || Ok(counted().iter().sum()))?;
        let [tcp, unix] = counted();
        Ok([(self.tcp.to_string(), tcp), (self.unix.to_string(), unix)])
    }

    /// Who holds its listeners.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn holdings(&self) -> Result<Vec<Holding>> {
        self.server.holdings(&[self.tcp.clone(), self.unix.clone()])
    }
}

fn initialise(dir: &Path) -> Result<PathBuf> {
    let data = dir.join("data");
    let mut command = Command::new(program("initdb")?);
    command.uid(NOBODY).gid(NOBODY).current_dir(dir).arg("-D").arg(&data);
    command.args(["--auth=trust", "--username=postgres", "--no-locale", "--encoding=UTF8"]);
    let finished = Running::start(command.args(["--no-sync", "--no-instructions"]))?.finish()?;
    ensure!(finished.code() == Some(0), "initdb failed: {}", finished.told());
    Ok(data)
}

fn settings(dir: &Path, port: u16) -> [String; 9] {
    [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        format!("unix_socket_directories={}", dir.display()),
        // The default opens it to everybody.
        "unix_socket_permissions=0700".to_owned(),
        "log_connections=on".to_owned(),
        "logging_collector=off".to_owned(),
        "log_destination=stderr".to_owned(),
        // A worker that is just being forked would hold the listeners for a moment.
        "autovacuum=off".to_owned(),
        "fsync=off".to_owned(),
    ]
}

/// Connections over TCP and over the Unix socket.
fn parse_log(text: &str) -> [u64; 2] {
    const RECEIVED: &str = "connection received: host=";
    let from = |host: &str| {
        let ours = |line: &&str| line.split(RECEIVED).nth(1).is_some_and(|h| h.starts_with(host));
        text.lines().filter(ours).count() as u64
    };
    [from("127.0.0.1 "), from("[local]")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_connections_are_told_by_where_they_came_from() {
        let log = "LOG:  connection received: host=127.0.0.1 port=5\n\
                   LOG:  connection authorized: user=postgres\n\
                   LOG:  connection received: host=[local]\n\
                   LOG:  connection received: host=[local]\n";
        assert_eq!(parse_log(log), [1, 2]);
    }
}
