//! From a cgroup id to its path, and from a path to the unit or container it stands for.
//!
//! Owns the walk of the mounted cgroup2 tree and the naming rules of systemd and container
//! runtimes. Does not ask a runtime or systemd: a name here is what the path says, no more.
//!
//! `bpf_get_current_cgroup_id()` gives `cgroup_id()`, the kernfs node id, which is also the
//! directory's `st_ino`. Ids are not reused while a host is up, so a path stays true for events of
//! a cgroup that is gone.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{Malformed, read_with};
use super::mountinfo::{self, parse_mounts};
use super::{Host, HostError};

/// Paths kept, vanished cgroups included; past it a walk starts from nothing.
const KEPT_PATHS: usize = 65_536;
/// A miss walks the tree at most this often: a walk of thousands of cgroups takes milliseconds.
const WALK_INTERVAL: Duration = Duration::from_secs(1);

/// The cgroup paths seen so far, by id.
#[derive(Debug)]
pub struct Cgroups {
    mount: Mount<PathBuf>,
    paths: HashMap<u64, Vec<u8>>,
    walked_at: Option<Duration>,
}

/// What one walk saw.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CgroupWalk {
    /// Directories that now have a path.
    pub seen: u32,
    /// Directories that could not be read, for another reason than their removal.
    pub unreadable: u32,
}

/// Where cgroup2 is mounted, and which cgroup is at the top of that mount.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount<P> {
    /// `/` unless the mount shows a subtree.
    root: Vec<u8>,
    point: P,
}

impl Host {
    /// Finds the cgroup2 mount. Nothing is walked yet.
    pub fn open_cgroups(&self) -> Result<Cgroups, HostError> {
        let Mount { root, point } =
            read_with(&self.below("proc/self/mountinfo"), parse_cgroup2_mount)?;
        let point = self.below(PathBuf::from(std::ffi::OsString::from_vec(point)));
        Ok(Cgroups { mount: Mount { root, point }, paths: HashMap::new(), walked_at: None })
    }
}

impl Cgroups {
    /// Where the top of the hierarchy is mounted; `None` where only a part of it is.
    pub(super) fn top(&self) -> Option<&Path> {
        (self.mount.root == b"/").then_some(self.mount.point.as_path())
    }

    /// The path, as `/proc/PID/cgroup` would show it, of a cgroup that a walk has seen.
    pub fn path(&self, id: u64) -> Option<&[u8]> {
        self.paths.get(&id).map(Vec::as_slice)
    }

    /// As [`Self::path`], walking the tree once on a miss when the last walk was long enough before
    /// `now` (any monotonic clock).
    pub fn path_or_refresh(&mut self, id: u64, now: Duration) -> Option<&[u8]> {
        let due = self.walked_at.is_none_or(|at| now.saturating_sub(at) >= WALK_INTERVAL);
        if due && !self.paths.contains_key(&id) {
            self.walked_at = Some(now);
            self.refresh();
        }
        self.path(id)
    }

    /// Walks the whole tree. Paths of cgroups that have gone are kept.
    pub fn refresh(&mut self) -> CgroupWalk {
        if self.paths.len() >= KEPT_PATHS {
            self.paths.clear();
        }
        let mut walk = CgroupWalk::default();
        let mut dirs = vec![self.mount.point.clone()];
        while let Some(dir) = dirs.pop() {
            match read_cgroup_dir(&dir) {
                Ok((id, children)) => {
                    self.paths.insert(id, self.mount.cgroup_path(&dir));
                    walk.seen += 1;
                    dirs.extend(children);
                }
                Err(error) if error.is_gone() => {}
                Err(_) => walk.unreadable += 1,
            }
        }
        walk
    }
}

impl Mount<PathBuf> {
    fn cgroup_path(&self, dir: &Path) -> Vec<u8> {
        let below = dir.strip_prefix(&self.point).unwrap_or(dir).as_os_str().as_bytes();
        let mut path = self.root.clone();
        if path.last() != Some(&b'/') && !below.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(below);
        path
    }
}

/// A cgroup's id and its child directories; kernfs has no links to follow.
fn read_cgroup_dir(dir: &Path) -> Result<(u64, Vec<PathBuf>), HostError> {
    let id = fs::symlink_metadata(dir).map_err(HostError::read(dir))?.ino();
    let mut children = Vec::new();
    for entry in fs::read_dir(dir).map_err(HostError::read(dir))? {
        let entry = entry.map_err(HostError::read(dir))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            children.push(entry.path());
        }
    }
    Ok((id, children))
}

