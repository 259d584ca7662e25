//! The mounts of one process, by id and by place, and which filesystems are entered.
//!
//! Owns the table that `/proc/PID/mountinfo` is. Does not open anything. Fields: proc(5);
//! `show_mountinfo()`. A process in a chroot sees no mount that begins outside it
//! (`seq_path_root()` skips it): not even the one that its root directory lies on.

use std::collections::HashMap;

use crate::host::mountinfo::unescape_octal;
use crate::host::{decimal, numbered_lines, words};

/// More than `fs.mount-max` (100000) allows in a namespace by default.
const MOST_MOUNTS: usize = 200_000;

/// Filesystems that answer from this machine's memory or disks.
const LOCAL: [&str; 36] = [
    "bcachefs",
    "binder",
    "bpf",
    "btrfs",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "exfat",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "hugetlbfs",
    "iso9660",
    "jfs",
    "mqueue",
    "nilfs2",
    "nsfs",
    "ntfs3",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "reiserfs",
    "rootfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "vfat",
    "xfs",
    "zfs",
];

/// Whether the filesystem is entered.
pub(super) fn is_local(fs_type: &[u8]) -> bool {
    LOCAL.iter().any(|local| local.as_bytes() == fs_type)
}

/// The mount of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFact {
    /// The type of its filesystem.
    pub fs_type: Vec<u8>,
    /// Whether the mount or the filesystem is read-only: nothing on it can be changed.
    pub read_only: bool,
    /// Whether the filesystem itself is: only then does writing to a directory give EROFS without
    /// being tried (`sb_permission()`); `None` where only one bit for both is known.
    pub filesystem_read_only: Option<bool>,
    /// Whether it maps the owners of its files to other ids (`mount_setattr(2)`), as far as is known.
    pub idmapped: bool,
    /// Where it is, as the process sees it; `None` where it lies outside of what it sees.
    pub mount_point: Option<Vec<u8>>,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Unique at one time; that of statx(2).
    pub(super) id: u64,
    /// The mount that its point lies on.
    pub(super) parent: u64,
    /// `st_dev` of the filesystem, major and minor.
    pub(super) device: (u32, u32),
    /// Where it is, from the root of the process.
    pub(super) point: Vec<u8>,
    /// Options of the mount.
    options: Vec<u8>,
    /// Its type; what follows a dot is a subtype (`fuse.sshfs`).
    pub(super) fs_type: Vec<u8>,
    /// Options of the filesystem.
    super_options: Vec<u8>,
}

fn has_option(options: &[u8], name: &[u8]) -> bool {
    options.split(|&byte| byte == b',').any(|option| option == name)
}

impl Mount {
    pub(super) fn fact(&self) -> MountFact {
        let of_filesystem = has_option(&self.super_options, b"ro");
        MountFact {
            fs_type: self.fs_type.clone(),
            read_only: of_filesystem || has_option(&self.options, b"ro"),
            filesystem_read_only: Some(of_filesystem),
            // `show_mnt_opts()`
            idmapped: has_option(&self.options, b"idmapped"),
            mount_point: Some(self.point.clone()),
        }
    }

    /// Whether symlinks on it are not followed (`MNT_NOSYMFOLLOW`).
    pub(super) fn forbids_links(&self) -> bool {
        has_option(&self.options, b"nosymfollow")
    }
}

/// The mounts of a process.
#[derive(Debug, Default)]
pub(super) struct MountTable {
    mounts: Vec<Mount>,
    by_id: HashMap<u64, usize>,
    /// By the mount that the point lies on, and the point. The last one mounted wins; it cannot be
    /// another than the first, as a second one there is mounted on top of the first.
    by_place: HashMap<(u64, Vec<u8>), usize>,
}

