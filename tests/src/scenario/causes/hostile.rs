//! Clients that mean harm: names that would command a terminal, ways that would make a tracer wait or open
//! what is not its business, directories that move while they are looked at.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::socket::{SockFlag, SockType};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::files::set_mode;
use super::play::{Client, Play, open_listener};
use super::who::NOBODY;
use crate::scenario::attempt::must_be;
use crate::scenario::clock::sleep_ms;
use crate::scenario::socket::Address;

/// Fewer than the kernel follows by one.
const LINKS: u32 = 39;
/// Links of a fan, and how often each leads through the next one: all of it is 16 million links.
const FAN: u32 = 8;
const FAN_WIDTH: usize = 8;
/// How often directories change their names under a failing connect.
const ROUNDS: u32 = 300;

/// All of them.
pub(super) fn prepare(play: &mut Play<'_>) -> Result<()> {
    names(play)?;
    links(play)?;
    fan(play)?;
    bait(play)?;
    dots(play)?;
    moving(play)
}

/// A closed directory with a name that clears the screen and begins a line, of a client with such a name.
fn names(play: &mut Play<'_>) -> Result<()> {
    let name = "bad\n\x1b[2J\x1b[7m";
    let directory = play.path("x").with_file_name(OsStr::from_bytes(b"a\nb\x1b[2J\xff\"'$(id)"));
    std::fs::create_dir(&directory).context("mkdir")?;
    let path = directory.join("\x1b]0;owned\x07.sock");
    play.client(Client::of(name, Address::path(&path)?, Errno::EACCES).by(NOBODY))?;
    play.scenery("names", move || {
        let listener = open_listener(&path)?;
        set_mode(&directory, 0o700)?;
        Ok(listener)
    });
    Ok(())
}

/// As many links as can be.
fn links(play: &mut Play<'_>) -> Result<()> {
    let name = "hostile_links";
    let directory = play.directory(name)?;
    for number in 0..LINKS {
        let next = if number + 1 == LINKS { "app.sock".into() } else { format!("l{}", number + 1) };
        symlink(next, directory.join(format!("l{number}"))).context("symlink")?;
    }
    play.client(Client::of(name, Address::path(&directory.join("l0"))?, Errno::EACCES).by(NOBODY))?;
    play.scenery(name, move || {
        let path = directory.join("app.sock");
        let listener = open_listener(&path)?;
        set_mode(&path, 0o600)?;
        Ok(listener)
    });
    Ok(())
}

/// Links that multiply, among thousands that are not on the way.
fn fan(play: &mut Play<'_>) -> Result<()> {
    let name = "hostile_fan";
    let directory = play.directory(name)?;
    for number in 0..FAN {
        let next = format!("f{}/", number + 1).repeat(FAN_WIDTH);
        symlink(next, directory.join(format!("f{number}"))).context("symlink")?;
    }
    symlink(".", directory.join(format!("f{FAN}"))).context("symlink")?;
    for number in 0..5000 {
        symlink(format!("x{}", number + 1), directory.join(format!("x{number}")))
            .context("symlink")?;
    }
    let path = directory.join("f0").join("app.sock");
    play.client(Client::of(name, Address::path(&path)?, Errno::ELOOP))
}

/// A FIFO, which would block whoever opens it, in the middle of a path and at its end, and a file behind a
/// link that leads out of the directory. Nobody but the kernel's lookup may touch them.
fn bait(play: &mut Play<'_>) -> Result<()> {
    let (fifo, secret) = (play.path("bait.fifo"), play.path("bait.secret"));
    mkfifo(&fifo, Mode::S_IRWXU).context("mkfifo")?;
    std::fs::write(&secret, "secret").context("a file")?;
    let out = play.directory("bait")?.join("out.sock");
    symlink(&secret, &out).context("symlink")?;
    let inside = Address::path(&fifo.join("app.sock"))?;
    watched(play, "bait_inside", inside, Errno::ENOTDIR, fifo.clone())?;
    watched(play, "bait_fifo", Address::path(&fifo)?, Errno::ECONNREFUSED, fifo)?;
    watched(play, "bait_secret", Address::path(&out)?, Errno::ECONNREFUSED, secret)
}

fn watched(
    play: &mut Play<'_>,
    name: &'static str,
    at: Address,
    errno: Errno,
    bait: PathBuf,
) -> Result<()> {
    play.client(Client::trying(name, at, errno, move || {
        let watch = Inotify::init(InitFlags::IN_NONBLOCK).context("inotify")?;
        let kinds = AddWatchFlags::IN_OPEN | AddWatchFlags::IN_ACCESS;
        watch.add_watch(&bait, kinds).context("inotify")?;
        let socket = at.socket(SockType::Stream, SockFlag::empty())?;
        must_be(&at, errno, at.connect(&socket))?;
        sleep_ms(2000);
        let touched = watch.read_events();
        ensure!(matches!(touched, Err(Errno::EAGAIN)), "{name} was opened: {touched:?}");
        Ok(())
    }))
}

/// Every byte of an address for steps up and down.
fn dots(play: &mut Play<'_>) -> Result<()> {
    let name = "hostile_dots";
    let directory = play.directory(name)?;
    let start = Path::new("/").join(directory.strip_prefix("/").context("an absolute path")?);
    let mut path = start.into_os_string();
    while path.len() < 90 {
        path.push("/.//..");
        path.push("/hostile_dots");
    }
    play.client(Client::of(name, Address::path(&PathBuf::from(path).join("x"))?, Errno::ENOENT))
}

/// Two directories, one closed and one open, that change their names all the time; the socket is closed,
/// too, so that the connect fails in either.
fn moving(play: &mut Play<'_>) -> Result<()> {
    let name = "hostile_moving";
    let base = play.directory(name)?;
    let (shut, open) = (play.directory("hostile_moving/a")?, play.directory("hostile_moving/b")?);
    let at = Address::path(&shut.join("app.sock"))?;
    let third = base.join("c");
    let (to_a, to_b) = (shut.clone(), open.clone());
    let swap = move || -> Result<()> {
        for (from, to) in [(&to_a, &third), (&to_b, &to_a), (&third, &to_b)] {
            std::fs::rename(from, to).context("rename")?;
        }
        Ok(())
    };
    let attempt = move || {
        for _ in 0..ROUNDS {
            let socket = at.socket(SockType::Stream, SockFlag::empty())?;
            must_be(&at, Errno::EACCES, at.connect(&socket))?;
            swap()?;
        }
        // While a tracer still looks.
        for _ in 0..ROUNDS {
            swap()?;
            sleep_ms(2);
        }
        Ok(())
    };
    play.client(Client::trying(name, at, Errno::EACCES, attempt).by(NOBODY))?;
    play.scenery(name, move || {
        let sockets =
            (open_listener(&shut.join("app.sock"))?, open_listener(&open.join("app.sock"))?);
        for (path, mode) in [(&shut, 0o600), (&open, 0o711)] {
            set_mode(&path.join("app.sock"), 0o600)?;
            set_mode(path, mode)?;
        }
        set_mode(&base, 0o777)?;
        Ok(sockets)
    });
    Ok(())
}