/// The cgroup2 mount that shows the whole hierarchy, before one that shows a part.
fn parse_cgroup2_mount(bytes: &[u8]) -> Result<Mount<Vec<u8>>, Malformed> {
    let mut part = None;
    for mountinfo::Mount { root, point, .. } in parse_mounts(bytes, b"cgroup2") {
        let mount = Mount { root, point };
        if mount.root == b"/" {
            return Ok(mount);
        }
        part = part.or(Some(mount));
    }
    let last = bytes.split(|&byte| byte == b'\n').count();
    part.ok_or(Malformed { line: last, expected: "a cgroup2 mount" })
}

/// The systemd unit that a cgroup path belongs to: its last `*.service`, `*.socket` or `*.scope`.
pub fn systemd_unit(path: &[u8]) -> Option<&[u8]> {
    components(path).rfind(|name| {
        [b".service".as_slice(), b".socket", b".scope"]
            .iter()
            .any(|suffix| name.len() > suffix.len() && name.ends_with(suffix))
    })
}

/// Who made a container, as far as its cgroup name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// `docker-ID.scope` or `/docker/ID`.
    Docker,
    /// `cri-containerd-ID.scope` and its `slice:cri-containerd:ID` form.
    Containerd,
    /// `crio-ID.scope`.
    Crio,
    /// `libpod-ID.scope`.
    Podman,
    /// A bare id, as the cgroupfs driver of Kubernetes makes: the path does not name a runtime.
    Unnamed,
}

/// A container, by its cgroup path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Container<'a> {
    /// Who made it.
    pub runtime: Runtime,
    /// The full id: 64 lowercase hex digits.
    pub id: &'a str,
}

/// The innermost container that a cgroup path lies in.
pub fn container(path: &[u8]) -> Option<Container<'_>> {
    let mut parent: &[u8] = b"";
    let mut innermost = None;
    for name in components(path) {
        innermost = parse_container(name, parent).or(innermost);
        parent = name;
    }
    innermost
}

/// `crio-conmon-ID` and `libpod-conmon-ID` are a container's monitors, outside it: after the
/// prefix nothing but the id may stand.
fn parse_container<'a>(name: &'a [u8], parent: &[u8]) -> Option<Container<'a>> {
    let name = name.strip_suffix(b".scope").unwrap_or(name);
    let prefixes = [
        (b"docker-".as_slice(), Runtime::Docker),
        (b"cri-containerd-", Runtime::Containerd),
        (b"crio-", Runtime::Crio),
        (b"libpod-", Runtime::Podman),
    ];
    for (prefix, runtime) in prefixes {
        if let Some(id) = name.strip_prefix(prefix) {
            return parse_container_id(id).map(|id| Container { runtime, id });
        }
    }
    let mut parts = name.rsplitn(3, |&byte| byte == b':');
    let id = parse_container_id(parts.next()?)?;
    let runtime = match (parts.next(), parent) {
        (Some(b"cri-containerd"), _) => Runtime::Containerd,
        (Some(b"crio"), _) => Runtime::Crio,
        (None, b"docker") => Runtime::Docker,
        _ => Runtime::Unnamed,
    };
    Some(Container { runtime, id })
}

