//! TCP targets at the other end of a wire, as in a container: a listener that is full or listens elsewhere, nobody,
//! an address that nobody has.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, raise};
use nix::sys::socket::SockType;

use super::play::{Client, Play};
use super::tcp::{fill_and_wait, wait_in_vain};
use crate::scenario::socket::{Address, bound, listen};
use crate::scenario::wire::Wire;

/// Of TEST-NET-2.
const NEAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const NOBODYS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 3);
/// In a namespace of their own all ports are free.
const FULL: u16 = 8001;
const OTHER: u16 = 8002;
const NOBODY: u16 = 8003;

/// All of them.
pub(super) fn prepare(play: &mut Play<'_>) -> Result<()> {
    let wire = Wire::between(NEAR, FAR)?;
    let near = || {
        let place = Rc::clone(&wire.near);
        move || place.enter()
    };
    let far = |port| Address::ip(IpAddr::V4(FAR), port);

    let place = Rc::clone(&wire.far);
    let serve = move || {
        place.enter()?;
        let loopback = Address::ip(Ipv4Addr::LOCALHOST.into(), OTHER);
        let full = listen(&far(FULL), SockType::Stream, 0)?;
        Ok((full, listen(&loopback, SockType::Stream, 16)?, bound(&far(NOBODY), SockType::Stream)?))
    };
    play.server("far-server", serve, || raise(Signal::SIGSTOP).context("SIGSTOP"))?;

    let full = far(FULL);
    let attempt = move || fill_and_wait(&full);
    play.client(Client::trying("far_queue_full", full, Errno::ETIMEDOUT, attempt).from(near()))?;
    for (name, port) in [("far_other_address", OTHER), ("far_nobody", NOBODY)] {
        play.client(Client::of(name, far(port), Errno::ECONNREFUSED).from(near()))?;
    }
    let at = Address::ip(IpAddr::V4(NOBODYS), NOBODY);
    let attempt = move || wait_in_vain(&at);
    play.client(Client::trying("far_no_answer", at, Errno::ETIMEDOUT, attempt).from(near()))?;
    play.server("wire", move || wire.carry().map(|()| wire), || Ok(()))
}
