//! rsyslog with one input: the datagram socket that programs log to, at a path of its own, so that the
//! machine's `/dev/log` is left alone.

use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::place::Place;
use super::server::{Server, directory, program};
use crate::harness::process::{PATIENCE, wait_for};

/// A running rsyslog.
pub struct Rsyslog {
    /// Its socket.
    pub unix: Place,
    server: Server,
    _dir: TempDir,
}

impl Rsyslog {
    /// Starts it.
    ///
    /// # Errors
    /// When it is not installed or has no socket.
    pub fn start() -> Result<Self> {
        let dir = directory()?;
        let unix = Place::socket(dir.path(), "log");
        let file = dir.path().join("rsyslog.conf");
        let path = dir.path().display();
        let text = format!(
            "global(workDirectory=\"{path}\")\n\
             module(load=\"imuxsock\" SysSock.Use=\"off\")\n\
             input(type=\"imuxsock\" Socket=\"{unix}\")\n\
             action(type=\"omfile\" file=\"{path}/messages\")\n"
        );
        std::fs::write(&file, text).context("its file")?;
        let mut command = Command::new(program("rsyslogd")?);
        command.arg("-n").arg("-f").arg(&file).arg("-i").arg(dir.path().join("pid"));
        // A datagram socket does not listen: there is nothing to wait for but its file.
        let server = Server::start(&mut command, &[], Signal::SIGTERM)?;
        let there = wait_for(PATIENCE, || dir.path().join("log").exists());
        anyhow::ensure!(there, "rsyslog makes no socket: {}", server.err_so_far());
        Ok(Self { unix, server, _dir: dir })
    }

    /// Kills it: its socket's file is left behind.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> Result<()> {
        self.server.kill()
    }

    /// Logs a line as programs do, which fails.
    ///
    /// # Errors
    /// When it is not refused.
    pub fn refuse(&self, mut logger: Command) -> Result<()> {
        logger.args(["--socket-errors=on", "-u", &self.unix.to_string(), "a line"]);
        let ended = crate::harness::process::Running::start(&mut logger)?.finish()?;
        anyhow::ensure!(ended.code() != Some(0), "logger may: {}", ended.told());
        Ok(())
    }
}
