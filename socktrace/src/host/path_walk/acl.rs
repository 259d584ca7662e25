//! POSIX access ACLs.
//!
//! Owns the bytes of `system.posix_acl_access` (`include/uapi/linux/posix_acl_xattr.h`; little
//! endian) and how they are read of an `O_PATH` handle. Does not decide by them (`diagnose`).

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::getxattr;
use rustix::io::Errno;

/// `POSIX_ACL_XATTR_VERSION`
const VERSION: u32 = 2;
/// Bytes of one entry.
const ENTRY: usize = 8;
/// Most entries that are kept: ext4 has room for about 500, the attribute itself for 8191.
const MOST_ENTRIES: usize = 1024;

/// What is known of an inode's ACL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AclFact {
    /// It has none: the mode alone decides.
    Absent,
    /// Its filesystem keeps none: the mode alone decides, and no ACL can be set.
    Unsupported,
    /// It has this one.
    Present(Acl),
    /// It could not be read, or is longer than is kept.
    Unknown,
}

/// An access ACL, in the order in which the kernel asks its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    /// What it grants.
    pub entries: Vec<AclEntry>,
}

/// Whom it grants what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AclEntry {
    /// Whom.
    pub tag: AclTag,
    /// Read (4), write (2), execute (1).
    pub bits: u16,
}

/// The classes of an ACL. Ids are those of the reader's user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AclTag {
    /// The owner.
    Owner,
    /// A user by id.
    User(u32),
    /// The owning group.
    OwningGroup,
    /// A group by id.
    Group(u32),
    /// The most that users by id and all groups get.
    Mask,
    /// Everybody else.
    Other,
}

/// The ACL of an inode, by its handle. getxattr(2) follows the link of the descriptor to the inode
/// itself, without opening it, and asks for no permission (`xattr_permission()`).
pub(super) fn read_acl(handle: BorrowedFd<'_>) -> AclFact {
    let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let mut bytes = [0; 4 + ENTRY * MOST_ENTRIES];
    match getxattr(&*link, c"system.posix_acl_access", &mut bytes) {
        Ok(length) => {
            bytes.get(..length).and_then(parse_acl).map_or(AclFact::Unknown, AclFact::Present)
        }
        Err(Errno::NODATA) => AclFact::Absent,
        Err(Errno::OPNOTSUPP) => AclFact::Unsupported,
        Err(_) => AclFact::Unknown,
    }
}

/// `struct posix_acl_xattr_header` and its entries: tag, permissions, id.
fn parse_acl(bytes: &[u8]) -> Option<Acl> {
    let (version, entries) = bytes.split_first_chunk::<4>()?;
    let (entries, rest) = entries.as_chunks::<ENTRY>();
    let whole = u32::from_le_bytes(*version) == VERSION && rest.is_empty();
    (whole && entries.len() <= MOST_ENTRIES)
        .then(|| entries.iter().copied().map(parse_entry).collect::<Option<Vec<_>>>())
        .flatten()
        .map(|entries| Acl { entries })
}

fn parse_entry([t0, t1, p0, p1, i0, i1, i2, i3]: [u8; ENTRY]) -> Option<AclEntry> {
    let id = u32::from_le_bytes([i0, i1, i2, i3]);
    let tag = match u16::from_le_bytes([t0, t1]) {
        0x01 => AclTag::Owner,
        0x02 => AclTag::User(id),
        0x04 => AclTag::OwningGroup,
        0x08 => AclTag::Group(id),
        0x10 => AclTag::Mask,
        0x20 => AclTag::Other,
        _ => return None,
    };
    let bits = u16::from_le_bytes([p0, p1]);
    (bits <= 7).then_some(AclEntry { tag, bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Acl {
        /// The bytes that setxattr(2) takes.
        pub(crate) fn to_bytes(&self) -> Vec<u8> {
            let mut bytes = VERSION.to_le_bytes().to_vec();
            for entry in &self.entries {
                let (tag, id): (u16, _) = match entry.tag {
                    AclTag::Owner => (0x01, u32::MAX),
                    AclTag::User(id) => (0x02, id),
                    AclTag::OwningGroup => (0x04, u32::MAX),
                    AclTag::Group(id) => (0x08, id),
                    AclTag::Mask => (0x10, u32::MAX),
                    AclTag::Other => (0x20, u32::MAX),
                };
                bytes.extend(tag.to_le_bytes());
                bytes.extend(entry.bits.to_le_bytes());
                bytes.extend(id.to_le_bytes());
            }
            bytes
        }
    }

    fn acl() -> Acl {
        let entry = |tag, bits| AclEntry { tag, bits };
        let entries = vec![
            entry(AclTag::Owner, 6),
            entry(AclTag::User(1234), 7),
            entry(AclTag::OwningGroup, 0),
            entry(AclTag::Group(77), 2),
            entry(AclTag::Mask, 3),
            entry(AclTag::Other, 1),
        ];
        Acl { entries }
    }

    #[test]
    fn every_entry_is_read_back() {
        assert_eq!(parse_acl(&acl().to_bytes()), Some(acl()));
    }

    #[test]
    fn bytes_that_are_no_acl_are_none() {
        let good = acl().to_bytes();
        for length in 0..good.len() {
            let cut = parse_acl(&good[..length]);
            assert_eq!(cut.is_some(), length >= 4 && (length - 4) % ENTRY == 0, "{length}");
        }
        for (at, value) in [(0, 1), (4, 3), (5, 1), (6, 8), (7, 1)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(parse_acl(&bad), None, "{at}");
        }
        let mut long = good.clone();
        long.extend(good[4..12].repeat(MOST_ENTRIES));
        assert_eq!(parse_acl(&long), None);
    }

    #[test]
    fn sockets_directories_and_links_are_read_through_their_handles() {
        use rustix::fs::{Mode, OFlags, XattrFlags, open, setxattr};
        use std::os::fd::AsFd;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let socket = dir.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        std::os::unix::fs::symlink("nowhere", dir.path().join("l")).expect("a symlink");
        let handle = |path: &std::path::Path| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            open(path, flags, Mode::empty()).expect("a handle")
        };
        for path in [dir.path(), &socket] {
            assert_eq!(read_acl(handle(path).as_fd()), AclFact::Absent);
            setxattr(path, "system.posix_acl_access", &acl().to_bytes(), XattrFlags::empty())
                .expect("a temporary directory on a filesystem with ACLs");
            assert_eq!(read_acl(handle(path).as_fd()), AclFact::Present(acl()));
        }
        let link = read_acl(handle(&dir.path().join("l")).as_fd());
        assert!(matches!(link, AclFact::Absent | AclFact::Unsupported), "{link:?}");
    }
}
