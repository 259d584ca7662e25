//! Directories on the way that the client may not search.

use anyhow::Result;
use nix::errno::Errno;

use super::files::set_mode;
use super::play::{Client, Play, open_listener};
use super::who::NOBODY;
use crate::scenario::socket::Address;

/// One, two, one with a closed socket behind it, one that is left again by `..`.
pub(super) fn prepare(play: &mut Play<'_>) -> Result<()> {
    closed(play, "dir_0700", &[("dir_0700", 0o700)], 0o666)?;
    closed(play, "dirs_two", &[("dirs_two", 0o700), ("dirs_two/in", 0o710)], 0o666)?;
    closed(play, "dir_and_socket", &[("dir_and_socket", 0o700)], 0o600)?;
    closed(play, "dir_read_only", &[("dir_read_only", 0o744)], 0o666)?;
    left_by_dots(play)
}

fn closed(
    play: &mut Play<'_>,
    name: &'static str,
    directories: &'static [(&'static str, u32)],
    mode: u32,
) -> Result<()> {
    let mut all = Vec::new();
    for (directory, mode) in directories {
        all.push((play.directory(directory)?, *mode));
    }
    let innermost = all.last().map(|(path, _)| path.clone()).unwrap_or_default();
    let path = innermost.join("app.sock");
    play.client(Client::of(name, Address::path(&path)?, Errno::EACCES).by(NOBODY))?;
    play.scenery(name, move || {
        let listener = open_listener(&path)?;
        set_mode(&path, mode)?;
        all.iter().try_for_each(|(path, mode)| set_mode(path, *mode))?;
        Ok(listener)
    });
    Ok(())
}

/// `shut/../open/app.sock`: it must be searched all the same.
fn left_by_dots(play: &mut Play<'_>) -> Result<()> {
    let name = "dir_dots";
    let base = play.directory(name)?;
    let (shut, open) = (play.directory("dir_dots/shut")?, play.directory("dir_dots/open")?);
    let at = Address::path(&base.join("shut/../open/app.sock"))?;
    play.client(Client::of(name, at, Errno::EACCES).by(NOBODY))?;
    play.scenery(name, move || {
        set_mode(&shut, 0o700)?;
        open_listener(&open.join("app.sock"))
    });
    Ok(())
}
