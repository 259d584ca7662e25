//! A server that cannot accept: it has no descriptor left.

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{SockFlag, SockType};

use super::play::Play;
use crate::scenario::listener::{loopback, wait_queued};
use crate::scenario::record::AcceptErrors;
use crate::scenario::socket::{accept, listen};
use crate::scenario::stage::whoami;

const NAME: &str = "accept_emfile";
/// More than it has inherited.
const LIMIT: libc::rlim_t = 400;

/// One.
pub(super) fn prepare(play: &mut Play<'_>) -> Result<()> {
    play.refused_server(NAME, serve)
}

/// Its limit stays as low as it is.
fn serve() -> Result<AcceptErrors> {
    let listener = listen(&loopback(), SockType::Stream, 16)?;
    let client = listener.at.socket(SockType::Stream, SockFlag::empty())?;
    listener.at.connect(&client).context("connect")?;
    wait_queued(&listener, 1)?;
    let (pid, _, comm) = whoami()?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit")?;
    let mut taken = Vec::new();
    setrlimit(Resource::RLIMIT_NOFILE, LIMIT, hard).context("setrlimit")?;
    while let Ok(copy) = client.try_clone() {
        taken.push(copy);
    }
    match accept(&listener, SockFlag::empty()) {
        Err(Errno::EMFILE) => {}
        other => bail!("accept without a descriptor: {other:?}"),
    }
    let errors = AcceptErrors {
        name: NAME.to_owned(),
        pid,
        comm,
        listener: listener.address.clone(),
        inode: listener.inode,
        errno: "EMFILE".to_owned(),
        count: 1,
        would_block: 0,
    };
    std::mem::forget((listener, client, taken));
    Ok(errors)
}
