//! What the kernel asks of a task before it lets it pass: its ids, groups and capabilities.
//!
//! Owns those lines of `/proc/PID/status`, the inodes of `/proc/PID/ns/*`, and the one sysctl that
//! refuses a path for another reason, `fs.protected_symlinks`. Does not decide who
//! may pass (`diagnose`), nor what an id is called (`accounts`). Formats: proc(5);
//! `task_state()`, `task_cap()`, `task_seccomp()`. A thread has credentials of its own: its tid
//! serves as a pid here.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::error::{Malformed, read_with};
use super::{Host, HostError, bracketed_inode, decimal, numbered_lines, words};

/// The credentials of one task. Ids are those of the reader's user namespace; the kernel shows one
/// that has no place there as `overflowuid` (`from_kuid_munged()`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The real user.
    pub uid: u32,
    /// The user that file permissions are checked for.
    pub fsuid: u32,
    /// The group that file permissions are checked for.
    pub fsgid: u32,
    /// The supplementary groups: all of them, `fsgid` is not necessarily among them.
    pub groups: Vec<u32>,
    /// The effective capabilities, one bit each. They hold in the task's own user namespace.
    pub cap_effective: u64,
    /// 0 none, 1 strict, 2 filter; `None` from a kernel without seccomp.
    pub seccomp: Option<u32>,
    /// Whether exec can no longer give privileges; `None` where the kernel does not say.
    pub no_new_privs: Option<bool>,
}

impl Host {
    /// The credentials of a task, in one read: they are of one moment.
    pub fn read_credentials(&self, pid: u32) -> Result<Credentials, HostError> {
        read_with(&self.proc_path(pid, "status"), parse_credentials)
    }

    /// The inode of a namespace of the task: `mnt`, `user`, `net`, `pid` and so on. Of tasks of
    /// others it takes `CAP_SYS_PTRACE`.
    pub fn read_namespace(&self, pid: u32, kind: &str) -> Result<u64, HostError> {
        let kind = kind.to_owned();
        self.read_of(pid, move |host| host.namespace_of(pid, &kind))
    }

    /// The same of a task that may hold back the answer (`patience`).
    pub(super) fn namespace_of(&self, pid: u32, kind: &str) -> Result<u64, HostError> {
        read_namespace_at(&self.proc_path(pid, &format!("ns/{kind}")), kind)
    }

    /// The same for the calling thread.
    pub(super) fn read_own_namespace(&self, kind: &str) -> Result<u64, HostError> {
        read_namespace_at(&self.below(format!("proc/thread-self/ns/{kind}")), kind)
    }

    /// Whether symlinks in sticky directories that all may write to are protected (proc(5)): the
    /// kernel takes 0 and 1.
    pub fn read_protected_symlinks(&self) -> Result<bool, HostError> {
        let path = self.below("proc/sys/fs/protected_symlinks");
        read_with(&path, |bytes| match parse_id(bytes) {
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            _ => Err(Malformed { line: 1, expected: "0 or 1" }),
        })
    }
}

/// The inode that a link of `/proc/PID/ns` names.
pub(super) fn read_namespace_at(path: &Path, kind: &str) -> Result<u64, HostError> {
    let target = fs::read_link(path).map_err(HostError::read(path))?;
    bracketed_inode(target.as_os_str().as_bytes(), kind).ok_or(HostError::Malformed {
        path: path.to_owned(),
        line: 1,
        expected: "a namespace and its inode",
    })
}

/// The lines of `/proc/PID/status` by their names. `Name:` comes first, with its newlines escaped,
/// so no line below is the task's own.
fn parse_credentials(bytes: &[u8]) -> Result<Credentials, Malformed> {
    let lines = Lines(bytes);
    let users = lines.real_and_fs(b"Uid:", "four uids after `Uid:`")?;
    let groups = lines.real_and_fs(b"Gid:", "four gids after `Gid:`")?;
    Ok(Credentials {
        uid: users.real,
        fsuid: users.fs,
        fsgid: groups.fs,
        groups: lines.required(b"Groups:", "gids after `Groups:`", parse_ids)?,
        cap_effective: lines.required(
            b"CapEff:",
            "a hexadecimal mask after `CapEff:`",
            parse_mask,
        )?,
        seccomp: lines.find(b"Seccomp:").and_then(|(_, value)| parse_id(value)),
        no_new_privs: lines.find(b"NoNewPrivs:").and_then(|(_, value)| match parse_id(value)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }),
    })
}

/// Two of the four ids of a line.
struct Ids {
    real: u32,
    fs: u32,
}