impl MountTable {
    /// The table of a `mountinfo`. Lines that lack a field are none.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut table = Self::default();
        for (_, line) in numbered_lines(bytes).take(MOST_MOUNTS) {
            let Some(mount) = parse_mount(line) else { continue };
            let index = table.mounts.len();
            table.by_id.insert(mount.id, index);
            table.by_place.insert((mount.parent, mount.point.clone()), index);
            table.mounts.push(mount);
        }
        table
    }

    /// The mount with this id.
    pub(super) fn by_id(&self, id: u64) -> Option<&Mount> {
        self.by_id.get(&id).and_then(|&index| self.mounts.get(index))
    }

    /// The mount that a walk on the mount `parent` comes to at `point`: the topmost of a stack.
    pub(super) fn topmost_at(&self, parent: u64, point: &[u8]) -> Option<&Mount> {
        let on = |id| {
            let index = self.by_place.get(&(id, point.to_vec()))?;
            self.mounts.get(*index).filter(|mount| mount.id != id)
        };
        let mut top = on(parent)?;
        // A stack is no longer than the table; hostile or torn lines may make a circle.
        for _ in 0..self.mounts.len() {
            match on(top.id) {
                Some(higher) => top = higher,
                None => break,
            }
        }
        Some(top)
    }

    /// The mounts on the mount `parent` whose points end in `name`, where the way there is not
    /// known from the root.
    pub(super) fn named(&self, parent: u64, name: &[u8]) -> Vec<&Mount> {
        let ends = |mount: &&Mount| {
            mount.parent == parent && mount.point.rsplit(|&byte| byte == b'/').next() == Some(name)
        };
        let tops = self.mounts.iter().filter(ends);
        tops.filter_map(|mount| self.topmost_at(parent, &mount.point)).collect()
    }

    /// The mount of the root directory: the topmost one whose point is `/`.
    pub(super) fn root(&self) -> Option<&Mount> {
        let at_root = |mount: &&Mount| mount.point == b"/";
        let first = self.mounts.iter().find(at_root)?;
        self.topmost_at(first.id, b"/").or(Some(first))
    }

    /// The mount that an absolute path without symlinks lies on: the one with the longest point,
    /// the topmost there.
    pub(super) fn of_path(&self, path: &[u8]) -> Option<&Mount> {
        let holds = |mount: &&Mount| {
            let point = mount.point.strip_suffix(b"/").unwrap_or(&mount.point);
            path.strip_prefix(point).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.mounts.iter().filter(holds).max_by_key(|mount| mount.point.len())
    }
}

/// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS FIELDS… - TYPE SOURCE SUPER_OPTIONS`
fn parse_mount(line: &[u8]) -> Option<Mount> {
    let mut fields = words(line);
    let (id, parent) = (decimal(fields.next()?)?, decimal(fields.next()?)?);
    let device = parse_device(fields.next()?)?;
    let _root = fields.next()?;
    let point = unescape_octal(fields.next()?);
    let options = fields.next()?.to_vec();
    let mut fields = fields.skip_while(|word| *word != b"-").skip(1);
    let fs_type = unescape_octal(fields.next()?);
    // The source may be empty: the super options are last.
    let super_options = fields.last().unwrap_or_default().to_vec();
    Some(Mount { id, parent, device, point, options, fs_type, super_options })
}

fn parse_device(field: &[u8]) -> Option<(u32, u32)> {
    let colon = field.iter().position(|&byte| byte == b':')?;
    let number = |digits: Option<&[u8]>| decimal(digits?)?.try_into().ok();
    Some((number(field.get(..colon))?, number(field.get(colon + 1..))?))
}

