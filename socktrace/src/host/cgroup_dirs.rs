//! Where the control files of a process's cgroup lie.
//!
//! Owns the way from `/proc/PID/cgroup` and the mounts to a directory, and the files of `NAME VALUE`
//! lines found there. Does not own what the values mean (`cpu_quota`, `pressure`).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::error::read_with;
use super::mountinfo::parse_mounts;
use super::{Host, HostError, decimal, numbered_lines, words};

/// A cgroup hierarchy: the type of its filesystem, and whether a line's controllers are its own.
#[derive(Clone, Copy)]
pub(super) struct Hierarchy {
    pub(super) kind: &'static [u8],
    pub(super) has: fn(&[u8]) -> bool,
}

/// cgroup v2.
pub(super) const UNIFIED: Hierarchy = Hierarchy { kind: b"cgroup2", has: <[u8]>::is_empty };
/// The v1 hierarchy of the `cpu` controller.
pub(super) const CPU_V1: Hierarchy = Hierarchy {
    kind: b"cgroup",
    has: |controllers| controllers.split(|&byte| byte == b',').any(|name| name == b"cpu"),
};

/// A cgroup's directory, as one mount shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CgroupDir {
    /// Where the top of the mount is.
    pub(super) top: PathBuf,
    /// The names from there to the cgroup.
    pub(super) below: PathBuf,
}

impl Host {
    /// The directories that may be the cgroup's of `pid` in a hierarchy: of v1, mounts of other
    /// controllers are among them. None where the process is in none or it is not mounted.
    pub(super) fn read_cgroup_dirs(
        &self,
        pid: u32,
        hierarchy: Hierarchy,
    ) -> Result<Vec<CgroupDir>, HostError> {
        let cgroups = read_with(&self.proc_path(pid, "cgroup"), |bytes| Ok(bytes.to_vec()))?;
        let mounts = read_with(&self.below("proc/self/mountinfo"), |bytes| Ok(bytes.to_vec()))?;
        let path = numbered_lines(&cgroups).find_map(|(_, line)| path_in(line, hierarchy.has));
        let Some(path) = path else { return Ok(Vec::new()) };
        let dir = |mount: super::mountinfo::Mount| {
            let below = below_root(path, &mount.root)?;
            let top = self.below(PathBuf::from(OsString::from_vec(mount.point)));
            Some(CgroupDir { top, below: OsString::from_vec(below.to_vec()).into() })
        };
        Ok(parse_mounts(&mounts, hierarchy.kind).filter_map(dir).collect())
    }
}

impl CgroupDir {
    /// The directory itself.
    pub(super) fn path(&self) -> PathBuf {
        self.top.join(&self.below)
    }
}

/// The path of a line `id:controllers:path`.
fn path_in(line: &[u8], has: fn(&[u8]) -> bool) -> Option<&[u8]> {
    let mut fields = line.splitn(3, |&byte| byte == b':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    has(controllers).then_some(path)
}

/// The cgroup `path` from the cgroup `root` on; `None` where it is not below it. A path that leaves
/// the cgroup namespace (`/../x`) is below nothing.
fn below_root<'a>(path: &'a [u8], root: &[u8]) -> Option<&'a [u8]> {
    let below = match root {
        b"/" => path.strip_prefix(b"/")?,
        _ => match path.strip_prefix(root)? {
            [] => &[],
            rest => rest.strip_prefix(b"/")?,
        },
    };
    let leaves = below.split(|&byte| byte == b'/').any(|name| name == b"..");
    (!leaves).then_some(below)
}

/// The number in the line `NAME NUMBER`.
pub(super) fn value_of(bytes: &[u8], name: &[u8]) -> Option<u64> {
    let pair = |line| {
        let mut words = words(line);
        Some((words.next()?, words.next()?))
    };
    let mut pairs = numbered_lines(bytes).filter_map(|(_, line)| pair(line));
    pairs.find(|(found, _)| *found == name).and_then(|(_, value)| decimal(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_whole_names_only() {
        assert_eq!(below_root(b"/a/b", b"/"), Some(b"a/b".as_slice()));
        assert_eq!(below_root(b"/a/b", b"/a"), Some(b"b".as_slice()));
        assert_eq!(below_root(b"/a", b"/a"), Some(b"".as_slice()));
        assert_eq!(below_root(b"/", b"/"), Some(b"".as_slice()));
        for (path, root) in [("/ab", "/a"), ("/../x", "/"), ("/a/../x", "/a"), ("/b", "/a")] {
            assert_eq!(below_root(path.as_bytes(), root.as_bytes()), None, "{path} {root}");
        }
    }

    #[test]
    fn a_value_is_found_by_its_whole_name() {
        let text = b"oom_kill 3\noom 2\nmax\nhigh x\n";
        assert_eq!(value_of(text, b"oom"), Some(2));
        assert_eq!(value_of(text, b"oom_kill"), Some(3));
        for name in [b"max".as_slice(), b"high", b"low"] {
            assert_eq!(value_of(text, name), None);
        }
    }
}