/// A file of `Name:\tvalue` lines.
struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    /// The number and the value of the first line of that name.
    fn find(&self, name: &[u8]) -> Option<(usize, &'a [u8])> {
        numbered_lines(self.0).find_map(|(line, text)| Some((line, text.strip_prefix(name)?)))
    }

    fn required<T>(
        &self,
        name: &[u8],
        expected: &'static str,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, Malformed> {
        let last = numbered_lines(self.0).count();
        let (line, value) = self.find(name).ok_or(Malformed { line: last, expected })?;
        parse(value).ok_or(Malformed { line, expected })
    }

    /// The first and the last of real, effective, saved and filesystem id.
    fn real_and_fs(&self, name: &[u8], expected: &'static str) -> Result<Ids, Malformed> {
        self.required(name, expected, |value| match parse_ids(value)?.as_slice() {
            [real, _, _, fs] => Some(Ids { real: *real, fs: *fs }),
            _ => None,
        })
    }
}

fn parse_id(value: &[u8]) -> Option<u32> {
    words(value).next().and_then(decimal)?.try_into().ok()
}

/// At most 65536 of them (`NGROUPS_MAX`).
fn parse_ids(value: &[u8]) -> Option<Vec<u32>> {
    words(value).map(|word| decimal(word)?.try_into().ok()).collect()
}

fn parse_mask(value: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(words(value).next()?).ok()?;
    let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    const STATUS: &[u8] = b"Name:\tUid:\\n\nUmask:\t0022\nUid:\t1000\t1001\t1002\t1003\n\
        Gid:\t5\t6\t7\t8\nGroups:\t4 24 1000 \nCapInh:\t0000000000000000\n\
        CapEff:\t000001fffeffffff\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n";

    #[test]
    fn the_ids_that_count_are_the_last_of_four() {
        let expected = Credentials {
            uid: 1000,
            fsuid: 1003,
            fsgid: 8,
            groups: vec![4, 24, 1000],
            cap_effective: 0x1ff_feff_ffff,
            seccomp: Some(2),
            no_new_privs: Some(true),
        };
        assert_eq!(parse_credentials(STATUS), Ok(expected));
    }

    #[test]
    fn a_line_that_lacks_is_named_and_what_a_kernel_may_lack_is_unknown() {
        let without = |name: &[u8]| -> Vec<u8> {
            let kept = STATUS.split(|&byte| byte == b'\n').filter(|line| !line.starts_with(name));
            kept.collect::<Vec<_>>().join(&b'\n')
        };
        for name in ["Uid:", "Gid:", "Groups:", "CapEff:"] {
            let error = parse_credentials(&without(name.as_bytes())).expect_err("a line lacks");
            assert!(error.expected.contains(name), "{error:?}");
        }
        let old = parse_credentials(&without(b"Seccomp:")).expect("the rest is there");
        assert_eq!(old.seccomp, None);
        let old = parse_credentials(&without(b"NoNewPrivs:")).expect("the rest is there");
        assert_eq!(old.no_new_privs, None);
    }

    #[test]
    fn no_bytes_are_taken_for_what_they_are_not() {
        for bad in [
            b"Uid:\t1\t2\t3\nGid:\t1\t1\t1\t1\nGroups:\t\nCapEff:\t0\n".as_slice(),
            b"Uid:\t1\t2\t3\t-4\nGid:\t1\t1\t1\t1\nGroups:\t\nCapEff:\t0\n",
            b"Uid:\t1\t2\t3\t4294967296\nGid:\t1\t1\t1\t1\nGroups:\t\nCapEff:\t0\n",
            b"Uid:\t1\t1\t1\t1\nGid:\t1\t1\t1\t1\nGroups:\tx\nCapEff:\t0\n",
            b"Uid:\t1\t1\t1\t1\nGid:\t1\t1\t1\t1\nGroups:\t\nCapEff:\t+f\n",
            b"",
        ] {
            assert!(parse_credentials(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn this_process_reads_as_itself() {
        let (host, pid) = (Host::default(), std::process::id());
        let own = host.read_credentials(pid).expect("credentials");
        assert_eq!(own.uid, rustix::process::getuid().as_raw());
        assert_eq!(own.fsgid, rustix::process::getegid().as_raw());
        for kind in ["mnt", "user", "net", "pid"] {
            let file = fs::metadata(format!("/proc/self/ns/{kind}")).expect("a namespace");
            assert_eq!(host.read_namespace(pid, kind).expect("a namespace"), file.ino());
        }
        assert!(host.read_namespace(pid, "none").is_err_and(|error| error.is_gone()));
        let sysctl = fs::read("/proc/sys/fs/protected_symlinks").expect("a sysctl");
        assert_eq!(host.read_protected_symlinks().expect("a sysctl"), sysctl == b"1\n");
    }
}
