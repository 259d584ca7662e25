//! Attempts to connect that must fail, and the record of them.

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockType};

use super::record::Failure;
use super::socket::Address;
use super::stage::whoami;

/// Connects `count` times, each time with a fresh socket; every attempt must fail with `errno`.
///
/// # Errors
/// When an attempt ends in another way: then the incident is not the one that was meant.
pub fn must_fail(
    name: &str,
    at: &Address,
    kind: SockType,
    errno: Errno,
    count: u64,
) -> Result<Failure> {
    for _ in 0..count {
        let socket = at.socket(kind, SockFlag::empty())?;
        must_be(at, errno, at.connect(&socket))?;
    }
    failure(name, at, errno, count)
}

/// Checks the outcome of one call.
///
/// # Errors
/// When it is not the expected errno.
pub fn must_be(at: &Address, expected: Errno, outcome: Result<(), Errno>) -> Result<()> {
    match outcome {
        Err(errno) if errno == expected => Ok(()),
        other => bail!("connect to {:?}: {other:?}, not {expected:?}", at.text()),
    }
}

/// A record of failures of this process.
///
/// # Errors
/// When `/proc` is not there.
pub fn failure(name: &str, at: &Address, errno: Errno, count: u64) -> Result<Failure> {
    let (pid, uid, comm) = whoami().context("who am I")?;
    Ok(Failure {
        name: name.to_owned(),
        pid,
        uid,
        comm,
        family: at.family().to_owned(),
        target: at.text(),
        target_hex: hex_unless_plain(&at.bytes()),
        errno: format!("{errno:?}"),
        count,
    })
}

fn hex_unless_plain(bytes: &[u8]) -> Option<String> {
    if bytes.iter().all(|byte| (0x20..0x7f).contains(byte)) {
        return None;
    }
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    Some(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hostile_bytes_are_also_given_in_hex() {
        assert_eq!(hex_unless_plain(b"/run/a b.sock"), None);
        assert_eq!(hex_unless_plain(b"\n\x1b\xff").as_deref(), Some("0a1bff"));
    }
}
