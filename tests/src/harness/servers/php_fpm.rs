//! PHP-FPM: a master that makes the socket, with the mode and the owner that its pool is given.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::place::Place;
use super::server::{Server, directory, find_program};

/// A running PHP-FPM with one worker.
pub struct PhpFpm {
    /// Its socket.
    pub unix: Place,
    _server: Server,
    _dir: TempDir,
}

impl PhpFpm {
    /// Starts it with a socket at `path`; its owner and group are root's.
    ///
    /// # Errors
    /// When it is not installed or does not listen.
    pub fn start(path: &Path, mode: &str) -> Result<Self> {
        let dir = directory()?;
        let file = dir.path().join("php-fpm.conf");
        std::fs::write(&file, configuration(dir.path(), path, mode)?).context("its file")?;
        let mut command = Command::new(find_program("php-fpm")?);
        command.args(["--nodaemonize", "--allow-to-run-as-root", "--fpm-config"]).arg(&file);
        let unix = Place::Unix(path.to_owned());
        let server = Server::start(&mut command, std::slice::from_ref(&unix), Signal::SIGTERM)?;
        Ok(Self { unix, _server: server, _dir: dir })
    }
}

fn configuration(dir: &Path, socket: &Path, mode: &str) -> Result<String> {
    let mut text = String::new();
    let (dir, socket) = (dir.display(), socket.display());
    writeln!(text, "[global]\nerror_log = {dir}/log\npid = {dir}/pid\n[app]")?;
    writeln!(text, "user = nobody\ngroup = nogroup\npm = static\npm.max_children = 1")?;
    writeln!(text, "listen = {socket}\nlisten.owner = root\nlisten.group = root")?;
    writeln!(text, "listen.mode = {mode}")?;
    Ok(text)
}
