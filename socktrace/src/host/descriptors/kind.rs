//! What a descriptor leads to, from the name that the kernel gives it.
//!
//! Owns the names: a path begins with `/`, everything else is written by the kernel
//! (`dynamic_dname()` and its users).

use super::super::bracketed_inode;
use super::SocketProtocol;

/// One descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Its number.
    pub fd: u32,
    /// What it leads to.
    pub kind: DescriptorKind,
}

/// What a descriptor leads to. Names and paths are the kernel's bytes; ` (deleted)` at their end is the
/// kernel's word, or part of the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DescriptorKind {
    /// A socket.
    Socket {
        /// Its inode.
        inode: u64,
        /// Its protocol; `None` where the kernel did not tell.
        protocol: Option<SocketProtocol>,
    },
    /// An end of a pipe, or both.
    Pipe {
        /// The inode of the pipe, of both its ends.
        inode: u64,
        /// Whether it is open for reading; `None` where that could not be read.
        reads: Option<bool>,
        /// Whether it is open for writing.
        writes: Option<bool>,
    },
    /// A FIFO with a name.
    Fifo {
        /// Its path.
        path: Vec<u8>,
    },
    /// eventfd(2)
    EventFd {
        /// Its counter; a reader blocks at 0.
        count: Option<u64>,
    },
    /// signalfd(2)
    SignalFd,
    /// epoll(7)
    Epoll,
    /// `timerfd_create(2)`
    TimerFd,
    /// inotify(7)
    Inotify,
    /// fanotify(7)
    Fanotify,
    /// `io_uring(7)`
    IoUring,
    /// Memory that may be shared: `memfd_create(2)`, `shm_open(3)`, shmget(2), `/dev/zero`'s.
    SharedMemory {
        /// Its name.
        name: Vec<u8>,
    },
    /// A message queue: `mq_overview(7)`.
    MessageQueue {
        /// Its name.
        name: Vec<u8>,
    },
    /// `pidfd_open(2)`
    PidFd,
    /// Something of bpf(2): a program, a map, a link.
    Bpf {
        /// Which.
        name: Vec<u8>,
    },
    /// A regular file.
    File {
        /// Its path.
        path: Vec<u8>,
    },
    /// A directory.
    Directory {
        /// Its path.
        path: Vec<u8>,
    },
    /// A character or block device.
    Device {
        /// Its path.
        path: Vec<u8>,
    },
    /// Something with a path that was not looked at: its filesystem is none of this host's own, or
    /// there were too many.
    Path {
        /// Its path.
        path: Vec<u8>,
    },
    /// Another thing of the kernel's without a file.
    Anonymous {
        /// Its name.
        name: Vec<u8>,
    },
    /// Something else, such as a namespace.
    Other {
        /// The link.
        link: Vec<u8>,
    },
    /// What it leads to could not be read.
    Unreadable,
}

/// A kind without its details, in the order of [`DescriptorKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the kind of that name")]
pub enum DescriptorClass {
    Socket,
    Pipe,
    Fifo,
    EventFd,
    SignalFd,
    Epoll,
    TimerFd,
    Inotify,
    Fanotify,
    IoUring,
    SharedMemory,
    MessageQueue,
    PidFd,
    Bpf,
    File,
    Directory,
    Device,
    Path,
    Anonymous,
    Other,
    Unreadable,
}

impl DescriptorClass {
    /// As reports print it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Pipe => "pipe",
            Self::Fifo => "FIFO",
            Self::EventFd => "eventfd",
            Self::SignalFd => "signalfd",
            Self::Epoll => "epoll",
            Self::TimerFd => "timerfd",
            Self::Inotify => "inotify",
            Self::Fanotify => "fanotify",
            Self::IoUring => "io_uring",
            Self::SharedMemory => "shared memory",
            Self::MessageQueue => "message queue",
            Self::PidFd => "pidfd",
            Self::Bpf => "bpf",
            Self::File => "file",
            Self::Directory => "directory",
            Self::Device => "device",
            Self::Path => "path only (O_PATH)",
            Self::Anonymous => "other anonymous inode",
            Self::Other => "other",
            Self::Unreadable => "unreadable",
        }
    }
}

impl DescriptorKind {
    /// As much as the link tells.
    pub(super) fn parse(link: &[u8]) -> Self {
        if let Some(inode) = bracketed_inode(link, "socket") {
            return Self::Socket { inode, protocol: None };
        }
        if let Some(inode) = bracketed_inode(link, "pipe") {
            return Self::Pipe { inode, reads: None, writes: None };
        }
        if let Some(name) = link.strip_prefix(b"anon_inode:") {
            return Self::anonymous(name);
        }
        // On a filesystem of their own since Linux 6.9.
        if bracketed_inode(link, "pidfd").is_some() {
            return Self::PidFd;
        }
        let shared = [b"/memfd:".as_slice(), b"/SYSV", b"/dev/shm/", b"/dev/zero (deleted)"];
        if shared.iter().any(|prefix| link.starts_with(prefix)) {
            return Self::SharedMemory { name: link.to_vec() };
        }
        if link.starts_with(b"/") {
            return Self::Path { path: link.to_vec() };
        }
        Self::Other { link: link.to_vec() }
    }

