//! What users and groups are called, and who belongs to which group.
//!
//! Owns `/etc/passwd` and `/etc/group` below the host's root. Does not ask NSS: an account of LDAP
//! or systemd has no name here. Names are bytes, as the files hold them. Formats: passwd(5),
//! group(5).

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use super::{Host, HostError, decimal, numbered_lines};

/// More than any account file: a larger one is refused, not cut, as a cut one would hide groups.
const MOST_BYTES: u64 = 8 << 20;

/// One line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: Vec<u8>,
    /// The user id.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
}

/// One line of `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: Vec<u8>,
    /// The group id.
    pub gid: u32,
    /// Login names of its members, without those whose primary group it is.
    pub members: Vec<Vec<u8>>,
}

/// The accounts that the host's files know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
}

impl Accounts {
    /// The first name of a user, as getpwuid(3) takes it.
    pub fn user_name(&self, uid: u32) -> Option<&[u8]> {
        self.users.iter().find(|user| user.uid == uid).map(|user| user.name.as_slice())
    }

    /// The first name of a group.
    pub fn group_name(&self, gid: u32) -> Option<&[u8]> {
        self.groups.iter().find(|group| group.gid == gid).map(|group| group.name.as_slice())
    }

    /// The user of that name.
    pub fn user(&self, name: &[u8]) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// The groups that a login gives to a user, the primary one first, as initgroups(3) does.
    pub fn groups_of(&self, user: &User) -> Vec<u32> {
        let member = |group: &&Group| group.members.contains(&user.name);
        let mut gids = vec![user.gid];
        for group in self.groups.iter().filter(member) {
            if !gids.contains(&group.gid) {
                gids.push(group.gid);
            }
        }
        gids
    }
}

impl Host {
    /// Every user and group of the host's files. Lines that are none, such as `+::::` of NIS,
    /// are passed over.
    pub fn read_accounts(&self) -> Result<Accounts, HostError> {
        let users = parse_lines(&self.read_account_file("etc/passwd")?, parse_user);
        let groups = parse_lines(&self.read_account_file("etc/group")?, parse_group);
        Ok(Accounts { users, groups })
    }

    /// Without waiting, whatever lies there.
    fn read_account_file(&self, name: &str) -> Result<Vec<u8>, HostError> {
        let path = self.below(name);
        let mut bytes = Vec::new();
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
        file.and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes))
            .map_err(HostError::read(&path))?;
        if bytes.len() as u64 > MOST_BYTES {
            let line = numbered_lines(&bytes).count();
            return Err(HostError::Malformed { path, line, expected: "at most 8 MiB of accounts" });
        }
        Ok(bytes)
    }
}

fn parse_lines<T>(bytes: &[u8], parse: impl Fn(&[&[u8]]) -> Option<T>) -> Vec<T> {
    let fields = |line: &'_ [u8]| parse(&line.split(|&byte| byte == b':').collect::<Vec<_>>());
    numbered_lines(bytes).filter_map(|(_, line)| fields(line)).collect()
}

fn parse_id(field: &[u8]) -> Option<u32> {
    decimal(field)?.try_into().ok()
}

/// `name:password:uid:gid:comment:home:shell`
fn parse_user(fields: &[&[u8]]) -> Option<User> {
    let [name, _, uid, gid, _, _, _] = fields else { return None };
    let user = User { name: name.to_vec(), uid: parse_id(uid)?, gid: parse_id(gid)? };
    (!user.name.is_empty()).then_some(user)
}

/// `name:password:gid:member,member`
fn parse_group(fields: &[&[u8]]) -> Option<Group> {
    let [name, _, gid, members] = fields else { return None };
    let members = members.split(|&byte| byte == b',').filter(|name| !name.is_empty());
    let group = Group {
        name: name.to_vec(),
        gid: parse_id(gid)?,
        members: members.map(<[u8]>::to_vec).collect(),
    };
    (!group.name.is_empty()).then_some(group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn host(passwd: &[u8], group: &[u8]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(root.path().join("etc")).expect("a directory");
        fs::write(root.path().join("etc/passwd"), passwd).expect("a file");
        fs::write(root.path().join("etc/group"), group).expect("a file");
        let host = Host::at(root.path());
        (root, host)
    }

    #[test]
    fn a_user_has_a_name_and_the_groups_of_a_login() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/:\nalias:x:33:1::/:\n";
        let group = b"root:x:0:\nweb:x:33:\napp:x:7:other,web\nmore:x:8:web\nweb2:x:33:web\n";
        let (_root, host) = host(passwd, group);
        let accounts = host.read_accounts().expect("accounts");
        assert_eq!(accounts.user_name(33), Some(b"web".as_slice()));
        assert_eq!(accounts.group_name(7), Some(b"app".as_slice()));
        assert_eq!((accounts.user_name(1), accounts.group_name(1)), (None, None));
        let user = accounts.user(b"web").expect("a user");
        assert_eq!(accounts.groups_of(user), [33, 7, 8]);
        assert_eq!(accounts.user(b"nobody"), None);
    }

    #[test]
    fn lines_that_are_no_accounts_are_passed_over() {
        let passwd = b"+::::::\n# x\n:x:1:1:::\nx:x:-1:1:::\nx:x:4294967296:1:::\nx:x:1:1\n\
            \xff\x1b:x:9:9:::\n\n";
        let (_root, host) = host(passwd, b"+:::\n\xff:x:9:,,\xfe,\n");
        let accounts = host.read_accounts().expect("accounts");
        assert_eq!(accounts.users.len(), 1);
        assert_eq!(accounts.user_name(9), Some(b"\xff\x1b".as_slice()));
        let members = vec![b"\xfe".to_vec()];
        let group = Group { name: b"\xff".to_vec(), gid: 9, members };
        assert_eq!(accounts.groups, [group]);
    }

    #[test]
    fn a_file_beyond_all_measure_is_refused_and_one_that_lacks_is_named() {
        let (root, host) = host(b"", b"");
        let file = fs::File::create(root.path().join("etc/passwd")).expect("a file");
        file.set_len(MOST_BYTES + 1).expect("a sparse file");
        let error = host.read_accounts().expect_err("too large").to_string();
        assert!(error.ends_with("expected at most 8 MiB of accounts"), "{error}");
        fs::remove_file(root.path().join("etc/passwd")).expect("the file");
        assert!(host.read_accounts().is_err_and(|error| error.is_gone()));
    }
}
