//! Listeners that were inherited by a process that never accepts, and closed by who made them.

use anyhow::{Context, Result};
use nix::sys::socket::{SockFlag, SockType};

use super::actor::{Actor, Role, prepare};
use super::clock::sleep_ms;
use super::listener::loopback;
use super::socket::{Address, bound, listen};
use super::stage::Stage;

/// Longer than any play lasts; an heir ends with who made it.
const LONG_MS: u64 = 120_000;
/// More than twice the threshold of a stall.
const WAIT_MS: u64 = 2600;

/// A listener of a process called `heir` alone, which sleeps.
///
/// # Errors
/// When there is no listener, or no heir.
pub fn bequeath(at: &Address, backlog: u32) -> Result<Actor<()>> {
    let _listener = listen(at, SockType::Stream, backlog)?;
    let mut heir = prepare(Role::named("heir"), || {
        sleep_ms(LONG_MS);
        Ok(())
    })?;
    heir.start()?;
    Ok(heir)
}

/// Two clients wait in the queue of such a listener.
///
/// # Errors
/// When it does not happen so.
pub fn never_accepted(_stage: &mut Stage) -> Result<()> {
    let at = bound(&loopback(), SockType::Stream)?.1;
    let heir = bequeath(&at, 16)?;
    let connect = || -> Result<_> {
        let socket = at.socket(SockType::Stream, SockFlag::empty())?;
        at.connect(&socket).context("connect")?;
        Ok(socket)
    };
    let _waiting = (connect()?, connect()?);
    sleep_ms(WAIT_MS);
    // It is there until this process ends.
    std::mem::forget(heir);
    Ok(())
}
