//! `systemd-socket-activate`: listens on behalf of a server that is started by the first connection.

use std::process::Command;

use anyhow::Result;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::place::Place;
use super::server::{Server, directory, program};

/// A running one, whose server never starts.
pub struct SocketActivate {
    /// Its socket: by umask, only its owner may connect.
    pub unix: Place,
    server: Server,
    _dir: TempDir,
}

impl SocketActivate {
    /// Starts it.
    ///
    /// # Errors
    /// When it is not installed or does not listen.
    pub fn start() -> Result<Self> {
        let dir = directory()?;
        let unix = Place::socket(dir.path(), "activated.sock");
        let mut command = Command::new(program("systemd-socket-activate")?);
        command.arg(format!("--listen={unix}")).arg("/bin/cat");
        let server = Server::start(&mut command, std::slice::from_ref(&unix), Signal::SIGTERM)?;
        Ok(Self { unix, server, _dir: dir })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }
}
