//! A socket file whose mode does not let the client write.

use std::path::Path;

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::socket::SockType;

use super::files::{set_mode, set_owner};
use super::play::{Client, Play, open_listener};
use super::who::{GROUP, NOBODY, OWNER, STRANGER, Who};
use crate::scenario::socket::{Address, bound};

/// Root's, and who else.
pub(super) fn prepare(play: &mut Play<'_>) -> Result<()> {
    of(play, "mode_0600", NOBODY, 0o600, (0, 0))?;
    of(play, "mode_group", NOBODY, 0o660, (0, GROUP))?;
    of(play, "mode_group_out", Who::User(STRANGER, &[GROUP]), 0o606, (0, GROUP))?;
    of(play, "mode_owner_out", Who::User(OWNER, &[]), 0o066, (OWNER, GROUP))?;
    of(play, "mode_read_only", NOBODY, 0o644, (OWNER, OWNER))?;
    of(play, "no_capabilities", Who::RootWithoutCapabilities, 0o600, (OWNER, OWNER))?;
    datagram(play)
}

fn of(
    play: &mut Play<'_>,
    name: &'static str,
    who: Who,
    mode: u32,
    owner: (u32, u32),
) -> Result<()> {
    let path = play.path(&format!("{name}.sock"));
    play.client(Client::of(name, Address::path(&path)?, Errno::EACCES).by(who))?;
    play.scenery(name, move || {
        let listener = open_listener(&path)?;
        narrow(&path, mode, owner)?;
        Ok(listener)
    });
    Ok(())
}

/// `connect()` of a datagram socket is checked in the same way.
fn datagram(play: &mut Play<'_>) -> Result<()> {
    let name = "mode_datagram";
    let path = play.path("mode_datagram.sock");
    let at = Address::path(&path)?;
    play.client(Client::of_kind(name, at, SockType::Datagram, Errno::EACCES).by(NOBODY))?;
    play.scenery(name, move || {
        let socket = bound(&at, SockType::Datagram)?;
        narrow(&path, 0o600, (0, 0))?;
        Ok(socket)
    });
    Ok(())
}

fn narrow(path: &Path, mode: u32, (uid, gid): (u32, u32)) -> Result<()> {
    set_owner(path, uid, gid)?;
    set_mode(path, mode)
}
