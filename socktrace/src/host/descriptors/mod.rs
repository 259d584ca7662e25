//! The descriptors of one process, each by what it leads to.
//!
//! Owns `/proc/PID/fd` and `/proc/PID/fdinfo`. Does not own what a socket's or a pipe's other end is
//! (`sock_diag`, `pipes`).
//!
//! What a descriptor leads to is never opened: a device or a FIFO would notice, and a file of a
//! server that is gone would block. It is known by its link, which the kernel writes, and of a path
//! only where its filesystem is a local one (`paths`).

mod kind;
mod paths;
mod pipes;
mod protocol;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, OFlags, RawDir, readlinkat_raw, statat};

use self::paths::Mounts;
use super::process::parse_pid;
use super::sockets::ProcessDir;
use super::{Host, HostError, decimal};

pub use kind::{Descriptor, DescriptorClass, DescriptorKind};
pub use pipes::{PipeEnd, PipeHolders};
pub use protocol::SocketProtocol;

/// Memory that the kept descriptors may take: 300,000 sockets, or 4,000 of the longest paths.
const MOST_BYTES: usize = 16 << 20;
/// Descriptors of which more than the link is read: that takes a few calls each.
const MOST_DETAILED: usize = 16_384;

/// The descriptors of a process.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Descriptors {
    /// Each descriptor, ascending, as far as there was room.
    pub kept: Vec<Descriptor>,
    /// How many there are of each class, those that were left out included.
    pub counts: BTreeMap<DescriptorClass, u64>,
    /// Descriptors that are not in `kept`, because there were too many.
    pub left_out: u64,
}

impl Descriptors {
    /// How many there are.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    fn add(&mut self, descriptor: Descriptor, bytes: &mut usize) {
        *self.counts.entry(descriptor.kind.class()).or_default() += 1;
        *bytes += size_of::<Descriptor>() + descriptor.kind.heap_bytes();
        if *bytes > MOST_BYTES {
            self.left_out += 1;
        } else {
            self.kept.push(descriptor);
        }
    }
}

impl Host {
    /// What every descriptor of a process leads to. For another user's process it takes
    /// `CAP_SYS_PTRACE`. Each one as it is when its turn comes: it is no snapshot.
    pub fn read_descriptors(&self, pid: u32) -> Result<Descriptors, HostError> {
        self.read_of(pid, move |host| host.descriptors_of(pid))
    }

    /// The same of a process that may hold back the answer (`patience`).
    fn descriptors_of(&self, pid: u32) -> Result<Descriptors, HostError> {
        let process = ProcessDir::open(self.proc_path(pid, ""))?;
        let mut reader = Reader::new(&process);
        let mut entries_buffer = [MaybeUninit::uninit(); 4096];
        // The kernel gives a path of up to a page (`do_proc_readlink()`).
        let mut link_buffer = vec![MaybeUninit::uninit(); 4096];
        let (mut found, mut bytes) = (Descriptors::default(), 0);
        let fds = process.open_below("fd", OFlags::DIRECTORY)?;
        let mut entries = RawDir::new(&fds, &mut entries_buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(process.failed("fd"))?;
            let Some(fd) = parse_pid(entry.file_name().to_bytes()) else { continue };
            let kind = match readlinkat_raw(&fds, entry.file_name(), &mut link_buffer[..]) {
                Ok((link, _)) => reader.kind(&fds, fd, link),
                // Closed meanwhile.
                Err(rustix::io::Errno::NOENT) => continue,
                Err(_) => DescriptorKind::Unreadable,
            };
            found.add(Descriptor { fd, kind }, &mut bytes);
        }
        found.kept.sort_unstable_by_key(|descriptor| descriptor.fd);
        Ok(found)
    }
}

/// Reads more than the link of so many descriptors.
struct Reader<'a> {
    process: &'a ProcessDir,
    mounts: Mounts,
    detailed: usize,
}

impl<'a> Reader<'a> {
    fn new(process: &'a ProcessDir) -> Self {
        // Without it no path is looked at: it is then a path of an unknown kind.
        let mounts = process.read("mountinfo").map(|bytes| Mounts::parse(&bytes));
        Self { process, mounts: mounts.unwrap_or_default(), detailed: 0 }
    }

    fn kind(&mut self, fds: &OwnedFd, fd: u32, link: &[u8]) -> DescriptorKind {
        let kind = DescriptorKind::parse(link);
        if self.detailed >= MOST_DETAILED {
            return kind;
        }
        self.detailed += 1;
        let name = fd.to_string();
        match kind {
            DescriptorKind::Socket { inode, .. } => {
                let protocol = SocketProtocol::read(&self.process.path().join("fd").join(&name));
                DescriptorKind::Socket { inode, protocol }
            }
            DescriptorKind::Pipe { inode, .. } => {
                let (reads, writes) = access(fds, &name).unzip();
                DescriptorKind::Pipe { inode, reads, writes }
            }
            DescriptorKind::EventFd { .. } => {
                let info = self.fdinfo(&name);
                DescriptorKind::EventFd { count: info.as_deref().and_then(parse_event_count) }
            }
            DescriptorKind::Path { path } => {
                let info = self.fdinfo(&name).unwrap_or_default();
                self.mounts.kind_of(self.process, fds, &name, &info, path)
            }
            other => other,
        }
    }

