//! redis: one process, a port and a Unix socket of mode 0600.
//!
//! Its own figure: `total_connections_received` of `INFO`, of both together.

use std::cell::Cell;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::holders::Holding;
use super::place::{Place, exchange};
use super::server::{Server, at_rest, directory, program};

/// A running redis.
pub struct Redis {
    /// Its port.
    pub tcp: Place,
    /// Its socket, which only root may connect to.
    pub unix: Place,
    server: Server,
    asked: Cell<u64>,
    _dir: TempDir,
}

impl Redis {
    /// Starts it.
    ///
    /// # Errors
    /// When it is not installed or does not listen.
    pub fn start() -> Result<Self> {
        let dir = directory()?;
        let tcp = Place::free_port()?;
        let unix = Place::socket(dir.path(), "redis.sock");
        let file = dir.path().join("redis.conf");
        std::fs::write(&file, configuration(dir.path(), &tcp, &unix)).context("its file")?;
        let mut command = Command::new(program("redis-server")?);
        let places = [tcp.clone(), unix.clone()];
        let server = Server::start(command.arg(&file), &places, Signal::SIGTERM)?;
        Ok(Self { tcp, unix, server, asked: Cell::new(0), _dir: dir })
    }

    /// How many connections it received so far, without the questions for that, which go to the
    /// Unix socket; once that rests.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn received(&self) -> Result<u64> {
        Ok(at_rest(1, || self.ask())? - self.asked())
    }

    /// How often it was asked.
    pub fn asked(&self) -> u64 {
        self.asked.get()
    }

    fn ask(&self) -> Result<u64> {
        self.asked.set(self.asked.get() + 1);
        parse_info(&exchange(&self.unix, b"INFO stats\r\nQUIT\r\n")?)
    }

    /// Who holds its listeners.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn holdings(&self) -> Result<Vec<Holding>> {
        self.server.holdings(&[self.tcp.clone(), self.unix.clone()])
    }
}

fn configuration(dir: &Path, tcp: &Place, unix: &Place) -> String {
    format!(
        "bind 127.0.0.1\nport {}\nunixsocket {unix}\nunixsocketperm 600\n\
         dir {}\nsave \"\"\ndaemonize no\n",
        tcp.port().unwrap_or_default(),
        dir.display()
    )
}

fn parse_info(answer: &str) -> Result<u64> {
    let lines = answer.lines().map(str::trim);
    let mut received = lines.filter_map(|line| line.strip_prefix("total_connections_received:"));
    let received = received.next().and_then(|number| number.parse().ok());
    received.with_context(|| format!("no total_connections_received in INFO: {answer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_has_the_connections() -> Result<()> {
        assert_eq!(parse_info("# Stats\r\ntotal_connections_received:107\r\nx:1\r\n")?, 107);
        assert!(parse_info("-ERR\r\n").is_err());
        Ok(())
    }
}
