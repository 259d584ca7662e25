//! Clients that restricted themselves with Landlock: a security module denies what nothing else would.

use anyhow::{Context, Result};
use landlock::{
    ABI, Access, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError, Scope,
};
use nix::errno::Errno;
use nix::sys::socket::SockType;
use std::net::{IpAddr, Ipv4Addr};

use super::play::{Client, Play, free_port};
use crate::scenario::socket::{Address, listen};

/// All of them that this kernel can refuse.
pub(super) fn prepare(play: &mut Play<'_>) -> Result<()> {
    tcp(play)?;
    abstract_name(play)
}

fn ruleset() -> Ruleset {
    Ruleset::default().set_compatibility(CompatLevel::HardRequirement)
}

/// No TCP connect at all.
fn without_tcp() -> Result<Ruleset, RulesetError> {
    ruleset().handle_access(AccessNet::from_all(ABI::V4) & AccessNet::ConnectTcp)
}

/// No abstract name of a process that is not restricted alike.
fn without_abstract_names() -> Result<Ruleset, RulesetError> {
    ruleset().scope(Scope::AbstractUnixSocket)
}

fn restrict(rules: Result<Ruleset, RulesetError>) -> Result<()> {
    rules?.create()?.restrict_self().context("landlock_restrict_self")?;
    Ok(())
}

fn tcp(play: &mut Play<'_>) -> Result<()> {
    let name = "sandboxed_tcp";
    if without_tcp().is_err() {
        play.lacks(name);
        return Ok(());
    }
    let at = free_port(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    play.client(Client::of(name, at, Errno::EACCES).from(|| restrict(without_tcp())))?;
    play.scenery(name, move || listen(&at, SockType::Stream, 16));
    Ok(())
}

fn abstract_name(play: &mut Play<'_>) -> Result<()> {
    let name = "sandboxed_name";
    if without_abstract_names().is_err() {
        play.lacks(name);
        return Ok(());
    }
    let at = Address::abstract_name("socktrace-sandboxed")?;
    let enter = || restrict(without_abstract_names());
    play.client(Client::of(name, at, Errno::EPERM).from(enter))?;
    play.scenery(name, move || listen(&at, SockType::Stream, 16));
    Ok(())
}
