//! A server's processes: found, started, waited for, and ended with all that they forked.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::holders::{self, Holding};
use super::place::Place;
use crate::harness::process::{Running, wait_for};

/// The user and the group without rights, as Debian numbers them.
pub const NOBODY: u32 = 65534;

/// Where programs are that are in nobody's PATH but root's.
const ROOTS_PROGRAMS: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/usr/bin", "/sbin"];

/// Debian keeps each version of `PostgreSQL` below this, and only wrappers in the PATH.
const POSTGRES: &str = "/usr/lib/postgresql";

/// How long a server may take to listen.
const START: Duration = Duration::from_mins(1);

/// How long a server may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(10);

/// Between two looks at figures that should not change any more.
const PAUSE: Duration = Duration::from_millis(200);

/// A server's main process; ended when dropped, and its descendants with it.
pub(super) struct Server {
    running: Running,
    end: Signal,
}

impl Server {
    /// Starts it and waits until it listens at every place. `end` makes it end at once, and cleanly.
    pub(super) fn start(command: &mut Command, places: &[Place], end: Signal) -> Result<Self> {
        let mut server = Self { running: Running::start(command)?, end };
        let mut ended = false;
        let listening = wait_for(START, || {
            ended = server.running.has_ended();
            ended || places.iter().all(holders::is_listening)
        });
        if ended || !listening {
            let out = server.running.out_so_far();
            bail!("{command:?} does not listen at {places:?}:\n{out}\n{}", server.err_so_far());
        }
        Ok(server)
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub(super) fn err_so_far(&self) -> String {
        self.running.err_so_far()
    }

    /// Kills it at once.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.running.signal(Signal::SIGKILL)?;
        if !wait_for(GRACE, || self.running.has_ended()) {
            bail!("{} does not end though it was killed", self.pid());
        }
        Ok(())
    }

    pub(super) fn wait_err(&mut self, word: &str) -> Result<()> {
        self.running.wait_err(word)
    }

    /// Who holds which listener at these places.
    pub(super) fn holdings(&self, places: &[Place]) -> Result<Vec<Holding>> {
        holders::holdings(Path::new("/proc"), places)
            .with_context(|| format!("the listeners of {}", self.pid()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What it forked outlives it if it has to be killed.
        let forked = holders::descendants(Path::new("/proc"), self.pid());
        let _gone = self.running.signal(self.end);
        if wait_for(GRACE, || self.running.has_ended()) {
            return;
        }
        for pid in forked.into_iter().filter_map(|pid| i32::try_from(pid).ok()) {
            let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// A directory that servers of any user may enter.
pub(super) fn directory() -> Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("server-").tempdir().context("a directory")?;
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).context("opening the directory")?;
    Ok(dir)
}

/// Where a program is whose name may end with its version.
pub(super) fn find_program(name: &str) -> Result<PathBuf> {
    let is_it = |file: &PathBuf| {
        let rest = file.file_name().and_then(|file| file.to_str()?.strip_prefix(name));
        rest.is_some_and(|rest| rest.chars().all(|it| it.is_ascii_digit() || it == '.'))
    };
    let places = ROOTS_PROGRAMS.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten();
    let mut files = places.filter_map(|entry| Some(entry.ok()?.path()));
    match files.find(is_it) {
        Some(file) => Ok(file),
        None => program(name),
    }
}

/// Where a program is.
///
/// # Errors
/// When it is not installed.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = postgres_programs().into_iter().chain(std::env::split_paths(&path));
    let mut places = places.chain(ROOTS_PROGRAMS.map(PathBuf::from)).map(|dir| dir.join(name));
    places.find(|file| file.is_file()).with_context(|| {
        format!(
            "{name} is not installed, and its tests cannot run; `cargo xtask setup` installs it"
        )
    })
}

/// The directory of the newest `PostgreSQL`'s programs, if there is one.
fn postgres_programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir(POSTGRES).ok()?.filter_map(std::result::Result::ok);
    let newest = versions.max_by_key(|version| {
        version.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
    });
    newest.map(|version| version.path().join("bin"))
}

/// Asks for a figure until it has come to rest: until it grows by `cost` only, what asking adds to it.
///
/// # Errors
/// When asking fails, or the figure never rests.
pub fn at_rest(cost: u64, mut ask: impl FnMut() -> Result<u64>) -> Result<u64> {
    let mut last = ask()?;
    for _ in 0..100 {
        std::thread::sleep(PAUSE);
        let now = ask()?;
        if now == last + cost {
            return Ok(now);
        }
        last = now;
    }
    bail!("it is {last} and still grows: somebody else uses this server")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_an_error_that_says_what_installs_it() {
        let error = program("no-such-server").expect_err("nobody has this").to_string();
        assert!(error.contains("cargo xtask setup"), "{error}");
    }

    #[test]
    fn a_figure_rests_when_only_the_questions_add_to_it() -> Result<()> {
        let mut figures = [3, 9, 10].into_iter();
        let rest = at_rest(1, || figures.next().context("asked too often"))?;
        assert_eq!(rest, 10);
        Ok(())
    }
}
