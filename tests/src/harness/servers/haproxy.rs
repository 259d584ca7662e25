//! haproxy: one process with two threads, a port and a Unix socket in front of another server.
//!
//! Its own figures, from its stats socket: `conn_tot` of each frontend, and `CumConns` of them and
//! the stats socket together.

use std::cell::Cell;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::holders::Holding;
use super::place::{Place, exchange};
use super::server::{Server, at_rest, directory, program};

/// A running haproxy.
pub struct Haproxy {
    /// Its port.
    pub tcp: Place,
    /// Its socket.
    pub unix: Place,
    /// Where it tells its statistics.
    pub stats: Place,
    server: Server,
    asked: Cell<u64>,
    _dir: TempDir,
}

impl Haproxy {
    /// Starts it in front of `behind`.
    ///
    /// # Errors
    /// When it is not installed or does not listen.
    pub fn start(behind: &Place) -> Result<Self> {
        let dir = directory()?;
        let tcp = Place::free_port()?;
        let unix = Place::socket(dir.path(), "front.sock");
        let stats = Place::socket(dir.path(), "stats.sock");
        let file = dir.path().join("haproxy.cfg");
        let text = configuration([&tcp, &unix, &stats], behind);
        std::fs::write(&file, text).context("its file")?;
        let mut command = Command::new(program("haproxy")?);
        command.arg("-db").arg("-f").arg(&file);
        let places = [tcp.clone(), unix.clone(), stats.clone()];
        let server = Server::start(&mut command, &places, Signal::SIGTERM)?;
        Ok(Self { tcp, unix, stats, server, asked: Cell::new(0), _dir: dir })
    }

    /// What it says that each place accepted, once that rests.
    ///
    /// # Errors
    /// When it says nothing, or contradicts itself.
    pub fn accepts(&self) -> Result<[(String, u64); 3]> {
        let all = at_rest(1, || parse_info(&self.ask("show info")?))?;
        let asked = self.asked.get();
        let table = self.ask("show stat")?;
        let (tcp, unix) = (parse_stat(&table, "tcp")?, parse_stat(&table, "unix")?);
        ensure!(all == tcp + unix + asked, "CumConns {all}, conn_tot {tcp}+{unix}, asked {asked}");
        let stats = (self.bound(&self.stats), self.asked.get());
        Ok([(self.tcp.to_string(), tcp), (self.bound(&self.unix), unix), stats])
    }

    /// The name that a socket was bound to, before haproxy renamed its file.
    fn bound(&self, place: &Place) -> String {
        format!("{place}.{}.tmp", self.server.pid())
    }

    fn ask(&self, question: &str) -> Result<String> {
        self.asked.set(self.asked.get() + 1);
        exchange(&self.stats, format!("{question}\n").as_bytes())
    }

    /// Who holds its listeners.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn holdings(&self) -> Result<Vec<Holding>> {
        self.server.holdings(&[self.tcp.clone(), self.unix.clone(), self.stats.clone()])
    }
}

fn configuration([tcp, unix, stats]: [&Place; 3], behind: &Place) -> String {
    format!(
        "global\n  nbthread 2\n  stats socket {stats} mode 600 level admin\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n\
         frontend tcp\n  bind {tcp}\n  default_backend behind\n\
         frontend unix\n  bind unix@{unix}\n  default_backend behind\n\
         backend behind\n  server one {behind}\n"
    )
}

/// `CumConns` of "show info".
fn parse_info(answer: &str) -> Result<u64> {
    let mut found = answer.lines().filter_map(|line| line.strip_prefix("CumConns: "));
    let number = found.next().and_then(|number| number.trim().parse().ok());
    number.with_context(|| format!("no CumConns in `show info`: {answer}"))
}

/// `conn_tot` of a frontend in "show stat", which names its columns in its first line.
fn parse_stat(answer: &str, frontend: &str) -> Result<u64> {
    let mut lines = answer.lines();
    let names = lines.next().unwrap_or_default();
    let column = names.split(',').position(|name| name == "conn_tot");
    let row = lines.find(|line| line.starts_with(&format!("{frontend},FRONTEND,")));
    let cell = column.and_then(|column| row?.split(',').nth(column)?.parse().ok());
    cell.with_context(|| format!("no conn_tot of {frontend} in `show stat`: {answer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_are_found_by_their_names() -> Result<()> {
        assert_eq!(parse_info("Pid: 7\nCumConns: 12\nCumReq: 13\n")?, 12);
        let table = "# pxname,svname,stot,conn_tot,\nunix,FRONTEND,4,5,\ntcp,FRONTEND,6,7,\n";
        assert_eq!(parse_stat(table, "tcp")?, 7);
        assert_eq!(parse_stat(table, "unix")?, 5);
        Ok(())
    }
}
