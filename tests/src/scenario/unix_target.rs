//! Unix connects that fail by what the target is: stale, missing, of another type, no socket.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::SockType;

use super::attempt::must_fail;
use super::socket::{Address, bound, listen};
use super::stage::Stage;

/// A socket file whose server is gone.
///
/// # Errors
/// When the incident cannot be made.
pub fn stale(stage: &mut Stage) -> Result<()> {
    let at = Address::path(&stage.path("stale.sock"))?;
    drop(listen(&at, SockType::Stream, 18)?);
    stage.failed(must_fail("unix_stale", &at, SockType::Stream, Errno::ECONNREFUSED, 5)?);
    Ok(())
}

/// No such file.
///
/// # Errors
/// When the incident cannot be made.
pub fn missing(stage: &mut Stage) -> Result<()> {
    let at = Address::path(&stage.path("missing.sock"))?;
    stage.failed(must_fail("unix_missing", &at, SockType::Stream, Errno::ENOENT, 6)?);
    Ok(())
}

/// A stream client at a datagram socket.
///
/// # Errors
/// When the incident cannot be made.
pub fn wrong_type(stage: &mut Stage) -> Result<()> {
    let at = Address::path(&stage.path("datagram.sock"))?;
    let _server = bound(&at, SockType::Datagram)?;
    stage.failed(must_fail("unix_wrong_type", &at, SockType::Stream, Errno::EPROTOTYPE, 7)?);
    Ok(())
}

/// A datagram client at no such file.
///
/// # Errors
/// When the incident cannot be made.
pub fn dgram_missing(stage: &mut Stage) -> Result<()> {
    let at = Address::path(&stage.path("missing-datagram.sock"))?;
    stage.failed(must_fail("unix_dgram_missing", &at, SockType::Datagram, Errno::ENOENT, 8)?);
    Ok(())
}

/// A seqpacket client at a stream listener.
///
/// # Errors
/// When the incident cannot be made.
pub fn seqpacket_wrong_type(stage: &mut Stage) -> Result<()> {
    let name = "unix_seqpacket_wrong_type";
    let at = Address::path(&stage.path("stream.sock"))?;
    let server = listen(&at, SockType::Stream, 19)?;
    stage.listens(name, &server);
    stage.failed(must_fail(name, &at, SockType::SeqPacket, Errno::EPROTOTYPE, 9)?);
    Ok(())
}

/// A regular file.
///
/// # Errors
/// When the incident cannot be made.
pub fn not_a_socket(stage: &mut Stage) -> Result<()> {
    let path = stage.path("regular-file");
    std::fs::write(&path, "no socket").context("writing a file")?;
    let at = Address::path(&path)?;
    stage.failed(must_fail("unix_not_a_socket", &at, SockType::Stream, Errno::ECONNREFUSED, 10)?);
    Ok(())
}

/// An abstract name that nobody bound.
///
/// # Errors
/// When the incident cannot be made.
pub fn abstract_name(stage: &mut Stage) -> Result<()> {
    let at = Address::abstract_name(&format!("scenario-{}-nobody", stage.seen.pid))?;
    stage.failed(must_fail("unix_abstract", &at, SockType::Stream, Errno::ECONNREFUSED, 11)?);
    Ok(())
}
