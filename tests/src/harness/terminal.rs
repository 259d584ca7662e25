//! A terminal with a job in it: what a person at it types, sees, and is told by the shell.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{ChildStdin, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use nix::pty::openpty;
use nix::unistd::ttyname;

use super::process::{PATIENCE, Running, wait_for};
use super::run::scenario;

/// Ctrl-C
pub const INTERRUPT: u8 = 0x03;
/// Ctrl-Z
pub const SUSPEND: u8 = 0x1a;
/// Ctrl-\
pub const QUIT: u8 = 0x1c;

/// A terminal, its shell, and the shell's one job.
pub struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    shell: Running,
    input: ChildStdin,
    /// Held, so that the terminal is not hung up before it was read to its end.
    _line: OwnedFd,
    _reader: JoinHandle<()>,
}

impl Terminal {
    /// Starts a job in the foreground, or as the flags of `scenario shell` say.
    ///
    /// # Errors
    /// When there is no terminal to be had.
    pub fn start(flags: &[&str], job: &Command) -> Result<Self> {
        let pair = openpty(None, None).context("a terminal")?;
        let line = ttyname(&pair.slave).context("the terminal's name")?;
        let mut shell = Command::new(scenario()?);
        shell.arg("shell").arg(line).args(flags).arg("--");
        shell.arg(job.get_program()).args(job.get_args());
        for (name, value) in job.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let (shell, input) = Running::start_with_input(&mut shell)?;
        let keyboard = File::from(pair.master);
        let mut from = keyboard.try_clone().context("the terminal, to read")?;
        let screen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut part = [0u8; 4096];
            while let Ok(count @ 1..) = from.read(&mut part) {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend(&part[..count]);
            }
        });
        Ok(Self { keyboard, screen, shell, input, _line: pair.slave, _reader: reader })
    }

    /// Types one key.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn press(&mut self, key: u8) -> Result<()> {
        self.keyboard.write_all(&[key]).context("typing")
    }

    /// Lets the stopped job go on in the foreground.
    ///
    /// # Errors
    /// When the shell is gone.
    pub fn foreground(&mut self) -> Result<()> {
        self.input.write_all(b"fg\n").context("telling the shell")
    }

    /// All that was shown so far.
    pub fn shown(&self) -> String {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&screen).into_owned()
    }

    /// Waits until this was shown.
    ///
    /// # Errors
    /// When it is not.
    pub fn wait_shown(&self, words: &str) -> Result<()> {
        if wait_for(PATIENCE, || self.shown().contains(words)) {
            return Ok(());
        }
        bail!("never shown: `{words}`\n{}", self.story())
    }

    /// Waits until the shell has told this of its job.
    ///
    /// # Errors
    /// When it has not.
    pub fn wait_told(&self, line: &str) -> Result<()> {
        if wait_for(PATIENCE, || self.shell.out_so_far().lines().any(|told| told == line)) {
            return Ok(());
        }
        bail!("the shell never told: `{line}`\n{}", self.story())
    }

    /// Everything that was seen, for a failure's message.
    pub fn story(&self) -> String {
        let (told, err) = (self.shell.out_so_far(), self.shell.err_so_far());
        format!("--- shell\n{told}{err}\n--- screen\n{}", self.shown())
    }
}
