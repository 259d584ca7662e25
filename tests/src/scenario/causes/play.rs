//! Many incidents in one recording: every client and every server is a process of its own, all is laid out
//! and at rest before the first connect, and everybody stays until the report is written.
//!
//! Owns the order of it. Who the clients are and what is in their way is with the incidents.

use std::any::Any;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread::sleep;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{SockFlag, SockType};
use nix::unistd::{Pid, geteuid};

use super::bells::{Bells, PATIENCE};
use super::who::Who;
use crate::scenario::actor::{Actor, Role, prepare};
use crate::scenario::attempt::{failure, must_be};
use crate::scenario::clock::sleep_ms;
use crate::scenario::gate::Gate;
use crate::scenario::record::{AcceptErrors, Failure};
use crate::scenario::socket::{Address, Listener, bound, listen};
use crate::scenario::stage::Stage;

/// For how long files are at rest before somebody connects: longer than the lag of their time stamps.
const SETTLE_MS: u64 = 100;
/// For how long everything stays as it is after the last connect.
const STAY_MS: u64 = 4000;

/// What must be held on to: descriptors, mostly.
pub(super) type Held = Box<dyn Any>;
/// Something that a process does once it is asked to.
type Act<T> = Box<dyn FnOnce() -> Result<T>>;
/// What is tried, and what its record must tell besides.
type Attempt = Box<dyn FnOnce(&mut Failure) -> Result<()>>;

/// A client: who, from where, and what it tries.
pub(super) struct Client {
    name: &'static str,
    who: Who,
    /// Where it connects to, and how that must fail.
    at: Address,
    errno: Errno,
    /// What it does as root before it becomes itself.
    enter: Act<()>,
    attempt: Attempt,
}

impl Client {
    /// One stream connect that must fail so.
    pub(super) fn of(name: &'static str, at: Address, errno: Errno) -> Self {
        Self::of_kind(name, at, SockType::Stream, errno)
    }

    pub(super) fn of_kind(name: &'static str, at: Address, kind: SockType, errno: Errno) -> Self {
        Self::trying(name, at, errno, move || {
            let socket = at.socket(kind, SockFlag::empty())?;
            must_be(&at, errno, at.connect(&socket))
        })
    }

    /// Something that fails so in the end.
    pub(super) fn trying(
        name: &'static str,
        at: Address,
        errno: Errno,
        attempt: impl FnOnce() -> Result<()> + 'static,
    ) -> Self {
        let (enter, attempt) = (Box::new(|| Ok(())), Box::new(|_: &mut Failure| attempt()));
        Self { name, who: Who::Root, at, errno, enter, attempt }
    }

    /// One stream connect that must fail so, and what its process does at once then.
    pub(super) fn changing(
        name: &'static str,
        at: Address,
        errno: Errno,
        change: impl FnOnce() -> Result<()> + 'static,
    ) -> Self {
        Self::trying(name, at, errno, move || {
            let socket = at.socket(SockType::Stream, SockFlag::empty())?;
            let outcome = at.connect(&socket);
            let changed = change();
            must_be(&at, errno, outcome)?;
            changed
        })
    }

    /// One stream connect that must fail so, of a process that is gone then.
    pub(super) fn ending(name: &'static str, at: Address, errno: Errno) -> Self {
        let attempt = move |failed: &mut Failure| {
            let once = move || {
                let socket = at.socket(SockType::Stream, SockFlag::empty())?;
                must_be(&at, errno, at.connect(&socket))
            };
            let child = prepare::<(), _>(Role::named(short(name)), once)?;
            failed.pid = child.pid();
            child.perform()
        };
        Self { attempt: Box::new(attempt), ..Self::of(name, at, errno) }
    }

    /// One stream connect that must fail so, of a child that stays.
    pub(super) fn of_child(name: &'static str, at: Address, errno: Errno) -> Self {
        let attempt = move |failed: &mut Failure| {
            let (read, write) = std::io::pipe().context("pipe")?;
            let once = move || {
                let socket = at.socket(SockType::Stream, SockFlag::empty())?;
                must_be(&at, errno, at.connect(&socket))?;
                (&write).write_all(b"!").context("pipe")?;
                // It ends with its parent.
                sleep(PATIENCE);
                Ok(())
            };
            let mut child = prepare::<(), _>(Role::named(short(name)), once)?;
            failed.pid = child.pid();
            child.start()?;
            (&read).read_exact(&mut [0]).context("the child did not fail as it should")?;
            std::mem::forget(child);
            Ok(())
        };
        Self { attempt: Box::new(attempt), ..Self::of(name, at, errno) }
    }

    pub(super) fn by(self, who: Who) -> Self {
        Self { who, ..self }
    }

    /// Goes somewhere first: changes root, directory or namespace.
    pub(super) fn from(self, enter: impl FnOnce() -> Result<()> + 'static) -> Self {
        Self { enter: Box::new(enter), ..self }
    }
}

/// A play in preparation.
pub(super) struct Play<'a> {
    stage: &'a mut Stage,
    bells: Rc<Bells>,
    clients: Vec<Actor<Failure>>,
    servers: Vec<Actor<()>>,
    refused: Vec<Actor<AcceptErrors>>,
    scenery: Vec<(&'static str, Act<Held>)>,
}

impl<'a> Play<'a> {
    pub(super) fn new(stage: &'a mut Stage) -> Result<Self> {
        Ok(Self {
            stage,
            bells: Rc::new(Bells::new()?),
            clients: Vec::new(),
            servers: Vec::new(),
            refused: Vec::new(),
            scenery: Vec::new(),
        })
    }

    /// What this machine refused.
    pub(super) fn lacks(&mut self, what: &str) {
        self.stage.seen.lacks.push(what.to_owned());
    }