    /// The start of its `fdinfo`: the fields that are read here are among the first. Never of an epoll: reading that waits
    /// for a lock (`ep_show_fdinfo()`) which an `epoll_wait()` holds that writes to memory of a stalled FUSE daemon, and
    /// no signal ends it.
    fn fdinfo(&self, name: &str) -> Option<Vec<u8>> {
        let file = self.process.open_below(&format!("fdinfo/{name}"), OFlags::empty()).ok()?;
        let mut bytes = Vec::new();
        File::from(file).take(4096).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// Whether a descriptor is open for reading and for writing: the link's own permissions
/// (`tid_fd_update_inode()`).
fn access(fds: &OwnedFd, name: &str) -> Option<(bool, bool)> {
    let stat = statat(fds, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some((stat.st_mode & libc::S_IRUSR != 0, stat.st_mode & libc::S_IWUSR != 0))
}

/// `eventfd-count:` in hexadecimal (`eventfd_show_fdinfo()`).
fn parse_event_count(fdinfo: &[u8]) -> Option<u64> {
    let count = field(fdinfo, b"eventfd-count:")?;
    u64::from_str_radix(str::from_utf8(count).ok()?, 16).ok()
}

fn field<'a>(fdinfo: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = fdinfo.split(|&byte| byte == b'\n');
    lines.find_map(|line| line.strip_prefix(name)).map(<[u8]>::trim_ascii)
}

/// The id of the mount that the descriptor's file was opened in.
fn parse_mount_id(fdinfo: &[u8]) -> Option<u64> {
    field(fdinfo, b"mnt_id:").and_then(decimal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::epoll::{Epoll, EpollCreateFlags};
    use nix::sys::eventfd::EventFd;
    use rustix::fs::{CWD, MemfdFlags, Mode, memfd_create, open};
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::net::UnixStream;

    fn kind_of(found: &Descriptors, fd: &impl AsFd) -> DescriptorKind {
        let number = u32::try_from(fd.as_fd().as_raw_fd()).expect("a descriptor");
        let kept = found.kept.iter().find(|descriptor| descriptor.fd == number);
        kept.expect("the descriptor").kind.clone()
    }

    #[test]
    fn own_descriptors_are_known_by_kind_without_being_opened() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
        let at = |path: &std::path::Path| open(path, OFlags::RDWR, Mode::empty()).expect("a file");
        let file = dir.path().join("file");
        std::fs::write(&file, b"").expect("a file");
        let directory = open(dir.path(), OFlags::RDONLY, Mode::empty()).expect("a directory");
        let (device, fifo_fd, file_fd) = (at("/dev/null".as_ref()), at(&fifo), at(&file));
        let (near, _far) = UnixStream::pair().expect("a pair");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let events = EventFd::from_value(27).expect("an eventfd");
        let memory = memfd_create("a b", MemfdFlags::empty()).expect("a memfd");
        let watch = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an epoll");

        let found = Host::default().read_descriptors(std::process::id()).expect("descriptors");
        let inode = |fd: &dyn AsFdDyn| rustix::fs::fstat(fd.fd()).expect("fstat").st_ino;
        let path = |path: &std::path::Path| path.as_os_str().as_encoded_bytes().to_vec();
        let (socket, pipe) = (inode(&near), inode(&reader));
        let protocol = Some(SocketProtocol::Unix);
        let (yes, no) = (Some(true), Some(false));
        let expected = [
            (kind_of(&found, &near), DescriptorKind::Socket { inode: socket, protocol }),
            (
                kind_of(&found, &reader),
                DescriptorKind::Pipe { inode: pipe, reads: yes, writes: no },
            ),
            (
                kind_of(&found, &writer),
                DescriptorKind::Pipe { inode: pipe, reads: no, writes: yes },
            ),
            (kind_of(&found, &events), DescriptorKind::EventFd { count: Some(27) }),
            (kind_of(&found, &watch.0), DescriptorKind::Epoll),
            (
                kind_of(&found, &memory),
                DescriptorKind::SharedMemory { name: b"/memfd:a b (deleted)".to_vec() },
            ),
            (kind_of(&found, &fifo_fd), DescriptorKind::Fifo { path: path(&fifo) }),
            (kind_of(&found, &file_fd), DescriptorKind::File { path: path(&file) }),
            (kind_of(&found, &directory), DescriptorKind::Directory { path: path(dir.path()) }),
            (kind_of(&found, &device), DescriptorKind::Device { path: b"/dev/null".to_vec() }),
        ];
        for (found, expected) in expected {
            assert_eq!(found, expected);
        }
        assert_eq!(found.left_out, 0);
        assert_eq!(found.total(), found.kept.len() as u64);
    }

    /// Anything that has a descriptor.
    trait AsFdDyn {
        fn fd(&self) -> std::os::fd::BorrowedFd<'_>;
    }

    impl<T: AsFd> AsFdDyn for T {
        fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
            self.as_fd()
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_by_class() {
        let (mut found, mut bytes) = (Descriptors::default(), MOST_BYTES - 150);
        for fd in 0..5 {
            let kind = DescriptorKind::Socket { inode: 7, protocol: None };
            found.add(Descriptor { fd, kind }, &mut bytes);
        }
        assert!(found.left_out > 0 && !found.kept.is_empty());
        assert_eq!(found.counts, BTreeMap::from([(DescriptorClass::Socket, 5)]));
        assert_eq!(found.kept.len() as u64 + found.left_out, 5);
    }

    #[test]
    fn an_event_count_is_hexadecimal() {
        assert_eq!(parse_event_count(b"pos:\t0\neventfd-count:         1b\n"), Some(27));
        assert_eq!(parse_event_count(b"eventfd-count: x\n"), None);
        assert_eq!(parse_mount_id(b"pos:\t0\nmnt_id:\t16\n"), Some(16));
    }

    #[test]
    fn a_process_that_is_gone_is_told_so() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let error = Host::at(root.path()).read_descriptors(7).expect_err("no process");
        assert!(error.is_gone());
    }
}