fn parse_container_id(id: &[u8]) -> Option<&str> {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (id.len() == 64 && id.iter().all(is_hex)).then(|| str::from_utf8(id).ok()).flatten()
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_unit_is_the_last_one_in_the_path() {
        for (path, unit) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
            ("/user.slice/user-0.slice/session-3.scope", Some("session-3.scope")),
            ("/user.slice/user@1.service/app.slice/a.service/sub", Some("a.service")),
            ("/system.slice/docker.socket", Some("docker.socket")),
            ("/system.slice", None),
            ("/system.slice/.service", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(systemd_unit(path.as_bytes()), unit.map(str::as_bytes), "{path}");
        }
        assert_eq!(systemd_unit(b"/\xff\n.service"), Some(b"\xff\n.service".as_slice()));
    }

    #[test]
    fn a_container_is_told_by_its_runtimes_naming() {
        for (path, runtime) in [
            (format!("/system.slice/docker-{ID}.scope"), Runtime::Docker),
            (format!("/docker/{ID}"), Runtime::Docker),
            (format!("/docker/{ID}/system.slice/a.service"), Runtime::Docker),
            (format!("/kubepods.slice/pod1.slice/cri-containerd-{ID}.scope"), Runtime::Containerd),
            (format!("/system.slice/pod1.slice:cri-containerd:{ID}"), Runtime::Containerd),
            (format!("/kubepods.slice/crio-{ID}.scope/container"), Runtime::Crio),
            (format!("/machine.slice/libpod-{ID}.scope/container"), Runtime::Podman),
            (format!("/kubepods/burstable/pod1/{ID}"), Runtime::Unnamed),
            (format!("/docker/{}/libpod-{ID}.scope", "f".repeat(64)), Runtime::Podman),
        ] {
            assert_eq!(container(path.as_bytes()), Some(Container { runtime, id: ID }), "{path}");
        }
    }

    #[test]
    fn a_monitor_or_a_wrong_id_is_no_container() {
        for path in [
            format!("/kubepods.slice/crio-conmon-{ID}.scope"),
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/docker/{}", &ID[1..]),
            format!("/docker/{}", ID.to_uppercase()),
            format!("/docker/{ID}0"),
            "/docker".to_owned(),
        ] {
            assert_eq!(container(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn the_whole_cgroup2_mount_is_preferred_and_its_path_unescaped() {
        let info = b"24 1 0:5 / /proc rw shared:1 - proc proc rw\n\
            30 1 0:9 /part /a rw - cgroup2 cgroup2 rw\n\
            31 1 0:9 / /sys/fs/c\\040g\\134 rw,nosuid shared:4 master:1 - cgroup2 - rw\n\
            32 1 0:8 / /b rw - cgroup cgroup2 rw\n";
        let whole = Mount { root: b"/".to_vec(), point: b"/sys/fs/c g\\".to_vec() };
        assert_eq!(parse_cgroup2_mount(info), Ok(whole));
        let part = Mount { root: b"/part".to_vec(), point: b"/a".to_vec() };
        assert_eq!(parse_cgroup2_mount(b"1 1 0:9 /part /a rw - cgroup2 c rw\n"), Ok(part));
        assert!(parse_cgroup2_mount(b"32 1 0:8 / /b rw - cgroup cgroup2 rw\n").is_err());
    }

    fn fake() -> (tempfile::TempDir, Cgroups) {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(root.path().join("proc/self")).expect("a fake proc");
        fs::create_dir_all(root.path().join("cg/a.slice/b.service")).expect("a fake tree");
        let info = b"31 1 0:9 /top /cg rw - cgroup2 cgroup2 rw\n";
        fs::write(root.path().join("proc/self/mountinfo"), info).expect("a fake mountinfo");
        let cgroups = Host::at(root.path()).open_cgroups().expect("a mount");
        (root, cgroups)
    }

    #[test]
    fn a_miss_walks_the_tree_and_not_again_too_soon() {
        let (root, mut cgroups) = fake();
        let inode = |path: &str| fs::metadata(root.path().join(path)).expect("a directory").ino();
        let unit = inode("cg/a.slice/b.service");
        assert_eq!(cgroups.path(unit), None, "nothing is walked before it is asked for");
        let start = Duration::from_secs(10);
        let path = b"/top/a.slice/b.service".as_slice();
        assert_eq!(cgroups.path_or_refresh(unit, start), Some(path));
        assert_eq!(cgroups.path(inode("cg")), Some(b"/top".as_slice()));

        fs::create_dir(root.path().join("cg/new")).expect("a new cgroup");
        let new = inode("cg/new");
        assert_eq!(cgroups.path_or_refresh(new, start + WALK_INTERVAL / 2), None);
        assert_eq!(
            cgroups.path_or_refresh(new, start + WALK_INTERVAL),
            Some(b"/top/new".as_slice())
        );
    }

    #[test]
    fn a_cgroup_that_has_gone_keeps_its_path() {
        let (root, mut cgroups) = fake();
        let unit = root.path().join("cg/a.slice/b.service");
        let id = fs::metadata(&unit).expect("a directory").ino();
        assert_eq!(cgroups.refresh(), CgroupWalk { seen: 3, unreadable: 0 });
        fs::remove_dir(unit).expect("a removed cgroup");
        assert_eq!(cgroups.refresh(), CgroupWalk { seen: 2, unreadable: 0 });
        assert_eq!(cgroups.path(id), Some(b"/top/a.slice/b.service".as_slice()));
    }

    #[test]
    fn this_hosts_own_tree_can_be_walked() {
        // A host with cgroup v1 alone has nothing to walk, and must say so.
        match Host::default().open_cgroups() {
            Ok(mut cgroups) => {
                assert!(cgroups.refresh().seen > 0);
                let top = fs::metadata(&cgroups.mount.point).expect("the mount").ino();
                assert_eq!(cgroups.path(top), Some(cgroups.mount.root.as_slice()));
            }
            Err(error) => assert!(error.to_string().ends_with("expected a cgroup2 mount")),
        }
    }
}
