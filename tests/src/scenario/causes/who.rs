//! Who a client is: user, groups, capabilities.

use anyhow::{Context, Result};
use caps::CapSet;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// Owns nothing, is in no group but its own.
pub(super) const STRANGER: u32 = 61_002;
/// Owns what is not root's.
pub(super) const OWNER: u32 = 61_001;
/// Owns what belongs to a group.
pub(super) const GROUP: u32 = 62_001;

/// A client's rights.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who {
    /// The scenario's own, all of them.
    Root,
    /// Root's ids and no capability.
    RootWithoutCapabilities,
    /// An ordinary user with these groups besides its own.
    User(u32, &'static [u32]),
}

/// An ordinary user to whom nothing belongs.
pub(super) const NOBODY: Who = Who::User(STRANGER, &[]);

impl Who {
    /// Gives up whatever this one has not.
    pub(super) fn become_it(self) -> Result<()> {
        match self {
            Self::Root => Ok(()),
            Self::RootWithoutCapabilities => {
                setgroups(&[]).context("setgroups")?;
                caps::clear(None, CapSet::Effective).context("capset")?;
                caps::clear(None, CapSet::Permitted).context("capset")
            }
            Self::User(uid, groups) => {
                let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
                let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
                setgroups(&groups).context("setgroups")?;
                setresgid(gid, gid, gid).context("setresgid")?;
                setresuid(uid, uid, uid).context("setresuid")?;
                // Changing the user clears both.
                prctl::set_dumpable(true).context("PR_SET_DUMPABLE")?;
                prctl::set_pdeathsig(Signal::SIGKILL).context("PR_SET_PDEATHSIG")
            }
        }
    }
}
