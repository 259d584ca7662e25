//! The smallest change that lets a client pass one step, as data.
//!
//! Owns the choice. Does not word it, nor look whether a later step denies: ask again. A socket is
//! never opened to all: where a group has the bit the client joins it, else the group of the socket
//! gets it, else the client alone.

use super::class::{Class, bit};
use super::{Client, Denial, Need, Why};
use crate::host::path_walk::{AclFact, AclTag, Kind, Step, Walk};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fix {
    /// The client becomes a member of a group that may pass already.
    JoinGroup {
        /// The group.
        gid: u32,
    },
    /// The mode gets a bit.
    AddMode {
        /// What is changed.
        path: Vec<u8>,
        /// Whose bit.
        class: ModeClass,
        /// For what.
        need: Need,
    },
    /// The owning group gets the bit, and the client becomes its member.
    AddModeAndJoin {
        /// What is changed.
        path: Vec<u8>,
        /// The group.
        gid: u32,
        /// For what.
        need: Need,
    },
    /// An ACL entry for the client's user. What sets it must raise the mask with it, as setfacl(1)
    /// does by itself.
    SetAcl {
        /// What is changed.
        path: Vec<u8>,
        /// The user.
        uid: u32,
        /// For what.
        need: Need,
    },
    /// The mask of the ACL gets the bit that it takes from the client's entry.
    RaiseMask {
        /// What is changed.
        path: Vec<u8>,
        /// For what.
        need: Need,
    },
    /// The client names the target of a symlink instead of the symlink.
    NameTarget {
        /// The symlink.
        path: Vec<u8>,
        /// What it holds.
        target: Vec<u8>,
    },
    /// The immutable flag is taken away.
    ClearImmutable {
        /// What is changed.
        path: Vec<u8>,
    },
}

/// A class of the mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeClass {
    /// `u`
    Owner,
    /// `g`
    Group,
    /// `o`
    Other,
}

/// The smallest change for a denial; `None` where none is known: on a read-only mount, for example,
/// nothing can be changed.
pub fn smallest_fix(walk: &Walk, denial: &Denial, client: &Client) -> Option<Fix> {
    let step = walk.steps.get(denial.step)?;
    let path = step.path.clone();
    match denial.why {
        Why::Class { class, masked } => class_fix(step, denial.need, client, class, masked),
        Why::Immutable => is_writable(step).then_some(Fix::ClearImmutable { path }),
        Why::StickyLink => match &step.kind {
            Kind::Symlink { target } => Some(Fix::NameTarget { path, target: target.clone() }),
            _ => None,
        },
        Why::ReadOnly => None,
    }
}

/// Whether it can be changed at all.
fn is_writable(step: &Step) -> bool {
    step.mount.as_ref().is_none_or(|mount| !mount.read_only)
}

fn class_fix(step: &Step, need: Need, client: &Client, class: Class, masked: bool) -> Option<Fix> {
    let path = step.path.clone();
    if let Some(gid) = group_that_may(step, need).filter(|_| class == Class::Other) {
        return Some(Fix::JoinGroup { gid });
    }
    if !is_writable(step) || step.immutable == Some(true) {
        return None;
    }
    let has_acl = matches!(step.acl, AclFact::Present(_));
    Some(match class {
        _ if masked => Fix::RaiseMask { path, need },
        Class::Owner => Fix::AddMode { path, class: ModeClass::Owner, need },
        // With an ACL the group's bits of the mode are the mask.
        Class::Group if !has_acl => Fix::AddMode { path, class: ModeClass::Group, need },
        // The root group holds more than this path.
        Class::Other if !has_acl && step.gid != 0 => {
            Fix::AddModeAndJoin { path, gid: step.gid, need }
        }
        _ if step.acl != AclFact::Unsupported => Fix::SetAcl { path, uid: client.fsuid, need },
        _ if step.kind == Kind::Directory && need == Need::Search => {
            Fix::AddMode { path, class: ModeClass::Other, need }
        }
        _ => return None,
    })
}

