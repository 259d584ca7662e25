//! gunicorn: an arbiter that listens and two workers that accept, at a port and a Unix socket.
//!
//! Its own figure: the access log. A sync worker serves one request per connection, so a line is a
//! connection, and has the worker's pid and where it came from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::holders::Holding;
use super::place::Place;
use super::server::{Server, at_rest, directory, program};

const APPLICATION: &str = "def serve(environ, start):\n    \
    start('200 OK', [('Content-Length', '6')])\n    return [b'served']\n";

/// A running gunicorn.
pub struct Gunicorn {
    /// Its port.
    pub tcp: Place,
    /// Its socket.
    pub unix: Place,
    server: Server,
    log: PathBuf,
    _dir: TempDir,
}

/// What the access log says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    /// Over TCP.
    pub tcp: u64,
    /// Over the Unix socket.
    pub unix: u64,
    /// By each worker.
    pub workers: BTreeMap<u32, u64>,
}

impl Gunicorn {
    /// Starts it.
    ///
    /// # Errors
    /// When it is not installed or does not listen.
    pub fn start() -> Result<Self> {
        let dir = directory()?;
        let tcp = Place::free_port()?;
        let unix = Place::socket(dir.path(), "gunicorn.sock");
        let log = dir.path().join("access.log");
        std::fs::write(dir.path().join("application.py"), APPLICATION).context("an application")?;
        let mut command = Command::new(program("gunicorn")?);
        command.current_dir(dir.path()).args(["--workers=2", "--worker-class=sync"]);
        command.arg(format!("--bind={tcp}")).arg(format!("--bind=unix:{unix}"));
        command.arg("--worker-tmp-dir").arg(dir.path()).arg("--access-logfile").arg(&log);
        command.args(["--access-logformat=%(p)s %({remote_addr}e)s", "application:serve"]);
        let places = [tcp.clone(), unix.clone()];
        let server = Server::start(&mut command, &places, Signal::SIGTERM)?;
        Ok(Self { tcp, unix, server, log, _dir: dir })
    }

    /// What its log says, once that rests.
    ///
    /// # Errors
    /// When there is no log, or it never rests.
    pub fn logged(&self) -> Result<Logged> {
        let read = || std::fs::read_to_string(&self.log).context("gunicorn's access log");
        let _lines = at_rest(0, || Ok(read()?.lines().count() as u64))?;
        Ok(parse_log(&read()?))
    }

    /// Who holds its listeners.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn holdings(&self) -> Result<Vec<Holding>> {
        self.server.holdings(&[self.tcp.clone(), self.unix.clone()])
    }
}

fn parse_log(text: &str) -> Logged {
    let mut logged = Logged::default();
    for line in text.lines() {
        let (pid, from) = line.split_once(' ').unwrap_or((line, ""));
        let pid = pid.trim_matches(|c| c == '<' || c == '>').parse().unwrap_or_default();
        *logged.workers.entry(pid).or_default() += 1;
        match from.trim() {
            "127.0.0.1" => logged.tcp += 1,
            _ => logged.unix += 1,
        }
    }
    logged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_connection_of_a_worker() {
        let logged = parse_log("<7> 127.0.0.1\n<8> \n<7> \n");
        assert_eq!((logged.tcp, logged.unix), (1, 2));
        assert_eq!(logged.workers, BTreeMap::from([(7, 2), (8, 1)]));
    }
}