    /// Some names are in brackets, some are not.
    fn anonymous(name: &[u8]) -> Self {
        let bare = name.strip_prefix(b"[").and_then(|name| name.strip_suffix(b"]"));
        match bare.unwrap_or(name) {
            b"eventfd" => Self::EventFd { count: None },
            b"eventpoll" => Self::Epoll,
            b"signalfd" => Self::SignalFd,
            b"timerfd" => Self::TimerFd,
            b"inotify" => Self::Inotify,
            b"fanotify" => Self::Fanotify,
            b"io_uring" => Self::IoUring,
            b"pidfd" => Self::PidFd,
            b"btf" => Self::Bpf { name: b"btf".to_vec() },
            bpf if bpf.starts_with(b"bpf") => Self::Bpf { name: bpf.to_vec() },
            other => Self::Anonymous { name: other.to_vec() },
        }
    }

    /// Its class.
    pub fn class(&self) -> DescriptorClass {
        match self {
            Self::Socket { .. } => DescriptorClass::Socket,
            Self::Pipe { .. } => DescriptorClass::Pipe,
            Self::Fifo { .. } => DescriptorClass::Fifo,
            Self::EventFd { .. } => DescriptorClass::EventFd,
            Self::SignalFd => DescriptorClass::SignalFd,
            Self::Epoll => DescriptorClass::Epoll,
            Self::TimerFd => DescriptorClass::TimerFd,
            Self::Inotify => DescriptorClass::Inotify,
            Self::Fanotify => DescriptorClass::Fanotify,
            Self::IoUring => DescriptorClass::IoUring,
            Self::SharedMemory { .. } => DescriptorClass::SharedMemory,
            Self::MessageQueue { .. } => DescriptorClass::MessageQueue,
            Self::PidFd => DescriptorClass::PidFd,
            Self::Bpf { .. } => DescriptorClass::Bpf,
            Self::File { .. } => DescriptorClass::File,
            Self::Directory { .. } => DescriptorClass::Directory,
            Self::Device { .. } => DescriptorClass::Device,
            Self::Path { .. } => DescriptorClass::Path,
            Self::Anonymous { .. } => DescriptorClass::Anonymous,
            Self::Other { .. } => DescriptorClass::Other,
            Self::Unreadable => DescriptorClass::Unreadable,
        }
    }

    /// What it takes beside its own size.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Fifo { path }
            | Self::File { path }
            | Self::Directory { path }
            | Self::Device { path }
            | Self::Path { path } => path.len(),
            Self::SharedMemory { name }
            | Self::MessageQueue { name }
            | Self::Bpf { name }
            | Self::Anonymous { name } => name.len(),
            Self::Other { link } => link.len(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_tells_what_the_kernel_names() {
        let parse = |link: &[u8]| DescriptorKind::parse(link);
        assert_eq!(parse(b"socket:[7]"), DescriptorKind::Socket { inode: 7, protocol: None });
        let pipe = DescriptorKind::Pipe { inode: 8, reads: None, writes: None };
        assert_eq!(parse(b"pipe:[8]"), pipe);
        let classes: [(&[u8], DescriptorClass); 16] = [
            (b"anon_inode:[eventpoll]", DescriptorClass::Epoll),
            (b"anon_inode:[eventfd]", DescriptorClass::EventFd),
            (b"anon_inode:[signalfd]", DescriptorClass::SignalFd),
            (b"anon_inode:[timerfd]", DescriptorClass::TimerFd),
            (b"anon_inode:inotify", DescriptorClass::Inotify),
            (b"anon_inode:[fanotify]", DescriptorClass::Fanotify),
            (b"anon_inode:[io_uring]", DescriptorClass::IoUring),
            (b"anon_inode:[pidfd]", DescriptorClass::PidFd),
            (b"pidfd:[41]", DescriptorClass::PidFd),
            (b"anon_inode:bpf-map", DescriptorClass::Bpf),
            (b"anon_inode:bpf_link", DescriptorClass::Bpf),
            (b"anon_inode:[userfaultfd]", DescriptorClass::Anonymous),
            (b"/memfd:x (deleted)", DescriptorClass::SharedMemory),
            (b"/dev/shm/x", DescriptorClass::SharedMemory),
            (b"/socket:[7]", DescriptorClass::Path),
            (b"net:[4026531840]", DescriptorClass::Other),
        ];
        for (link, class) in classes {
            assert_eq!(parse(link).class(), class, "{}", link.escape_ascii());
        }
    }

    #[test]
    fn hostile_links_are_something_else() {
        for link in [b"".as_slice(), b"socket:[", b"pipe:[x]", b"anon_inode:", b"\xff", b"socket:"]
        {
            let class = DescriptorKind::parse(link).class();
            let vague = [DescriptorClass::Other, DescriptorClass::Anonymous];
            assert!(vague.contains(&class), "{}: {class:?}", link.escape_ascii());
        }
    }
}