/// A group that may pass: the owning one first. Not that of root.
fn group_that_may(step: &Step, need: Need) -> Option<u32> {
    let bit = bit(need);
    let granted = |bits: u16| u32::from(bits) & bit != 0;
    let in_mode = step.mode >> 3 & bit != 0;
    let gids: Vec<u32> = match &step.acl {
        // The group bits of the mode are the mask.
        AclFact::Present(acl) if in_mode => {
            let entries = acl.entries.iter().filter(|entry| granted(entry.bits));
            let gids = entries.filter_map(|entry| match entry.tag {
                AclTag::OwningGroup => Some(step.gid),
                AclTag::Group(gid) => Some(gid),
                _ => None,
            });
            gids.collect()
        }
        AclFact::Absent | AclFact::Unsupported if in_mode => vec![step.gid],
        _ => return None,
    };
    gids.into_iter().find(|gid| *gid != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::access::{Access, Unknown, first_denial};
    use crate::host::path_walk::{End, MountFact};

    fn walk(kind: Kind, mode: u32, acl: AclFact, read_only: bool) -> Walk {
        let end = if kind == Kind::Directory { End::NoStart } else { End::Found };
        let mount = MountFact {
            fs_type: b"x".to_vec(),
            read_only,
            filesystem_read_only: Some(read_only),
            idmapped: false,
            mount_point: None,
        };
        let step = Step {
            path: b"/x".to_vec(),
            name: b"x".to_vec(),
            trailing: true,
            kind,
            mode,
            uid: 10,
            gid: 20,
            dev: 1,
            inode: 2,
            ctime: (0, 0),
            acl,
            immutable: Some(false),
            mount: Some(mount),
        };
        Walk { steps: vec![step], end }
    }

    /// Neither owner nor member.
    fn client() -> Client {
        let groups = Some(vec![]);
        Client { fsuid: 1, fsgid: 1, groups, cap_effective: Some(0), id_maps: None }
    }

    fn fix_of(walk: &Walk) -> Option<Fix> {
        let Access::Denied(denial) = first_denial(walk, &client(), None) else { return None };
        smallest_fix(walk, &denial, &client())
    }

    #[test]
    fn whether_an_id_mapped_mount_lets_anybody_write_is_unknown_where_the_owner_may_have_no_id() {
        let mut socket = walk(Kind::Socket, 0o666, AclFact::Absent, false);
        let mut access = |uid, idmapped| {
            socket.steps[0].uid = uid;
            socket.steps[0].mount.as_mut().expect("a mount").idmapped = idmapped;
            first_denial(&socket, &client(), None)
        };
        assert!(matches!(access(65534, false), Access::Allowed));
        assert!(matches!(access(10, true), Access::Allowed));
        let unknown = access(65534, true);
        let expected = Access::Unknown { step: 0, reason: Unknown::Unmapped };
        assert!(unknown == expected, "{unknown:?}");
    }

    #[test]
    fn a_group_that_may_is_joined_even_where_nothing_can_be_changed() {
        let read_only = |mode| walk(Kind::Socket, mode, AclFact::Absent, true);
        assert_eq!(fix_of(&read_only(0o660)), Some(Fix::JoinGroup { gid: 20 }));
        assert_eq!(fix_of(&read_only(0o600)), None);
    }

    #[test]
    fn the_group_of_root_is_not_joined() {
        let mut of_root = walk(Kind::Socket, 0o660, AclFact::Absent, false);
        of_root.steps[0].gid = 0;
        let (path, need) = (b"/x".to_vec(), Need::Write);
        assert_eq!(fix_of(&of_root), Some(Fix::SetAcl { path, uid: 1, need }));
        of_root.steps[0].acl = AclFact::Unsupported;
        assert_eq!(fix_of(&of_root), None, "a socket is not opened to all");
    }

    #[test]
    fn only_a_directory_without_acls_is_opened_to_all_and_only_for_searching() {
        let mut directory = walk(Kind::Directory, 0o700, AclFact::Unsupported, false);
        directory.steps[0].gid = 0;
        let (path, need) = (b"/x".to_vec(), Need::Search);
        let open = Fix::AddMode { path: path.clone(), class: ModeClass::Other, need };
        assert_eq!(fix_of(&directory), Some(open));
        directory.steps[0].gid = 20;
        assert_eq!(fix_of(&directory), Some(Fix::AddModeAndJoin { path, gid: 20, need }));
    }
}
