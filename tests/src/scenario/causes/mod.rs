//! Causes: one incident for each way in which a connect or an accept can fail, many in one recording, but no
//! more than socktrace looks into at once.
//!
//! What is there to be found is laid out before tracing, and stays until the report is written, as in an
//! incident that lasts. What must be said of each is in `tests/kernel/causes`.

mod abstracts;
mod accepts;
mod acls;
mod bells;
mod changed;
mod directories;
mod far;
pub mod files;
mod hostile;
mod links;
mod missing;
mod modes;
mod places;
mod play;
mod sandboxed;
mod strangers;
mod tcp;
mod unready;
mod who;

use anyhow::Result;

use play::Play;

use super::gate::Gate;
use super::stage::Stage;

/// Causes that last: what lies on the way of a path.
///
/// # Errors
/// When one cannot be made, or fails in another way than it is meant to.
pub(super) fn paths(stage: &mut Stage, gate: &Gate) -> Result<()> {
    let mut play = Play::new(stage)?;
    modes::prepare(&mut play)?;
    directories::prepare(&mut play)?;
    acls::prepare(&mut play)?;
    places::prepare(&mut play)?;
    play.perform(gate)
}

/// Causes that last: what is at the end of it.
///
/// # Errors
/// As [`paths`].
pub(super) fn ends(stage: &mut Stage, gate: &Gate) -> Result<()> {
    let mut play = Play::new(stage)?;
    links::prepare(&mut play)?;
    missing::prepare(&mut play)?;
    strangers::prepare(&mut play)?;
    unready::prepare(&mut play)?;
    play.perform(gate)
}

/// Causes that last: names without a path, addresses, and servers that do not accept.
///
/// # Errors
/// As [`paths`].
pub(super) fn names(stage: &mut Stage, gate: &Gate) -> Result<()> {
    let mut play = Play::new(stage)?;
    abstracts::prepare(&mut play)?;
    tcp::prepare(&mut play)?;
    accepts::prepare(&mut play)?;
    play.perform(gate)
}

/// Causes that last: targets in another namespace that a route leads to, and clients in a sandbox.
///
/// # Errors
/// As [`paths`].
pub(super) fn ways(stage: &mut Stage, gate: &Gate) -> Result<()> {
    let mut play = Play::new(stage)?;
    far::prepare(&mut play)?;
    sandboxed::prepare(&mut play)?;
    play.perform(gate)
}

/// Causes that are gone, or are others, a moment after the failure.
///
/// # Errors
/// As [`paths`].
pub(super) fn changed(stage: &mut Stage, gate: &Gate) -> Result<()> {
    let mut play = Play::new(stage)?;
    changed::prepare(&mut play)?;
    play.perform(gate)
}

/// Clients that would have a tracer hang, open what is not its business, or print what they like.
///
/// # Errors
/// As [`paths`], and when something was opened.
pub(super) fn hostile(stage: &mut Stage, gate: &Gate) -> Result<()> {
    let mut play = Play::new(stage)?;
    hostile::prepare(&mut play)?;
    play.perform(gate)
}
