//! A server without free descriptors: `accept()` fails with `EMFILE` while a connection waits.

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{SockFlag, SockType};
use serde::{Deserialize, Serialize};

use super::actor::{Role, prepare};
use super::listener::{accepts, loopback, set_nonblocking};
use super::record::{AcceptErrors, Accepts, Listen};
use super::socket::{Listener, accept, listen};
use super::stage::{Stage, whoami};

const NAME: &str = "accept_error";
/// How often `accept()` fails.
const FAILURES: u64 = 21;
/// How often it finds nothing.
const EMPTY: u64 = 22;
const BACKLOG: u32 = 27;

/// What the server saw.
#[derive(Serialize, Deserialize)]
struct Served {
    listen: Listen,
    errors: AcceptErrors,
    accepts: Accepts,
}

/// A server of its own process that uses up its descriptors, then gets them back.
///
/// # Errors
/// When the incident cannot be made.
pub fn descriptors_used_up(stage: &mut Stage) -> Result<()> {
    let somaxconn = stage.seen.somaxconn;
    let mut served = prepare(Role::named("st-fd-limit"), serve)?.perform()?;
    served.listen.effective = BACKLOG.min(somaxconn);
    stage.seen.listens.push(served.listen);
    stage.seen.accept_errors.push(served.errors);
    stage.accepted(served.accepts);
    Ok(())
}

fn serve() -> Result<Served> {
    let listener = listen(&loopback(), SockType::Stream, BACKLOG)?;
    set_nonblocking(&listener)?;
    fail_with(&listener, Errno::EAGAIN, EMPTY)?;
    let client = listener.at.socket(SockType::Stream, SockFlag::empty())?;
    listener.at.connect(&client).context("connect")?;
    super::listener::wait_queued(&listener, 1)?;

    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit")?;
    // Descriptors are numbers below the limit: none is free below the lowest one in use.
    setrlimit(Resource::RLIMIT_NOFILE, 1, hard).context("setrlimit")?;
    fail_with(&listener, Errno::EMFILE, FAILURES)?;
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).context("setrlimit")?;

    accept(&listener, SockFlag::empty()).context("accept after the limit is gone")?;
    described(&listener)
}

fn fail_with(listener: &Listener, expected: Errno, count: u64) -> Result<()> {
    for _ in 0..count {
        match accept(listener, SockFlag::empty()) {
            Ok(_) => bail!("accept succeeded where {expected:?} was expected"),
            Err(errno) => ensure!(errno == expected, "accept: {errno:?}, not {expected:?}"),
        }
    }
    Ok(())
}

fn described(listener: &Listener) -> Result<Served> {
    let (pid, _, comm) = whoami()?;
    Ok(Served {
        listen: Listen {
            name: NAME.to_owned(),
            pid,
            family: listener.family.to_owned(),
            local: listener.address.clone(),
            inode: listener.inode,
            requested: BACKLOG,
            effective: 0,
        },
        errors: AcceptErrors {
            name: NAME.to_owned(),
            pid,
            comm,
            listener: listener.address.clone(),
            inode: listener.inode,
            errno: "EMFILE".to_owned(),
            count: FAILURES,
            would_block: EMPTY,
        },
        accepts: accepts(NAME, listener, 1)?,
    })
}
