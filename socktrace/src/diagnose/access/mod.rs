//! Who may pass where on the way to a Unix socket: the kernel's own check, made again from facts.
//!
//! Owns the order of `unix_find_bsd()`: search permission on every directory, `may_follow_link()` on
//! the last symlinks, `inode_permission(MAY_WRITE)` on what is found. `class` is
//! `generic_permission()` for one inode, `fix` the smallest change. Pure. Not covered, and so not
//! decided here: security modules, the second check of overlay with its mounter's credentials
//! (`ovl_permission()`), and the process directories of a procfs with `hidepid=`.

mod class;
mod fix;

use crate::host::path_walk::{End, Kind, MountFact, Step, Walk};
use crate::host::{Credentials, IdMaps};

pub use class::{Class, Who, who_may};
pub use fix::{Fix, ModeClass, smallest_fix};

/// Bits of `cap_effective` (`include/uapi/linux/capability.h`).
pub(crate) const CAP_DAC_OVERRIDE: u32 = 1;
pub(super) const CAP_DAC_READ_SEARCH: u32 = 2;
pub(crate) const CAP_SETGID: u32 = 6;

/// Who wants to pass. What is `None` is unknown, and only a decision that hangs on it is, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The user that files are checked for.
    pub fsuid: u32,
    /// The group.
    pub fsgid: u32,
    /// The supplementary groups.
    pub groups: Option<Vec<u32>>,
    /// The effective capabilities.
    pub cap_effective: Option<u64>,
    /// The ids that its user namespace knows.
    pub id_maps: Option<IdMaps>,
}

impl Client {
    /// A task by what `/proc` says of it.
    pub fn new(credentials: Credentials, id_maps: Option<IdMaps>) -> Self {
        Self {
            fsuid: credentials.fsuid,
            fsgid: credentials.fsgid,
            groups: Some(credentials.groups),
            cap_effective: Some(credentials.cap_effective),
            id_maps,
        }
    }

    /// `capable_wrt_inode_uidgid()`: the capability, and a user namespace that knows the inode's
    /// owner and group.
    fn is_capable(&self, capability: u32, step: &Step) -> Option<bool> {
        match self.cap_effective.map(|mask| mask & 1 << capability != 0) {
            Some(true) => Some(self.id_maps.as_ref()?.know(step.uid, step.gid)),
            // What the namespace does not know it cannot reach with any capability.
            None if !self.id_maps.as_ref()?.know(step.uid, step.gid) => Some(false),
            answer => answer,
        }
    }
}

/// What the kernel asks for at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Execute permission on a directory (`may_lookup()`).
    Search,
    /// Write permission on what the path leads to (`path_permission()`).
    Write,
    /// That `fs.protected_symlinks` lets the link be followed (`may_follow_link()`).
    FollowLink,
}

/// The answer for a whole walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Every step that was walked lets the client pass. Whether there is more is for the walk's end
    /// to tell.
    Allowed,
    /// The first step that does not.
    Denied(Denial),
    /// It hangs on something that is not known.
    Unknown {
        /// The step.
        step: usize,
        /// What is not known.
        reason: Unknown,
    },
}

/// What is not known and matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Nothing was walked.
    Walk,
    /// The client's groups.
    Groups,
    /// Its capabilities.
    Capabilities,
    /// The ids of its user namespace.
    IdMaps,
    /// The inode's ACL.
    Acl,
    /// Whether the filesystem is read-only, or only its mount.
    ReadOnly,
    /// Whether its mount maps the owner to any id: where it does not, nobody may write.
    Unmapped,
    /// `fs.protected_symlinks`.
    ProtectedSymlinks,
}

/// A step that does not let the client pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial {
    /// Its number in the walk.
    pub step: usize,
    /// What was asked for.
    pub need: Need,
    /// Why it was not given.
    pub why: Why,
}

/// Why a step denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The client's class lacks the bit: EACCES.
    Class {
        /// The class whose bits decided.
        class: Class,
        /// Whether the class has the bit and the ACL's mask takes it away.
        masked: bool,
    },
    /// A symlink of somebody else in a sticky directory that all may write to: EACCES.
    StickyLink,
    /// The inode is immutable: EPERM, for anybody.
    Immutable,
    /// A directory, regular file or symlink on a read-only filesystem: EROFS. Never a socket.
    ReadOnly,
}

impl Denial {
    /// What connect(2) returns.
    pub const fn errno(&self) -> i32 {
        match self.why {
            Why::Class { .. } | Why::StickyLink => libc::EACCES,
            Why::Immutable => libc::EPERM,
            Why::ReadOnly => libc::EROFS,
        }
    }
}

