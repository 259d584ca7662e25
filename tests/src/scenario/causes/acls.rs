//! POSIX ACLs that deny a user whom the mode would let pass.

use anyhow::Result;
use nix::errno::Errno;

use super::files::set_acl;
use super::play::{Client, Play, open_listener};
use super::who::{NOBODY, STRANGER};
use crate::scenario::socket::Address;

/// By an entry, by the mask, on a directory.
pub(super) fn prepare(play: &mut Play<'_>) -> Result<()> {
    on_socket(play, "acl_user", 0, 6)?;
    on_socket(play, "acl_mask", 6, 4)?;
    on_directory(play)
}

fn on_socket(play: &mut Play<'_>, name: &'static str, bits: u16, mask: u16) -> Result<()> {
    let path = play.path(&format!("{name}.sock"));
    play.client(Client::of(name, Address::path(&path)?, Errno::EACCES).by(NOBODY))?;
    play.scenery(name, move || {
        let listener = open_listener(&path)?;
        set_acl(&path, 6, (STRANGER, bits), mask)?;
        Ok(listener)
    });
    Ok(())
}

fn on_directory(play: &mut Play<'_>) -> Result<()> {
    let name = "acl_directory";
    let directory = play.directory(name)?;
    let path = directory.join("app.sock");
    play.client(Client::of(name, Address::path(&path)?, Errno::EACCES).by(NOBODY))?;
    play.scenery(name, move || {
        let listener = open_listener(&path)?;
        set_acl(&directory, 7, (STRANGER, 6), 7)?;
        Ok(listener)
    });
    Ok(())
}
