//! Which class of an inode's mode or ACL a client is in, and whether it may pass.
//!
//! Owns `generic_permission()`, `acl_permission_check()` and `posix_acl_permission()` for one inode.

use super::{CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, Client, Need, Unknown, Why};
use crate::host::path_walk::{Acl, AclFact, AclTag, Kind, Step};

/// Whose bits decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The owner's, whatever group and others may.
    Owner,
    /// The owning group's.
    Group,
    /// Everybody else's.
    Other,
    /// An ACL entry of the user.
    AclUser(u32),
    /// An ACL entry of a group that the client is in.
    AclGroup(u32),
}

/// Who passes a step without a capability, by its mode and ACL. Whoever is in none of these classes
/// is in `others`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The owner, and whether it may.
    pub owner: (u32, bool),
    /// The owning group, and whether it may.
    pub group: (u32, bool),
    /// Users of the ACL, likewise.
    pub users: Vec<(u32, bool)>,
    /// Groups of the ACL, likewise.
    pub groups: Vec<(u32, bool)>,
    /// Everybody else.
    pub others: bool,
}

impl Who {
    /// Whether nobody may but a task with `CAP_DAC_OVERRIDE`: root, in most cases.
    pub fn only_privileged(&self) -> bool {
        let none = |entries: &[(u32, bool)]| entries.iter().all(|(_, may)| !may);
        !self.owner.1 && !self.group.1 && !self.others && none(&self.users) && none(&self.groups)
    }
}

/// The bit of a class that a need takes.
pub(super) const fn bit(need: Need) -> u32 {
    match need {
        Need::Write => 2,
        // Symlinks have no bits that count.
        Need::Search | Need::FollowLink => 1,
    }
}

/// The ACL that the kernel asks: none when the group bits of the mode, which are its mask, are all
/// clear. Then even users with an entry are others (`acl_permission_check()`).
fn effective_acl(step: &Step) -> Result<Option<&Acl>, Unknown> {
    match &step.acl {
        _ if step.mode & 0o070 == 0 => Ok(None),
        AclFact::Present(acl) => Ok(Some(acl)),
        AclFact::Absent | AclFact::Unsupported => Ok(None),
        AclFact::Unknown => Err(Unknown::Acl),
    }
}

/// Who may pass; `None` where the ACL could not be read.
pub fn who_may(step: &Step, need: Need) -> Option<Who> {
    let bit = bit(need);
    let acl = effective_acl(step).ok()?;
    let mut who = Who {
        owner: (step.uid, step.mode >> 6 & bit != 0),
        group: (step.gid, step.mode >> 3 & bit != 0),
        users: Vec::new(),
        groups: Vec::new(),
        others: step.mode & bit != 0,
    };
    for entry in acl.map_or(&[][..], |acl| &acl.entries) {
        let granted = u32::from(entry.bits) & bit != 0;
        let unmasked = granted && mask(acl).is_none_or(|mask| mask & bit != 0);
        match entry.tag {
            AclTag::User(uid) => who.users.push((uid, unmasked)),
            AclTag::OwningGroup => who.group.1 = unmasked,
            AclTag::Group(gid) => who.groups.push((gid, unmasked)),
            AclTag::Other => who.others = granted,
            AclTag::Owner | AclTag::Mask => {}
        }
    }
    Some(who)
}

fn mask(acl: Option<&Acl>) -> Option<u32> {
    let entry = acl?.entries.iter().find(|entry| entry.tag == AclTag::Mask)?;
    Some(entry.bits.into())
}

/// What mode and ACL say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    class: Class,
    granted: bool,
    /// The class has the bit, the mask has not.
    masked: bool,
}

/// `generic_permission()`.
pub(super) fn denial(step: &Step, need: Need, client: &Client) -> Result<Option<Why>, Unknown> {
    let verdict = verdict_of(step, need, client);
    if verdict.is_ok_and(|verdict| verdict.granted) {
        return Ok(None);
    }
    match overrides(step, need, client) {
        Some(true) => Ok(None),
        Some(false) => {
            let Verdict { class, masked, .. } = verdict?;
            Ok(Some(Why::Class { class, masked }))
        }
        None => Err(verdict.err().unwrap_or(match client.cap_effective {
            None => Unknown::Capabilities,
            Some(_) => Unknown::IdMaps,
        })),
    }
}

/// Searching a directory takes either capability; writing takes `CAP_DAC_OVERRIDE`.
fn overrides(step: &Step, need: Need, client: &Client) -> Option<bool> {
    let overrides = client.is_capable(CAP_DAC_OVERRIDE, step);
    if need == Need::Search && step.kind == Kind::Directory && overrides != Some(true) {
        let searches = client.is_capable(CAP_DAC_READ_SEARCH, step);
        return if searches == Some(true) { searches } else { searches.and(overrides) };
    }
    overrides
}

