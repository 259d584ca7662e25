//! Symbolic links: denials behind them, circles, too many, and such that may not be followed.

use std::os::unix::fs::{lchown, symlink};
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;

use super::files::set_mode;
use super::play::{Client, Play, open_listener};
use super::who::{NOBODY, OWNER};
use crate::scenario::socket::Address;

/// Links that one lookup may follow (`MAXSYMLINKS`).
const MOST: usize = 40;

/// All of them.
pub(super) fn prepare(play: &mut Play<'_>) -> Result<()> {
    behind(play, "link_to_dir", 0o700, 0o666)?;
    behind(play, "link_to_socket", 0o755, 0o600)?;
    circle(play)?;
    chain(play)?;
    protected(play)
}

fn link(to: &Path, at: &Path) -> Result<()> {
    symlink(to, at).with_context(|| format!("symlink {}", at.display()))
}

/// `short.sock -> real/app.sock`, and `real` or the socket in it is closed.
fn behind(
    play: &mut Play<'_>,
    name: &'static str,
    directory_mode: u32,
    socket_mode: u32,
) -> Result<()> {
    let real = play.directory(name)?;
    let (path, short) = (real.join("app.sock"), play.path(&format!("{name}.link")));
    link(&path, &short)?;
    play.client(Client::of(name, Address::path(&short)?, Errno::EACCES).by(NOBODY))?;
    play.scenery(name, move || {
        let listener = open_listener(&path)?;
        set_mode(&path, socket_mode)?;
        set_mode(&real, directory_mode)?;
        Ok(listener)
    });
    Ok(())
}

fn circle(play: &mut Play<'_>) -> Result<()> {
    let (a, b) = (play.path("circle.a"), play.path("circle.b"));
    link(&a, &b)?;
    link(&b, &a)?;
    play.client(Client::of("link_circle", Address::path(&a)?, Errno::ELOOP))
}

/// One link more than the kernel follows.
fn chain(play: &mut Play<'_>) -> Result<()> {
    let name = "link_chain";
    let directory = play.directory(name)?;
    for number in 0..MOST {
        let next = format!("l{}", number + 1);
        link(Path::new(&next), &directory.join(format!("l{number}")))?;
    }
    link(Path::new("app.sock"), &directory.join(format!("l{MOST}")))?;
    play.client(Client::of(name, Address::path(&directory.join("l0"))?, Errno::ELOOP))?;
    play.scenery(name, move || open_listener(&directory.join("app.sock")));
    Ok(())
}

/// A stranger's link in a directory like `/tmp`.
fn protected(play: &mut Play<'_>) -> Result<()> {
    let name = "link_protected";
    let sysctl = "/proc/sys/fs/protected_symlinks";
    if std::fs::read_to_string(sysctl).context(sysctl)?.trim() != "1" {
        play.lacks(name);
        return Ok(());
    }
    let directory = play.directory(name)?;
    set_mode(&directory, 0o1777)?;
    let (path, trap) = (directory.join("app.sock"), directory.join("trap.sock"));
    link(&path, &trap)?;
    lchown(&trap, Some(OWNER), Some(OWNER)).context("lchown")?;
    play.client(Client::of(name, Address::path(&trap)?, Errno::EACCES).by(NOBODY))?;
    play.scenery(name, move || open_listener(&path));
    Ok(())
}
