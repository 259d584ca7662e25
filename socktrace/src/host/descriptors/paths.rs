//! What is behind a path that a descriptor was opened by: a file, a directory, a device, a FIFO, a
//! message queue.
//!
//! Owns when it may be asked. The kernel asks the filesystem's server before it answers stat(2) of a
//! descriptor's link (`d_weak_revalidate`), and waits for one that is gone. So the mount that it was
//! opened in must be one of the process's, and of a filesystem without server.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, statat};

use super::super::mountinfo::parse_mounts;
use super::super::sockets::ProcessDir;
use super::super::{decimal, numbered_lines, words};
use super::{DescriptorKind, field, parse_mount_id};

/// Filesystems that answer by themselves.
const LOCAL: [&[u8]; 26] = [
    b"binfmt_misc",
    b"bpf",
    b"btrfs",
    b"cgroup",
    b"cgroup2",
    b"configfs",
    b"debugfs",
    b"devpts",
    b"devtmpfs",
    b"erofs",
    b"ext2",
    b"ext3",
    b"ext4",
    b"f2fs",
    b"hugetlbfs",
    b"mqueue",
    b"proc",
    b"pstore",
    b"ramfs",
    b"rootfs",
    b"squashfs",
    b"sysfs",
    b"tmpfs",
    b"tracefs",
    b"xfs",
    b"zfs",
];

/// Mounts of message queues that a queue is looked for in.
const MOST_QUEUES: usize = 16;

/// The mounts of a process.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// Ids of mounts whose filesystem has no server; an overlay's layers are of any kind, so it is
    /// none.
    local: HashSet<u64>,
    /// Where a filesystem of message queues is mounted, as the process sees it.
    queues: Vec<Vec<u8>>,
}

impl Mounts {
    pub(super) fn parse(mountinfo: &[u8]) -> Self {
        let mut mounts = Self::default();
        for (_, line) in numbered_lines(mountinfo) {
            let Some(id) = words(line).next().and_then(decimal) else { continue };
            let kind = words(line).skip_while(|word| *word != b"-").nth(1).unwrap_or_default();
            if LOCAL.contains(&kind) {
                mounts.local.insert(id);
            }
        }
        let queues = parse_mounts(mountinfo, b"mqueue").map(|mount| mount.point);
        mounts.queues = queues.take(MOST_QUEUES).collect();
        mounts
    }

    /// What descriptor `name` leads to, which its link calls `path`.
    pub(super) fn kind_of(
        &self,
        process: &ProcessDir,
        fds: &OwnedFd,
        name: &str,
        fdinfo: &[u8],
        path: Vec<u8>,
    ) -> DescriptorKind {
        let is_local = parse_mount_id(fdinfo).is_some_and(|id| self.local.contains(&id));
        if !is_local {
            return self.queue_or_path(process, fdinfo, path);
        }
        // No file is opened by this, nor the descriptor used.
        match statat(fds, name, AtFlags::empty()) {
            Ok(stat) => kind(FileType::from_raw_mode(stat.st_mode), path),
            Err(_) => DescriptorKind::Path { path },
        }
    }

    /// `mq_open(3)` opens in a mount of the kernel's own, which no process has: a queue is known by its
    /// name and inode where the process has these queues mounted.
    fn queue_or_path(&self, process: &ProcessDir, fdinfo: &[u8], path: Vec<u8>) -> DescriptorKind {
        let inode = field(fdinfo, b"ino:").and_then(decimal);
        let is_queue = |point: &Vec<u8>| {
            let below = [point.as_slice(), path.as_slice()].concat();
            let found = process.inode_in_root(Path::new(std::ffi::OsStr::from_bytes(&below)));
            found.is_some_and(|found| Some(found) == inode)
        };
        let one_name = path.iter().rposition(|byte| *byte == b'/') == Some(0);
        if one_name && inode.is_some() && self.queues.iter().any(is_queue) {
            return DescriptorKind::MessageQueue { name: path };
        }
        DescriptorKind::Path { path }
    }
}

fn kind(file: FileType, path: Vec<u8>) -> DescriptorKind {
    match file {
        FileType::RegularFile => DescriptorKind::File { path },
        FileType::Directory => DescriptorKind::Directory { path },
        FileType::CharacterDevice | FileType::BlockDevice => DescriptorKind::Device { path },
        FileType::Fifo => DescriptorKind::Fifo { path },
        _ => DescriptorKind::Path { path },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use std::os::unix::fs::symlink;

    const MOUNTINFO: &[u8] = b"24 1 0:5 / /proc rw shared:1 - proc proc rw\n\
        25 1 0:6 / / rw - ext4 /dev/vda rw\n\
        26 1 0:7 / /srv rw - nfs4 server:/ rw\n\
        27 1 0:8 / /dev/mqueue rw - mqueue mqueue rw\nx\n\n28\n";

    /// A process with descriptor 3, and what is made of it.
    fn kind_of(
        make: impl Fn(&Path),
        fdinfo: impl Fn(&Path) -> String,
        path: &[u8],
    ) -> DescriptorKind {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = root.path().join("proc/7");
        std::fs::create_dir_all(dir.join("root/dev/mqueue")).expect("a fake process");
        std::fs::create_dir_all(dir.join("fd")).expect("a fake process");
        symlink("/dev/null", dir.join("fd/3")).expect("a fake descriptor");
        make(&dir);
        let process = ProcessDir::open(Host::at(root.path()).proc_path(7, "")).expect("a process");
        let fds = process.open_below("fd", rustix::fs::OFlags::DIRECTORY).expect("descriptors");
        let info = fdinfo(&dir).into_bytes();
        Mounts::parse(MOUNTINFO).kind_of(&process, &fds, "3", &info, path.to_vec())
    }

    #[test]
    fn only_what_is_on_a_local_filesystem_is_looked_at() {
        use super::super::DescriptorClass::{Device, Path};
        let on = |mount: &'static str| {
            kind_of(|_| (), |_| format!("pos:\t0\nmnt_id:\t{mount}\n"), b"/a/b").class()
        };
        assert_eq!(
            [on("25"), on("26"), on("99"), on(""), on("28")],
            [Device, Path, Path, Path, Path]
        );
    }

    #[test]
    fn a_queue_is_known_by_its_name_and_inode() {
        use std::os::unix::fs::MetadataExt;
        let queue =
            |dir: &Path| std::fs::write(dir.join("root/dev/mqueue/q"), b"").expect("a queue");
        let inode = |dir: &Path| {
            let queue = std::fs::metadata(dir.join("root/dev/mqueue/q")).expect("a queue");
            format!("mnt_id:\t99\nino:\t{}\n", queue.ino())
        };
        let name = b"/q".to_vec();
        assert_eq!(kind_of(queue, inode, b"/q"), DescriptorKind::MessageQueue { name });
        let other = |dir: &Path| inode(dir).replace("ino:\t", "ino:\t1");
        let path = b"/q".to_vec();
        assert_eq!(kind_of(queue, other, b"/q"), DescriptorKind::Path { path });
    }
}
