//! Unix connects that fail by who the client is or how it names the target: each client is a
//! process of its own.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::SockType;

use super::actor::{Role, prepare};
use super::attempt::must_fail;
use super::record::Failure;
use super::socket::{Address, listen};
use super::stage::Stage;

/// An ordinary user without any right.
const NOBODY: u32 = 65534;

/// The socket file's own mode forbids it: root's, 0600.
///
/// # Errors
/// When the incident cannot be made.
pub fn eacces_mode(stage: &mut Stage) -> Result<()> {
    let name = "unix_eacces_mode";
    let path = stage.path("eacces-mode.sock");
    let at = Address::path(&path)?;
    let role = Role { comm: "st-eacces", uid: Some(NOBODY) };
    let client = prepare(role, refused(name, at, Errno::EACCES, 3))?;
    let listener = listen(&at, SockType::Stream, 16)?;
    stage.listens(name, &listener);
    set_mode(&path, 0o600)?;
    stage.failed(client.perform()?);
    Ok(())
}

/// The socket is open to all, the directory is searchable by root only.
///
/// # Errors
/// When the incident cannot be made.
pub fn eacces_dir(stage: &mut Stage) -> Result<()> {
    let name = "unix_eacces_dir";
    let dir = stage.path("closed");
    std::fs::create_dir(&dir).context("mkdir")?;
    let path = dir.join("eacces-dir.sock");
    let at = Address::path(&path)?;
    let role = Role { comm: "st-eacces-dir", uid: Some(NOBODY) };
    let client = prepare(role, refused(name, at, Errno::EACCES, 4))?;
    let listener = listen(&at, SockType::Stream, 17)?;
    stage.listens(name, &listener);
    set_mode(&path, 0o666)?;
    set_mode(&dir, 0o700)?;
    stage.failed(client.perform()?);
    Ok(())
}

/// A missing path with a newline, an escape sequence and a byte that is no UTF-8, from a process
/// whose name is hostile, too.
///
/// # Errors
/// When the incident cannot be made.
pub fn hostile_path(stage: &mut Stage) -> Result<()> {
    let path: PathBuf =
        stage.path("x").with_file_name(OsStr::from_bytes(b"a\nb\x1b[31mc\xff.sock"));
    let at = Address::path(&path)?;
    let role = Role::named("st\x1b[7m\nhostile");
    let client = prepare(role, refused("unix_hostile_path", at, Errno::ENOENT, 13))?;
    stage.failed(client.perform()?);
    Ok(())
}

/// A relative path, from a client that works in the stage's directory.
///
/// # Errors
/// When the incident cannot be made.
pub fn relative(stage: &mut Stage) -> Result<()> {
    let dir = stage.dir().to_owned();
    let at = Address::path(Path::new("missing-relative.sock"))?;
    let connect = refused("unix_relative", at, Errno::ENOENT, 14);
    let act = move || {
        std::env::set_current_dir(&dir).context("chdir")?;
        connect()
    };
    let client = prepare(Role::named("st-relative"), act)?;
    stage.failed(client.perform()?);
    Ok(())
}

fn refused(
    name: &'static str,
    at: Address,
    errno: Errno,
    count: u64,
) -> impl FnOnce() -> Result<Failure> {
    move || must_fail(name, &at, SockType::Stream, errno, count)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode))
        .with_context(|| format!("chmod {mode:o} {}", path.display()))
}
