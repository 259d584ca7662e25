//! Many refused Unix connects as fast as one thread can make them: load, and a known number.

use std::path::Path;

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockType};

use super::attempt::{failure, must_be};
use super::socket::{Address, listen};
use super::stage::Stage;

/// Connects `count` times to `target`, or to a stale socket file of its own.
///
/// # Errors
/// When an attempt ends in another way than the first one did.
pub fn flood(stage: &mut Stage, count: u64, target: Option<&Path>) -> Result<()> {
    let at = match target {
        Some(path) => Address::path(path)?,
        None => stale(stage)?,
    };
    let socket = at.socket(SockType::Stream, SockFlag::empty())?;
    let mut errno = None;
    for _ in 0..count {
        let outcome = at.connect(&socket);
        let first = *errno.get_or_insert(outcome.err().unwrap_or(Errno::UnknownErrno));
        must_be(&at, first, outcome)?;
    }
    if let Some(errno) = errno {
        stage.failed(failure("flood", &at, errno, count)?);
    }
    Ok(())
}

/// Connects once to each of `count` Unix paths that do not exist. Nothing of it is in what the stage has seen: it is one
/// failure more for each target.
///
/// # Errors
/// When an attempt does not fail so.
pub fn scatter(stage: &Stage, count: u64) -> Result<()> {
    for number in 0..count {
        let at = Address::path(&stage.path(&format!("missing-{number}")))?;
        let socket = at.socket(SockType::Stream, SockFlag::empty())?;
        must_be(&at, Errno::ENOENT, at.connect(&socket))?;
    }
    Ok(())
}

fn stale(stage: &Stage) -> Result<Address> {
    let at = Address::path(&stage.path("flood.sock"))?;
    drop(listen(&at, SockType::Stream, 28)?);
    Ok(at)
}