/// What the kernel needs at each step of a walk; `None` at one that it did not come to pass.
pub fn need(walk: &Walk, step: usize) -> Option<Need> {
    let is_last = step + 1 == walk.steps.len();
    match walk.steps.get(step)?.kind {
        // The last step of a path that was found, and no symlink, which would have been followed.
        _ if is_last && walk.end == End::Found => Some(Need::Write),
        Kind::Directory => Some(Need::Search),
        // Denied only after the limit is checked (`pick_link()`).
        Kind::Symlink { .. } if walk.end == End::TooManyLinks && is_last => None,
        Kind::Symlink { .. } => Some(Need::FollowLink),
        _ => None,
    }
}

/// The first step that denies, as the kernel would meet it. `protected_symlinks` is the sysctl.
pub fn first_denial(walk: &Walk, client: &Client, protected_symlinks: Option<bool>) -> Access {
    if walk.steps.is_empty() {
        return Access::Unknown { step: 0, reason: Unknown::Walk };
    }
    let needs = (0..walk.steps.len()).filter_map(|step| Some((step, need(walk, step)?)));
    for (step, need) in needs {
        match denial(walk, step, need, client, protected_symlinks) {
            Ok(None) => {}
            Ok(Some(why)) => return Access::Denied(Denial { step, need, why }),
            Err(reason) => return Access::Unknown { step, reason },
        }
    }
    Access::Allowed
}

/// Every step that denies; the kernel met the first one only, the others stand behind it. A step of which
/// that is not known is left out.
pub fn denials(walk: &Walk, client: &Client, protected_symlinks: Option<bool>) -> Vec<Denial> {
    let needs = (0..walk.steps.len()).filter_map(|step| Some((step, need(walk, step)?)));
    let denied = needs.filter_map(|(step, need)| {
        let why = denial(walk, step, need, client, protected_symlinks).ok()??;
        Some(Denial { step, need, why })
    });
    denied.collect()
}

fn denial(
    walk: &Walk,
    at: usize,
    need: Need,
    client: &Client,
    protected_symlinks: Option<bool>,
) -> Result<Option<Why>, Unknown> {
    let Some(step) = walk.steps.get(at) else { return Err(Unknown::Walk) };
    match need {
        Need::Search => class::denial(step, need, client),
        Need::FollowLink => {
            let directory = at.checked_sub(1).and_then(|before| walk.steps.get(before));
            let directory = directory.ok_or(Unknown::Walk)?;
            link_denial(directory, step, client, protected_symlinks)
        }
        Need::Write => match before_the_mode(step) {
            // An unknown matters only where the mode would let the client pass.
            Err(unknown) => match class::denial(step, need, client)? {
                denied @ Some(_) => Ok(denied),
                None => Err(unknown),
            },
            Ok(Some(why)) => Ok(Some(why)),
            Ok(None) => class::denial(step, need, client),
        },
    }
}

/// What stat(2) shows for an owner without an id (`DEFAULT_OVERFLOWUID`), and for one of that id.
const OVERFLOW_ID: u32 = 65534;

/// `sb_permission()`, the immutable flag and owners without an id (`inode_permission()`), which come before owner and
/// mode.
fn before_the_mode(step: &Step) -> Result<Option<Why>, Unknown> {
    let on_filesystem = matches!(step.kind, Kind::Directory | Kind::Regular | Kind::Symlink { .. });
    let read_only = |mount: &MountFact| {
        // Where one bit stands for both, none set is an answer.
        if mount.read_only { mount.filesystem_read_only } else { Some(false) }
    };
    if on_filesystem {
        match step.mount.as_ref().and_then(read_only) {
            Some(true) => return Ok(Some(Why::ReadOnly)),
            Some(false) => {}
            None => return Err(Unknown::ReadOnly),
        }
    }
    // A filesystem that does not tell has no such flag, or `S_IMMUTABLE` stays unset (stat(2)).
    if step.immutable == Some(true) {
        return Ok(Some(Why::Immutable));
    }
    let is_idmapped = step.mount.as_ref().is_some_and(|mount| mount.idmapped);
    if is_idmapped && (step.uid == OVERFLOW_ID || step.gid == OVERFLOW_ID) {
        return Err(Unknown::Unmapped);
    }
    Ok(None)
}

/// `may_follow_link()`: only the last symlinks of a path, and no capability helps.
fn link_denial(
    directory: &Step,
    link: &Step,
    client: &Client,
    protected_symlinks: Option<bool>,
) -> Result<Option<Why>, Unknown> {
    const STICKY_AND_WRITABLE: u32 = 0o1002;
    let harmless = !link.trailing
        || link.uid == client.fsuid
        || directory.mode & STICKY_AND_WRITABLE != STICKY_AND_WRITABLE
        || directory.uid == link.uid;
    match protected_symlinks {
        _ if harmless => Ok(None),
        Some(true) => Ok(Some(Why::StickyLink)),
        Some(false) => Ok(None),
        None => Err(Unknown::ProtectedSymlinks),
    }
}

#[cfg(test)]
mod against_kernel;
