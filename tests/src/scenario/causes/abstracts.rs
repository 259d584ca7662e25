//! Abstract names: bound nowhere, or in another network namespace than the client's.

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::socket::SockType;

use super::play::{Client, Play};
use crate::scenario::netns;
use crate::scenario::socket::{Address, bound, listen};

/// All of them.
pub(super) fn prepare(play: &mut Play<'_>) -> Result<()> {
    let at = name("nowhere")?;
    play.client(Client::of("abstract_nowhere", at, Errno::ECONNREFUSED))?;
    let at = name("elsewhere")?;
    let server = move || {
        netns::enter()?;
        listen(&at, SockType::Stream, 16)
    };
    play.server("abstract-server", server, || Ok(()))?;
    play.client(Client::of("abstract_server", at, Errno::ECONNREFUSED))?;
    let at = name("here")?;
    play.client(Client::of("abstract_client", at, Errno::ECONNREFUSED).from(netns::enter))?;
    play.scenery("abstract_client", move || listen(&at, SockType::Stream, 16));
    let at = name("datagram")?;
    // The type is a part of an abstract name's hash (`unix_abstract_hash()`), so that the name is not found.
    play.client(Client::of("abstract_type", at, Errno::ECONNREFUSED))?;
    play.scenery("abstract_type", move || bound(&at, SockType::Datagram));
    Ok(())
}

fn name(name: &str) -> Result<Address> {
    Address::abstract_name(&format!("causes-{}-{name}", std::process::id()))
}
