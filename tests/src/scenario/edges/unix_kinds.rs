//! Unix sockets that are no streams: seqpacket and datagram, and every errno that they have.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockType};

use crate::scenario::actor::{Role, prepare};
use crate::scenario::attempt::{failure, must_be, must_fail};
use crate::scenario::record::UnixDrops;
use crate::scenario::socket::{Address, bound, listen};
use crate::scenario::stage::Stage;

const NAME: &str = "edge_unix_kinds";
/// An ordinary user without any right.
const NOBODY: u32 = 65534;

/// All of them.
///
/// # Errors
/// When an attempt ends in another way.
pub(super) fn all(stage: &mut Stage) -> Result<()> {
    for (kind, prefix) in [(SockType::SeqPacket, "seqpacket"), (SockType::Datagram, "datagram")] {
        let path = |what: &str| stage.path(&format!("{prefix}-{what}.sock"));
        let (missing, left) = (path("missing"), path("stale"));
        let (other, shut) = (path("at-stream"), path("closed"));
        stage.failed(must_fail(NAME, &Address::path(&missing)?, kind, Errno::ENOENT, 2)?);
        let at = Address::path(&left)?;
        drop(bound(&at, kind)?);
        stage.failed(must_fail(NAME, &at, kind, Errno::ECONNREFUSED, 3)?);
        let at = Address::path(&other)?;
        let _server = bound(&at, SockType::Stream)?;
        stage.failed(must_fail(NAME, &at, kind, Errno::EPROTOTYPE, 4)?);
        forbidden(stage, &shut, kind)?;
    }
    bound_only(stage)?;
    full_seqpacket(stage)?;
    taken_datagram(stage)
}

/// The socket file's own mode forbids it.
fn forbidden(stage: &mut Stage, path: &Path, kind: SockType) -> Result<()> {
    let at = Address::path(path)?;
    let role = Role { comm: "st-kinds", uid: Some(NOBODY) };
    let client = prepare(role, move || must_fail(NAME, &at, kind, Errno::EACCES, 5))?;
    let _server = bound(&at, kind)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).context("chmod")?;
    stage.failed(client.perform()?);
    Ok(())
}

/// A seqpacket socket that is bound and does not listen.
fn bound_only(stage: &mut Stage) -> Result<()> {
    let at = Address::path(&stage.path("seqpacket-bound.sock"))?;
    let _held = bound(&at, SockType::SeqPacket)?;
    stage.failed(must_fail(NAME, &at, SockType::SeqPacket, Errno::ECONNREFUSED, 6)?);
    Ok(())
}

/// A seqpacket listener whose backlog is full.
fn full_seqpacket(stage: &mut Stage) -> Result<()> {
    let at = Address::path(&stage.path("seqpacket-full.sock"))?;
    let listener = listen(&at, SockType::SeqPacket, 0)?;
    let fits = at.socket(SockType::SeqPacket, SockFlag::empty())?;
    at.connect(&fits).context("a connection that fits")?;
    for _ in 0..7 {
        let socket = at.socket(SockType::SeqPacket, SockFlag::SOCK_NONBLOCK)?;
        must_be(&at, Errno::EAGAIN, at.connect(&socket))?;
    }
    stage.failed(failure(NAME, &at, Errno::EAGAIN, 7)?);
    stage.seen.unix_drops.push(UnixDrops {
        name: NAME.to_owned(),
        pid: stage.seen.pid,
        comm: stage.seen.comm.clone(),
        listener: listener.address.clone(),
        inode: listener.inode,
        count: 7,
    });
    Ok(())
}

/// A datagram socket that is connected to somebody else takes nobody.
fn taken_datagram(stage: &mut Stage) -> Result<()> {
    let at = Address::path(&stage.path("datagram-taken.sock"))?;
    let partner = Address::path(&stage.path("datagram-partner.sock"))?;
    let (server, _) = bound(&at, SockType::Datagram)?;
    let _partner = bound(&partner, SockType::Datagram)?;
    partner.connect(&server).context("connect to the partner")?;
    stage.failed(must_fail(NAME, &at, SockType::Datagram, Errno::EPERM, 8)?);
    Ok(())
}
