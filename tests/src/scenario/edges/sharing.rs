//! Several listeners on one port (`SO_REUSEPORT`): each has its own queue, and connections can move
//! from one that closes to one that stays.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{SockFlag, SockType, bind};

use crate::scenario::clock::{now_ns, sleep_ms, wait_until};
use crate::scenario::listener::{accepts, drain, loopback, queue_len};
use crate::scenario::record::Closed;
use crate::scenario::socket::{Address, Listener, accept, listen_on, local_address, set_option};
use crate::scenario::stage::Stage;

/// One more listener of a group.
fn shard(at: &Address) -> Result<Listener> {
    let fd = at.socket(SockType::Stream, SockFlag::empty())?;
    set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    bind(fd.as_raw_fd(), at.as_sockaddr()).context("bind of a shard")?;
    let at = local_address(&fd, *at)?;
    listen_on(fd, at, 64)
}

fn group(stage: &mut Stage, name: &str, size: usize) -> Result<Vec<Listener>> {
    let mut shards = vec![shard(&loopback())?];
    while shards.len() < size {
        shards.push(shard(&shards[0].at)?);
    }
    for shard in &shards {
        stage.listens(name, shard);
    }
    Ok(shards)
}

fn connect_all(at: &Address, count: u32) -> Result<Vec<OwnedFd>> {
    let connect = |_| {
        let socket = at.socket(SockType::Stream, SockFlag::empty())?;
        at.connect(&socket).context("connect")?;
        Ok(socket)
    };
    (0..count).map(connect).collect()
}

fn queued(shards: &[Listener]) -> Result<u32> {
    shards.iter().map(queue_len).sum()
}

/// Three listeners, sixty connections: the kernel spreads them.
///
/// # Errors
/// When they are not all accepted.
pub(super) fn reuseport(stage: &mut Stage) -> Result<()> {
    let name = "edge_reuseport";
    let shards = group(stage, name, 3)?;
    let clients = connect_all(&shards[0].at, 60)?;
    wait_until("sixty connections in three queues", || Ok(queued(&shards)? == 60))?;
    let mut all = 0;
    for shard in &shards {
        let count = drain(shard)?;
        ensure!(count > 0, "one of three listeners got none of sixty connections");
        all += count;
        stage.accepted(accepts(name, shard, count)?);
    }
    ensure!(all == 60, "{all} of sixty connections were accepted");
    drop(clients);
    Ok(())
}

/// A listener closes with connections queued. With `net.ipv4.tcp_migrate_req=1` the other one gets
/// and accepts them; else they are gone with their listener.
///
/// # Errors
/// When the kernel does neither.
pub(super) fn migration(stage: &mut Stage) -> Result<()> {
    let (name, count) = ("edge_migration", 16);
    let mut shards = group(stage, name, 2)?;
    let called = now_ns()?;
    let clients = connect_all(&shards[0].at, count)?;
    wait_until("all connections in two queues", || Ok(queued(&shards)? == count))?;
    let all_queued = now_ns()?;
    let (leaves, stays) = (shards.remove(0), shards.remove(0));
    let (moving, own) = (queue_len(&leaves)?, queue_len(&stays)?);
    ensure!(moving > 0, "one of two listeners got none of {count} connections");
    let (family, listener) = (leaves.family.to_owned(), leaves.address.clone());
    let closed = Closed { family, listener, inode: leaves.inode, count: 0 };
    drop(leaves);
    sleep_ms(20);
    let wanted = queue_len(&stays)?;
    ensure!(wanted == count || wanted == own, "{wanted} are queued, of {moving} + {own}");
    let gone = count - wanted;
    if gone > 0 {
        stage.seen.lacks.push("migration".to_owned());
    }
    stage.seen.closed.push(Closed { count: gone.into(), ..closed });
    let mut record = accepts(name, &stays, 0)?;
    for _ in 0..wanted {
        let asked = now_ns()?;
        accept(&stays, SockFlag::empty()).context("accept")?;
        record.lower_ns.push(asked - all_queued);
        record.upper_ns.push(now_ns()? - called);
        record.count += 1;
    }
    stage.accepted(record);
    drop(clients);
    Ok(())
}
