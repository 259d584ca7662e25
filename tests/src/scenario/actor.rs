//! A process of its own for one part of an incident: forked, renamed, perhaps without privileges.
//!
//! It is forked *before* the incident's listener exists and waits for a word: so it never holds a
//! copy of the listener's descriptor, and a listener has exactly one owner.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, pipe2, setgid, setgroups, setuid};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Who an actor is.
#[derive(Clone, Copy, Debug)]
pub struct Role<'a> {
    /// Its command name: at most 15 bytes.
    pub comm: &'a str,
    /// Its user; the scenario's own if none.
    pub uid: Option<u32>,
}

impl<'a> Role<'a> {
    /// An actor with the scenario's own user.
    pub const fn named(comm: &'a str) -> Self {
        Self { comm, uid: None }
    }
}

/// A forked process that waits for [`Actor::start`].
pub struct Actor<T> {
    pid: Pid,
    word: Option<File>,
    result: File,
    returns: PhantomData<T>,
}

/// Forks an actor that will run `act` once it is started.
///
/// # Errors
/// When the process or its pipes cannot be made.
pub fn prepare<T, F>(role: Role<'_>, act: F) -> Result<Actor<T>>
where
    T: Serialize + DeserializeOwned,
    F: FnOnce() -> Result<T>,
{
    let name = CString::new(role.comm).context("a comm with a NUL byte")?;
    let (word_out, word_in) = pipe2(OFlag::O_CLOEXEC).context("pipe")?;
    let (result_out, result_in) = pipe2(OFlag::O_CLOEXEC).context("pipe")?;
    // SAFETY: the scenario has one thread whenever it forks, so the child may do anything.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Parent { child } => Ok(Actor {
            pid: child,
            word: Some(File::from(word_in)),
            result: File::from(result_out),
            returns: PhantomData,
        }),
        ForkResult::Child => {
            drop((word_in, result_out));
            let play = || {
                become_role(&name, role.uid)?;
                wait_for_word(word_out)?;
                act()
            };
            live(File::from(result_in), play)
        }
    }
}

impl<T: DeserializeOwned> Actor<T> {
    /// The actor's process.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Lets it begin.
    ///
    /// # Errors
    /// When it has died.
    pub fn start(&mut self) -> Result<()> {
        let mut word = self.word.take().context("an actor starts once")?;
        word.write_all(b"!").context("the actor died before it began")
    }

    /// The descriptor that becomes readable once the actor has finished.
    pub fn finished(&self) -> &File {
        &self.result
    }

    /// Waits for its end and returns what it saw.
    ///
    /// # Errors
    /// What went wrong inside it.
    pub fn finish(mut self) -> Result<T> {
        let mut text = String::new();
        self.result.read_to_string(&mut text).context("reading what an actor saw")?;
        let end = waitpid(self.pid, None).context("waitpid")?;
        if text.is_empty() {
            bail!("the actor ended without a word: {end:?}");
        }
        let said: Result<T, String> = serde_json::from_str(&text).context("an actor's JSON")?;
        said.map_err(anyhow::Error::msg)
    }

    /// Starts it and waits for its end.
    ///
    /// # Errors
    /// As [`Actor::start`] and [`Actor::finish`].
    pub fn perform(mut self) -> Result<T> {
        self.start()?;
        self.finish()
    }
}

/// The child's whole life: it never returns into the parent's code.
fn live<T: Serialize>(mut result: File, play: impl FnOnce() -> Result<T>) -> ! {
    let outcome = catch_unwind(AssertUnwindSafe(play));
    let said = match outcome {
        Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
        Err(_) => Err("the actor panicked".to_owned()),
    };
    let written = serde_json::to_vec(&said).map(|bytes| result.write_all(&bytes));
    let code = i32::from(!matches!(written, Ok(Ok(()))));
    // SAFETY: ends this process at once; destructors and buffers belong to the parent.
    unsafe { libc::_exit(code) }
}

fn become_role(name: &CString, uid: Option<u32>) -> Result<()> {
    prctl::set_name(name).context("PR_SET_NAME")?;
    if let Some(uid) = uid {
        setgroups(&[]).context("setgroups")?;
        setgid(Gid::from_raw(uid)).context("setgid")?;
        setuid(Uid::from_raw(uid)).context("setuid")?;
    }
    // Changing the user clears it: so it comes last.
    prctl::set_pdeathsig(Signal::SIGKILL).context("PR_SET_PDEATHSIG")
}

fn wait_for_word(word: OwnedFd) -> Result<()> {
    let mut byte = [0u8; 1];
    File::from(word).read_exact(&mut byte).context("the scenario died")
}
