//! Listeners that stay until the test is done with them: of every family, with connections in their
//! queues, in this network namespace or in one of their own, held by one process or two.
//!
//! Nothing goes wrong here; what matters is what can be listed meanwhile.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{SockFlag, SockType};
use serde::{Deserialize, Serialize};

use super::actor::{Role, prepare};
use super::gate::Gate;
use super::listener::loopback;
use super::netns::bring_up_loopback;
use super::socket::{Address, Listener, listen};
use super::stage::{Stage, whoami};

/// `net.core.somaxconn` of the namespace that [`Place::Namespace`] makes.
pub const SMALL_SOMAXCONN: u32 = 77;
/// A name that would clear the reader's terminal.
pub const HOSTILE_NAME: &[u8] = b"a\nb\x1b[2J.sock";
const CURRENT: &str = "/proc/thread-self/ns/net";

/// Where the listeners are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this network namespace.
    Here,
    /// In a namespace of their own, in which their process stays.
    Namespace,
    /// In a namespace in which no process is any more: `DIR/pin` keeps it.
    Pinned,
}

/// A listener that is there until the gate opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// `unix`, `inet` or `inet6`.
    pub family: String,
    /// `stream` or `seqpacket`.
    pub kind: String,
    /// Its address as a report names it, hostile bytes raw.
    pub local: String,
    /// The socket's inode number.
    pub inode: u64,
    /// Inode of its network namespace.
    pub netns: u64,
    /// Connections in its queue.
    pub queue: u32,
    /// The backlog that applies.
    pub effective: u32,
    /// `net.core.somaxconn` of its namespace.
    pub somaxconn: u32,
    /// Everybody who holds it, ascending.
    pub pids: Vec<u32>,
    /// The name of whoever made it.
    pub comm: String,
    /// Their uid.
    pub uid: u32,
}

/// A listener and the clients in its queue, open as long as this is.
struct Open {
    listener: Listener,
    kind: SockType,
    clients: Vec<OwnedFd>,
}

impl Place {
    /// By its word on the command line.
    ///
    /// # Errors
    /// When there is no such place.
    pub fn named(word: &str) -> Result<Self> {
        match word {
            "here" => Ok(Self::Here),
            "netns" => Ok(Self::Namespace),
            "pinned" => Ok(Self::Pinned),
            _ => bail!("no place `{word}`; known: here, netns, pinned"),
        }
    }
}

/// Makes the listeners, prints them on one line, and keeps them until the gate opens.
///
/// # Errors
/// When one cannot be made, or nobody opens the gate.
pub fn hold(place: Place, dir: &Path) -> Result<()> {
    let stage = Stage::new(None)?;
    let home = File::open(CURRENT).context(CURRENT)?;
    if place != Place::Here {
        unshare(CloneFlags::CLONE_NEWNET).context("a network namespace")?;
        bring_up_loopback()?;
        let path = "/proc/sys/net/core/somaxconn";
        std::fs::write(path, SMALL_SOMAXCONN.to_string()).context(path)?;
    }
    let somaxconn = match place {
        Place::Here => stage.seen.somaxconn,
        Place::Namespace | Place::Pinned => SMALL_SOMAXCONN,
    };
    let inherited = open_all(&stage)?;
    // It has copies of everything that is open now, and waits.
    let heir = prepare::<(), _>(Role::named("st-heir"), || Ok(()))?;
    let own = open(&Address::abstract_name(&format!("own-{}", stage.seen.pid))?, 9, 0)?;
    let netns = inode(CURRENT)?;
    let describe = |open: &Open, pids: &[u32]| held(open, pids, netns, somaxconn);
    let mut both = [stage.seen.pid, heir.pid()];
    both.sort_unstable();
    let shared = inherited.iter().map(|open| describe(open, &both));
    let mut all = shared.chain([describe(&own, &[stage.seen.pid])]).collect::<Result<Vec<_>>>()?;
    if place == Place::Pinned {
        leave_pinned(&dir.join("pin"), home)?;
        heir.perform()?;
        for held in &mut all {
            held.pids = vec![stage.seen.pid];
        }
        print(&all)?;
        return Gate::at(dir).arrive();
    }
    print(&all)?;
    Gate::at(dir).arrive()?;
    heir.perform()
}

/// One of each kind: with a queue, without one, with one more than its backlog, and with a backlog
/// beyond what is allowed.
fn open_all(stage: &Stage) -> Result<Vec<Open>> {
    let hostile = stage.dir().join(OsStr::from_bytes(HOSTILE_NAME));
    Ok(vec![
        open(&Address::path(&stage.path("held.sock"))?, 7, 1)?,
        open_kind(&Address::path(&stage.path("seq.sock"))?, SockType::SeqPacket, 4, 3)?,
        open(&Address::abstract_name(&format!("held-{}", stage.seen.pid))?, 100_000, 0)?,
        open(&Address::path(&hostile)?, 2, 3)?,
        open(&loopback(), 3, 2)?,
        open(&Address::ip(Ipv6Addr::LOCALHOST.into(), 0), 5, 6)?,
        open(&loopback(), 100_000, 0)?,
    ])
}

fn open(at: &Address, backlog: u32, clients: u32) -> Result<Open> {
    open_kind(at, SockType::Stream, backlog, clients)
}

fn open_kind(at: &Address, kind: SockType, backlog: u32, clients: u32) -> Result<Open> {
    let listener = listen(at, kind, backlog)?;
    let client = |_| {
        let socket = listener.at.socket(kind, SockFlag::empty())?;
        listener.at.connect(&socket).with_context(|| listener.address.clone())?;
        Ok(socket)
    };
    let clients = (0..clients).map(client).collect::<Result<_>>()?;
    Ok(Open { listener, kind, clients })
}

fn held(open: &Open, pids: &[u32], netns: u64, somaxconn: u32) -> Result<Held> {
    let (_, uid, comm) = whoami()?;
    Ok(Held {
        family: open.listener.family.to_owned(),
        kind: if open.kind == SockType::SeqPacket { "seqpacket" } else { "stream" }.to_owned(),
        local: open.listener.address.clone(),
        inode: open.listener.inode,
        netns,
        queue: u32::try_from(open.clients.len()).context("clients")?,
        effective: open.listener.backlog.min(somaxconn),
        somaxconn,
        pids: pids.to_vec(),
        comm,
        uid,
    })
}

/// Binds the namespace to a file, as `ip netns add` does, and goes home. Whoever opens the gate
/// unmounts the file.
fn leave_pinned(file: &Path, home: File) -> Result<()> {
    let none: Option<&str> = None;
    File::create(file).with_context(|| file.display().to_string())?;
    mount(Some(CURRENT), file, none, MsFlags::MS_BIND, none).context("a bind mount")?;
    setns(home, CloneFlags::CLONE_NEWNET).context("the way home")
}

fn inode(path: &str) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata(path).with_context(|| path.to_owned())?.ino())
}

fn print(all: &[Held]) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{}", serde_json::to_string(all)?).and_then(|()| out.flush()).context("stdout")
}