/// The type of a filesystem by its magic number, where no table names it (statfs(2)).
pub(super) fn type_of_magic(magic: u64) -> Option<&'static [u8]> {
    let name: &[u8] = match magic {
        0xef53 => b"ext4",
        0x5846_5342 => b"xfs",
        0x9123_683e => b"btrfs",
        0x0102_1994 => b"tmpfs",
        0x794c_7630 => b"overlay",
        0x7371_7368 => b"squashfs",
        0xe0f5_e1e2 => b"erofs",
        0xf2f5_2010 => b"f2fs",
        0x2fc1_2fc1 => b"zfs",
        0xca45_1a4e => b"bcachefs",
        0x8584_58f6 => b"ramfs",
        0x4d44 => b"vfat",
        0x9660 => b"iso9660",
        _ => return None,
    };
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &[u8] = b"20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=x\n\
        21 20 0:5 / /run rw,idmapped - tmpfs tmpfs rw,size=1k\n\
        22 21 0:6 /x /run/a\\040b ro,nosymfollow master:2 - tmpfs none rw\n\
        23 22 0:7 / /run/a\\040b rw - nfs4 host:/ ro,vers=4\n\
        24 20 0:8 / /mnt rw - fuse.sshfs a@b: rw\ncut 1\n25 20 0:9 / /cut rw\n\n\
        26 20 0:9 / /empty rw -  tmpfs  rw\n";

    #[test]
    fn mounts_are_found_by_id_and_the_topmost_by_place() {
        let table = MountTable::parse(INFO);
        assert_eq!(table.by_id(21).expect("a mount").point, b"/run");
        assert_eq!(table.topmost_at(21, b"/run/a b").expect("a mount").fs_type, b"nfs4");
        assert_eq!(table.topmost_at(20, b"/run/a b"), None, "it is on another mount");
        assert_eq!(table.root().expect("a root").id, 20);
        assert_eq!(table.of_path(b"/run/a b/c").expect("a mount").id, 23);
        assert_eq!(table.of_path(b"/runner").expect("a mount").id, 20);
        assert_eq!(table.by_id(22).expect("a mount").device, (0, 6));
        assert_eq!(table.by_id(25), None, "a line without its end");
        assert_eq!(table.by_id(26).expect("a mount").fs_type, b"tmpfs");
        let named = table.named(21, b"a b");
        assert_eq!(named.iter().map(|mount| mount.id).collect::<Vec<_>>(), [23]);
    }

    #[test]
    fn a_mount_tells_what_it_is_and_whether_its_filesystem_is_read_only() {
        let table = MountTable::parse(INFO);
        let fact = |id| table.by_id(id).expect("a mount").fact();
        assert_eq!((fact(20).read_only, fact(20).filesystem_read_only), (false, Some(false)));
        assert!(fact(21).idmapped && !fact(20).idmapped);
        assert_eq!((fact(22).read_only, fact(22).filesystem_read_only), (true, Some(false)));
        assert_eq!((fact(23).read_only, fact(23).filesystem_read_only), (true, Some(true)));
        assert!(table.by_id(22).expect("a mount").forbids_links());
        assert!(!table.by_id(23).expect("a mount").forbids_links());
    }

    #[test]
    fn a_circle_of_mounts_and_a_root_on_itself_end() {
        let table = MountTable::parse(
            b"1 1 0:1 / / rw - rootfs x rw\n2 3 0:1 / /a rw - tmpfs x rw\n\
              3 2 0:1 / /a rw - tmpfs x rw\n",
        );
        assert!(table.topmost_at(2, b"/a").is_some());
        assert_eq!(table.root().expect("a root").id, 1);
    }

    #[test]
    fn a_stack_at_the_root_is_climbed_to_its_top() {
        let table = MountTable::parse(
            b"1 1 0:1 / / rw - rootfs x rw\n2 1 0:2 / / rw - ext4 x rw\n\
              3 2 0:3 / / rw - overlay x rw\n",
        );
        assert_eq!(table.root().expect("a root").id, 3);
    }

    #[test]
    fn what_may_wait_for_others_is_not_local() {
        for foreign in ["nfs", "nfs4", "cifs", "fuse", "fuse.sshfs", "autofs", "9p", "ceph", ""] {
            assert!(!is_local(foreign.as_bytes()), "{foreign}");
        }
        for local in ["ext4", "tmpfs", "overlay", "xfs"] {
            assert!(is_local(local.as_bytes()), "{local}");
        }
        for magic in [0xef53, 0x0102_1994, 0x9660] {
            assert!(type_of_magic(magic).is_some_and(is_local));
        }
        assert_eq!(type_of_magic(0x6969), None, "NFS");
    }
}
