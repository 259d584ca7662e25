//! nginx: a master and two workers, who share one listener or have one each (`reuseport`).
//!
//! Its own figures: `stub_status`, asked over a Unix socket, for everybody together, and an access
//! log with worker and connection number.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::holders::Holding;
use super::place::{Place, exchange};
use super::server::{Server, at_rest, directory, program};

/// How the workers listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All at one socket.
    One,
    /// At one socket per worker.
    Reuseport,
}

/// A running nginx.
pub struct Nginx {
    /// Where it serves.
    pub place: Place,
    /// Where it tells its status.
    pub status: Place,
    /// Where it expects an application that answers `/app`.
    pub upstream: PathBuf,
    server: Server,
    log: PathBuf,
    asked: Cell<u64>,
    _dir: TempDir,
}

impl Nginx {
    /// Starts it.
    ///
    /// # Errors
    /// When it is not installed or does not listen.
    pub fn start(sharing: Sharing) -> Result<Self> {
        let dir = directory()?;
        let place = Place::free_port()?;
        let status = Place::socket(dir.path(), "status.sock");
        let log = dir.path().join("access.log");
        let upstream = dir.path().join("app.sock");
        let file = dir.path().join("nginx.conf");
        let reuseport = if sharing == Sharing::Reuseport { "reuseport" } else { "" };
        let path = dir.path().display().to_string();
        std::fs::write(&file, configuration(&path, &place, reuseport)).context("its file")?;
        let mut command = Command::new(program("nginx")?);
        command.args(["-e", "stderr", "-p"]).arg(dir.path()).arg("-c").arg(&file);
        let places = [place.clone(), status.clone()];
        let server = Server::start(&mut command, &places, Signal::SIGTERM)?;
        Ok(Self { place, status, upstream, server, log, asked: Cell::new(0), _dir: dir })
    }

    /// Asks for what only the application has, which is not there.
    ///
    /// # Errors
    /// When the answer is another than "502 Bad Gateway".
    pub fn ask_application(&self) -> Result<()> {
        let answer = exchange(&self.place, b"GET /app HTTP/1.0\r\n\r\n")?;
        anyhow::ensure!(answer.contains(" 502 "), "nginx answers: {answer}");
        Ok(())
    }

    /// What `stub_status` says was accepted, once that rests: by the place that serves, then by
    /// the other one, of which it does not speak apart: that is once per question.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn accepts(&self) -> Result<[(String, u64); 2]> {
        let all = at_rest(1, || self.ask())?;
        let asked = self.asked.get();
        Ok([(self.place.to_string(), all - asked), (self.status.to_string(), asked)])
    }

    fn ask(&self) -> Result<u64> {
        self.asked.set(self.asked.get() + 1);
        parse_status(&exchange(&self.status, b"GET / HTTP/1.0\r\n\r\n")?)
    }

    /// How many connections with a request each worker has in the log.
    ///
    /// # Errors
    /// When there is no log.
    pub fn logged(&self) -> Result<BTreeMap<u32, u64>> {
        Ok(parse_log(&std::fs::read_to_string(&self.log).context("nginx's access log")?))
    }

    /// Who holds its listeners.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn holdings(&self) -> Result<Vec<Holding>> {
        self.server.holdings(&[self.place.clone(), self.status.clone()])
    }
}

fn configuration(dir: &str, place: &Place, reuseport: &str) -> String {
    format!(
        "daemon off;\nuser nobody nogroup;\nworker_processes 2;\npid {dir}/nginx.pid;\n\
         error_log stderr;\nevents {{ worker_connections 512; }}\n\
         http {{\n\
         client_body_temp_path {dir}/body;\nproxy_temp_path {dir}/proxy;\n\
         fastcgi_temp_path {dir}/fastcgi;\nuwsgi_temp_path {dir}/uwsgi;\n\
         scgi_temp_path {dir}/scgi;\n\
         log_format connections '$pid $connection';\naccess_log {dir}/access.log connections;\n\
         keepalive_requests 20;\n\
         server {{ listen {place} {reuseport}; location / {{ return 200 'served'; }} \
         location /app {{ fastcgi_pass unix:{dir}/app.sock; }} }}\n\
         server {{ listen unix:{dir}/status.sock; location / {{ stub_status; }} }}\n\
         }}\n"
    )
}

/// `accepts` in "server accepts handled requests", the line after it.
fn parse_status(answer: &str) -> Result<u64> {
    let mut lines = answer.lines().skip_while(|line| !line.starts_with("server accepts"));
    let accepts = lines.nth(1).and_then(|line| line.split_whitespace().next()?.parse().ok());
    accepts.with_context(|| format!("no accepts in stub_status: {answer}"))
}

/// Distinct connections per worker.
fn parse_log(text: &str) -> BTreeMap<u32, u64> {
    let number = |word: Option<&str>| word.and_then(|word| word.parse::<u32>().ok());
    let parse = |line: &str| {
        let mut words = line.split(' ');
        Some((number(words.next())?, number(words.next())?))
    };
    let connections: BTreeSet<(u32, u32)> = text.lines().filter_map(parse).collect();
    let mut counts = BTreeMap::new();
    for (pid, _) in connections {
        *counts.entry(pid).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stub_status_has_the_accepts_first() -> Result<()> {
        let answer = "HTTP/1.1 200 OK\r\n\r\nActive connections: 1 \n\
                      server accepts handled requests\n 42 41 40 \nReading: 0\n";
        assert_eq!(parse_status(answer)?, 42);
        Ok(())
    }

    #[test]
    fn requests_of_one_connection_count_once() {
        let counts = parse_log("7 1\n7 1\n8 2\n7 3\n");
        assert_eq!(counts, BTreeMap::from([(7, 2), (8, 1)]));
    }
}