/// Where the groups are unknown, the answer counts only if they could not change it. Entries of
/// groups grant one by one and under one mask, so it is enough to suppose none, and each alone.
fn verdict_of(step: &Step, need: Need, client: &Client) -> Result<Verdict, Unknown> {
    let bit = bit(need);
    if step.uid == client.fsuid {
        let granted = step.mode >> 6 & bit != 0;
        return Ok(Verdict { class: Class::Owner, granted, masked: false });
    }
    let acl = effective_acl(step)?;
    if let Some(groups) = &client.groups {
        let is_in = |gid: u32| gid == client.fsgid || groups.contains(&gid);
        return Ok(in_groups(step, acl, bit, client.fsuid, is_in));
    }
    let none = in_groups(step, acl, bit, client.fsuid, |gid| gid == client.fsgid);
    let named =
        acl.map_or(&[][..], |acl| &acl.entries).iter().filter_map(|entry| match entry.tag {
            AclTag::Group(gid) => Some(gid),
            _ => None,
        });
    let mut each = named.chain([step.gid]).map(|own| {
        in_groups(step, acl, bit, client.fsuid, |gid| gid == client.fsgid || gid == own)
    });
    let same = each.all(|verdict| verdict.granted == none.granted);
    if same { Ok(none) } else { Err(Unknown::Groups) }
}

/// For a client that is not the owner.
fn in_groups(
    step: &Step,
    acl: Option<&Acl>,
    bit: u32,
    fsuid: u32,
    is_in: impl Fn(u32) -> bool,
) -> Verdict {
    let plain = |class, bits: u32| Verdict { class, granted: bits & bit != 0, masked: false };
    let Some(acl) = acl else {
        return if is_in(step.gid) {
            plain(Class::Group, step.mode >> 3)
        } else {
            plain(Class::Other, step.mode)
        };
    };
    let under_mask = |class, bits: u16| {
        let granted = u32::from(bits) & bit != 0;
        let masked = granted && mask(Some(acl)).is_some_and(|mask| mask & bit == 0);
        Verdict { class, granted: granted && !masked, masked }
    };
    // The first group that the client is in decides only if none of its groups grants.
    let mut first_group = None;
    for entry in &acl.entries {
        let class = match entry.tag {
            AclTag::User(uid) if uid == fsuid => {
                return under_mask(Class::AclUser(uid), entry.bits);
            }
            AclTag::OwningGroup if is_in(step.gid) => Class::Group,
            AclTag::Group(gid) if is_in(gid) => Class::AclGroup(gid),
            AclTag::Other => {
                return first_group.unwrap_or(plain(Class::Other, entry.bits.into()));
            }
            _ => continue,
        };
        if u32::from(entry.bits) & bit != 0 {
            return under_mask(class, entry.bits);
        }
        first_group.get_or_insert(plain(class, 0));
    }
    // Without the entry of others the kernel answers EIO; it stores no such ACL.
    first_group.unwrap_or(plain(Class::Other, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::path_walk::AclEntry;

    fn step(mode: u32, acl: AclFact) -> Step {
        Step {
            path: b"/d".to_vec(),
            name: b"d".to_vec(),
            trailing: true,
            kind: Kind::Socket,
            mode,
            uid: 10,
            gid: 20,
            dev: 1,
            inode: 2,
            ctime: (0, 0),
            acl,
            immutable: None,
            mount: None,
        }
    }

    fn acl(mask: u16) -> AclFact {
        let entry = |tag, bits| AclEntry { tag, bits };
        let entries = vec![
            entry(AclTag::Owner, 7),
            entry(AclTag::User(11), 7),
            entry(AclTag::User(12), 4),
            entry(AclTag::OwningGroup, 4),
            entry(AclTag::Group(21), 6),
            entry(AclTag::Mask, mask),
            entry(AclTag::Other, 0),
        ];
        AclFact::Present(Acl { entries })
    }

    #[test]
    fn who_may_is_told_class_by_class() {
        let plain = who_may(&step(0o620, AclFact::Absent), Need::Write).expect("known");
        let expected = Who {
            owner: (10, true),
            group: (20, true),
            users: vec![],
            groups: vec![],
            others: false,
        };
        assert_eq!(plain, expected);
        let listed = who_may(&step(0o770, acl(7)), Need::Write).expect("known");
        assert_eq!((listed.group, listed.others), ((20, false), false));
        assert_eq!(
            (listed.users, listed.groups),
            (vec![(11, true), (12, false)], vec![(21, true)])
        );
        let nobody = who_may(&step(0o050, acl(5)), Need::Write).expect("known");
        assert!(nobody.only_privileged(), "{nobody:?}");
        assert_eq!(who_may(&step(0o770, AclFact::Unknown), Need::Write), None);
    }

    #[test]
    fn a_mask_of_nothing_makes_the_kernel_pass_over_the_acl() {
        let who = who_may(&step(0o707, acl(0)), Need::Write).expect("known");
        assert_eq!((who.users, who.others, who.group), (vec![], true, (20, false)));
        assert!(who_may(&step(0o707, AclFact::Unknown), Need::Write).is_some());
    }

    #[test]
    fn a_mask_that_takes_the_bit_is_told() {
        let client =
            Client { fsuid: 11, fsgid: 99, groups: None, cap_effective: Some(0), id_maps: None };
        let class = Class::AclUser(11);
        let denied = denial(&step(0o740, acl(4)), Need::Write, &client);
        assert_eq!(denied, Ok(Some(Why::Class { class, masked: true })));
        let other = Client { fsuid: 13, ..client };
        assert_eq!(denial(&step(0o770, acl(7)), Need::Write, &other), Err(Unknown::Groups));
        let denied = denial(&step(0o740, acl(4)), Need::Write, &other);
        assert_eq!(denied, Ok(Some(Why::Class { class: Class::Other, masked: false })));
    }
}