    /// A path in the work directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.stage.path(name)
    }

    /// A new directory in it.
    pub(super) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.stage.path(name);
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// A client that waits where it is to connect from until everything is at rest.
    pub(super) fn client(&mut self, client: Client) -> Result<()> {
        let bells = Rc::clone(&self.bells);
        let Client { name, who, at, errno, enter, attempt } = client;
        let act = move || {
            // Another root may have no /proc.
            let mut failed = failure(name, &at, errno, 1)?;
            enter().with_context(|| format!("{name}: entering"))?;
            who.become_it().with_context(|| name.to_owned())?;
            failed.uid = geteuid().as_raw();
            bells.arrive()?;
            bells.wait_go()?;
            attempt(&mut failed).with_context(|| name.to_owned())?;
            bells.arrive()?;
            bells.wait_end()?;
            Ok(failed)
        };
        self.clients.push(prepare(Role::named(short(name)), act)?);
        Ok(())
    }

    /// A server of its own process: makes what it holds, then lives on.
    pub(super) fn server<T: 'static>(
        &mut self,
        name: &'static str,
        make: impl FnOnce() -> Result<T> + 'static,
        then: impl FnOnce() -> Result<()> + 'static,
    ) -> Result<()> {
        let bells = Rc::clone(&self.bells);
        let act = move || {
            let _held = make().with_context(|| format!("{name}: the server"))?;
            bells.arrive()?;
            then()?;
            bells.wait_end()
        };
        self.servers.push(prepare(Role::named(short(name)), act)?);
        Ok(())
    }

    /// A server whose `accept()` fails when the clients connect.
    pub(super) fn refused_server(
        &mut self,
        name: &'static str,
        serve: impl FnOnce() -> Result<AcceptErrors> + 'static,
    ) -> Result<()> {
        let bells = Rc::clone(&self.bells);
        let act = move || {
            bells.arrive()?;
            bells.wait_go()?;
            let errors = serve().with_context(|| format!("{name}: the server"))?;
            bells.arrive()?;
            bells.wait_end()?;
            Ok(errors)
        };
        self.refused.push(prepare(Role::named(short(name)), act)?);
        Ok(())
    }

    /// What this process makes and holds once every other process is forked.
    pub(super) fn scenery<T: 'static>(
        &mut self,
        name: &'static str,
        make: impl FnOnce() -> Result<T> + 'static,
    ) {
        self.scenery.push((name, Box::new(move || Ok(Box::new(make()?) as Held))));
    }

    /// Performs it around the gate.
    pub(super) fn perform(mut self, gate: &Gate) -> Result<()> {
        self.lay_out()?;
        sleep_ms(SETTLE_MS);
        let _held = self.make_scenery()?;
        let waiting = self.clients.iter_mut().try_for_each(Actor::start);
        let waiting = waiting.and_then(|()| self.refused.iter_mut().try_for_each(Actor::start));
        waiting?;
        self.wait_there(self.clients.len() + self.refused.len())?;
        sleep_ms(SETTLE_MS);
        gate.arrive()?;
        self.bells.let_go()?;
        self.wait_there(self.clients.len() + self.refused.len())?;
        sleep_ms(STAY_MS);
        gate.leave_and_stay()?;
        self.end()
    }

    fn lay_out(&mut self) -> Result<()> {
        self.servers.iter_mut().try_for_each(Actor::start)?;
        self.wait_there(self.servers.len())
    }

    fn make_scenery(&mut self) -> Result<Vec<Held>> {
        let make = |(name, make): (&'static str, Act<Held>)| make().with_context(|| name);
        std::mem::take(&mut self.scenery).into_iter().map(make).collect()
    }

    /// Waits for so many; whoever went wrong ends early, and tells when it is asked for its result.
    fn wait_there(&mut self, wanted: usize) -> Result<()> {
        let ended = || {
            self.clients.iter().any(has_ended)
                || self.servers.iter().any(has_ended)
                || self.refused.iter().any(has_ended)
        };
        let there = self.bells.wait_there(u64::try_from(wanted)?, ended);
        there.or_else(|error| self.end().and(Err(error)))
    }

    fn end(&mut self) -> Result<()> {
        self.bells.end()?;
        // Those who are in the middle of something wait for this, too.
        self.bells.let_go()?;
        for server in std::mem::take(&mut self.servers) {
            let pid = Pid::from_raw(i32::try_from(server.pid())?);
            kill(pid, Signal::SIGCONT).context("SIGCONT")?;
            server.finish()?;
        }
        for client in std::mem::take(&mut self.clients) {
            self.stage.failed(client.finish()?);
        }
        for server in std::mem::take(&mut self.refused) {
            self.stage.seen.accept_errors.push(server.finish()?);
        }
        Ok(())
    }
}

/// As much of a name as a process can have.
fn short(name: &str) -> &str {
    name.get(..15).unwrap_or(name)
}

fn has_ended<T>(actor: &Actor<T>) -> bool
where
    T: serde::de::DeserializeOwned,
{
    let mut asked = [PollFd::new(actor.finished().as_fd(), PollFlags::POLLIN)];
    poll(&mut asked, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// A stream listener at a path that anybody may connect to.
pub(super) fn open_listener(path: &Path) -> Result<Listener> {
    let listener = listen(&Address::path(path)?, SockType::Stream, 16)?;
    super::files::set_mode(path, 0o666)?;
    Ok(listener)
}

/// A free port of this address in the namespace that it is called in.
pub(super) fn free_port(ip: IpAddr) -> Result<Address> {
    Ok(bound(&Address::ip(ip, 0), SockType::Stream)?.1)
}
