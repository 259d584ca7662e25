//! Listeners whose queues are full before tracing begins, and from which nobody accepts: all that is ever
//! seen of them is whom they turn away.

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::socket::SockType;

use crate::scenario::actor::{Role, prepare};
use crate::scenario::attempt::failure;
use crate::scenario::gate::Gate;
use crate::scenario::netstat;
use crate::scenario::record::UnixDrops;
use crate::scenario::socket::{Address, bound, listen};
use crate::scenario::stage::Stage;
use crate::scenario::tcp_timeout::{fill, give_up, note_drops};
use crate::scenario::unix_backlog::turn_away;

const NAME: &str = "edge_full_before";
/// Unix connects that are turned away.
const TURNED_AWAY: u64 = 5;

/// `listen(0)` on TCP and on Unix with one connection each; then a TCP connect that gives up after its
/// first retransmission, and five Unix connects that get `EAGAIN`, of another process.
///
/// # Errors
/// When they are not turned away.
pub(super) fn full_before(stage: &mut Stage, gate: &Gate) -> Result<()> {
    let at = bound(&Address::ip(std::net::Ipv4Addr::LOCALHOST.into(), 0), SockType::Stream)?.1;
    let path = Address::path(&stage.path("full.sock"))?;
    let late = prepare(Role::named("st-late"), move || {
        give_up(&at)?;
        turn_away(&path, TURNED_AWAY)?;
        Ok((
            failure(NAME, &at, Errno::ETIMEDOUT, 1)?,
            failure(NAME, &path, Errno::EAGAIN, TURNED_AWAY)?,
        ))
    })?;
    let (tcp, unix) = (listen(&at, SockType::Stream, 0)?, listen(&path, SockType::Stream, 0)?);
    let queued = [fill(&tcp, 1)?, fill(&unix, 1)?];
    gate.arrive()?;
    let before = netstat::read()?;
    let (timed_out, turned_away) = late.perform()?;
    note_drops(stage, NAME, &tcp, &before, 0)?;
    stage.seen.unix_drops.push(UnixDrops {
        name: NAME.to_owned(),
        pid: stage.seen.pid,
        comm: stage.seen.comm.clone(),
        listener: unix.address.clone(),
        inode: unix.inode,
        count: turned_away.count,
    });
    stage.failed(timed_out);
    stage.failed(turned_away);
    gate.leave_and_stay()?;
    drop(queued);
    Ok(())
}
