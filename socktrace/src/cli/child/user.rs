//! Whom CMD runs as: the user of `--user`, or the one who called sudo.

use std::{ffi::CString, io};

use caps::{CapSet, Capability};
use nix::unistd::{Gid, Uid, User, getgrouplist, setgid, setgroups, setuid};

use crate::cli::failure::Failure;

/// Variables that say whose session it is, as runuser(1) and sudo(8) set them.
const NAMED: [&str; 2] = ["USER", "LOGNAME"];

/// A user, with all that a login would give to a command.
#[derive(Clone, Debug)]
pub(in crate::cli) struct RunAs {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    /// `None` for a user without an entry: then the environment stays as it is.
    entry: Option<Box<User>>,
}

/// The user who called sudo, if one did: uid and gid.
pub(in crate::cli) fn invoking_user() -> Option<(u32, u32)> {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    Some((number("SUDO_UID")?, number("SUDO_GID")?))
}

/// The value of `--user`: a name, or the uid of a user that has one.
pub(in crate::cli) fn parse_user(text: &str) -> Result<RunAs, String> {
    let by_name = User::from_name(text).map_err(|errno| errno.desc().to_owned())?;
    let found = match (by_name, text.parse()) {
        (None, Ok(uid)) => {
            User::from_uid(Uid::from_raw(uid)).map_err(|errno| errno.desc().to_owned())?
        }
        (by_name, _) => by_name,
    };
    let user = found.ok_or("there is no such user; `getent passwd` lists them")?;
    RunAs::new(user.uid, user.gid, Some(user)).map_err(|error| format!("its groups: {error}"))
}

/// The user who called sudo, where this is root.
pub(super) fn sudo_user() -> Result<Option<RunAs>, Failure> {
    let Some((uid, gid)) = invoking_user().filter(|_| Uid::effective().is_root()) else {
        return Ok(None);
    };
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let entry = User::from_uid(uid).map_err(io::Error::from);
    let user = entry.and_then(|entry| RunAs::new(uid, gid, entry));
    user.map(Some).map_err(|source| Failure::System {
        what: "cannot look up the user who called sudo, and their groups",
        source,
    })
}

/// Fails where this process may not become somebody else.
pub(super) fn check_may_change() -> Result<(), Failure> {
    let may = |which| caps::has_cap(None, CapSet::Effective, which).unwrap_or(false);
    if may(Capability::CAP_SETUID) && may(Capability::CAP_SETGID) {
        return Ok(());
    }
    Err(Failure::Usage(
        "--user takes CAP_SETUID and CAP_SETGID; run socktrace as root, or leave --user out"
            .to_owned(),
    ))
}

impl RunAs {
    /// Groups are looked up here, before the fork: reading them may connect to a name service.
    fn new(uid: Uid, gid: Gid, entry: Option<User>) -> io::Result<Self> {
        let groups = match &entry {
            Some(user) => {
                let name = CString::new(user.name.as_str()).map_err(io::Error::other)?;
                getgrouplist(&name, gid)?
            }
            // A user without an entry has no other group.
            None => vec![gid],
        };
        Ok(Self { uid, gid, groups, entry: entry.map(Box::new) })
    }

    /// What changes in CMD's environment.
    pub(super) fn environment(&self) -> Vec<(&'static str, std::ffi::OsString)> {
        let Some(user) = &self.entry else { return Vec::new() };
        let mut set: Vec<_> = NAMED.iter().map(|name| (*name, user.name.clone().into())).collect();
        set.push(("HOME", user.dir.clone().into()));
        set.push(("SHELL", user.shell.clone().into()));
        set
    }

    pub(super) const fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    pub(super) const fn gid(&self) -> u32 {
        self.gid.as_raw()
    }

    /// Becomes that user for good; system calls only, for between fork and exec.
    pub(super) fn become_it(&self) -> nix::Result<()> {
        setgroups(&self.groups)?;
        setgid(self.gid)?;
        setuid(self.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_known_by_name_and_by_number() {
        for text in ["root", "0"] {
            let root = parse_user(text).expect("every host has it");
            assert_eq!((root.uid(), root.gid()), (0, 0));
            assert!(root.groups.contains(&Gid::from_raw(0)));
            let names: Vec<_> = root.environment().into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, ["USER", "LOGNAME", "HOME", "SHELL"]);
        }
        for text in ["", "no such user", "-1", "4294967294"] {
            assert!(parse_user(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_user_without_an_entry_leaves_the_environment_alone() {
        let (uid, gid) = (Uid::from_raw(4_000_000), Gid::from_raw(7));
        let nobody = RunAs::new(uid, gid, None).expect("nothing to look up");
        assert_eq!(nobody.groups, [gid]);
        assert!(nobody.environment().is_empty());
    }
}
