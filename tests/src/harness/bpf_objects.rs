//! BPF objects that exist in the kernel, by id: what a killed tracer must not leave behind.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;

/// The kinds of objects: bpf(2) command that walks their ids, and their name in fdinfo.
const KINDS: [(&str, i32); 3] = [
    ("prog_id", 11), // BPF_PROG_GET_NEXT_ID
    ("map_id", 12),  // BPF_MAP_GET_NEXT_ID
    ("link_id", 31), // BPF_LINK_GET_NEXT_ID
];

/// Ids of programs, maps and links, each with its kind.
pub type Objects = BTreeSet<(&'static str, u32)>;

/// The part of `union bpf_attr` that the walking commands use.
#[repr(C)]
#[derive(Default)]
struct Walk {
    start_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Every object in the kernel.
///
/// # Errors
/// When the kernel does not tell (not root).
pub fn all() -> Result<Objects> {
    let mut found = Objects::new();
    for (kind, command) in KINDS {
        let mut id = 0;
        while let Some(next) = next_id(command, id).with_context(|| format!("walking {kind}"))? {
            found.insert((kind, next));
            id = next;
        }
    }
    Ok(found)
}

/// The objects that a process holds by descriptors.
///
/// # Errors
/// When the process is gone.
pub fn held_by(pid: u32) -> Result<Objects> {
    let dir = format!("/proc/{pid}/fdinfo");
    let mut found = Objects::new();
    for entry in std::fs::read_dir(&dir).with_context(|| dir.clone())? {
        // A descriptor may be closed between the listing and the reading.
        let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        found.extend(parse_fdinfo(&text));
    }
    Ok(found)
}

/// How many entries a hash map with keys of eight bytes has, of those that a process holds.
///
/// # Errors
/// When the process holds no map of this name, or the kernel does not show it.
pub fn entries(pid: u32, name: &str) -> Result<usize> {
    let kept = name.get(..NAME_LENGTH).unwrap_or(name);
    for (_, id) in held_by(pid)?.into_iter().filter(|(kind, _)| *kind == "map_id") {
        let map = open_map(id)?;
        if map_name(&map)? == kept {
            return count_entries(&map);
        }
    }
    bail!("process {pid} has no map {name}")
}

/// A name of an object is cut there.
const NAME_LENGTH: usize = 15;

fn bpf<T>(command: i32, attr: &mut T) -> nix::Result<i64> {
    // SAFETY: `attr` lives through the call and has its size, and what it points to lives in the callers.
    Errno::result(unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) })
}

fn open_map(id: u32) -> Result<OwnedFd> {
    // BPF_MAP_GET_FD_BY_ID
    let fd = bpf(14, &mut Walk { start_id: id, ..Walk::default() }).context("a map by its id")?;
    // SAFETY: the kernel has just made it, for this process alone.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

/// `struct bpf_map_info`, as far as it is needed.
#[repr(C)]
#[derive(Default)]
struct Info {
    numbers: [u32; 6],
    name: [u8; 16],
}

fn map_name(map: &OwnedFd) -> Result<String> {
    #[repr(C)]
    struct Ask {
        fd: i32,
        length: u32,
        info: u64,
    }
    let mut info = Info::default();
    let length = u32::try_from(size_of::<Info>())?;
    let at = (&raw mut info).expose_provenance() as u64;
    // BPF_OBJ_GET_INFO_BY_FD
    bpf(15, &mut Ask { fd: map.as_raw_fd(), length, info: at }).context("what map this is")?;
    Ok(String::from_utf8_lossy(&info.name).trim_end_matches('\0').to_owned())
}

fn count_entries(map: &OwnedFd) -> Result<usize> {
    #[repr(C)]
    struct Next {
        map: i32,
        pad: u32,
        key: u64,
        following: u64,
    }
    let (mut key, mut next) = (0u64, 0u64);
    let mut count = 0;
    loop {
        let from = if count == 0 { 0 } else { (&raw mut key).expose_provenance() as u64 };
        let to = (&raw mut next).expose_provenance() as u64;
        // BPF_MAP_GET_NEXT_KEY
        match bpf(4, &mut Next { map: map.as_raw_fd(), pad: 0, key: from, following: to }) {
            Ok(_) => count += 1,
            Err(Errno::ENOENT) => return Ok(count),
            Err(errno) => return Err(errno).context("the keys of a map"),
        }
        key = next;
    }
}

fn parse_fdinfo(text: &str) -> Option<(&'static str, u32)> {
    // A link's fdinfo names its program, too: the link is what the descriptor is.
    let value = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(':'));
        line.and_then(|value| value.trim().parse().ok())
    };
    KINDS.iter().rev().find_map(|(kind, _)| Some((*kind, value(kind)?)))
}

fn next_id(command: i32, start_id: u32) -> Result<Option<u32>> {
    let mut attr = Walk { start_id, ..Walk::default() };
    let size = size_of::<Walk>();
    // SAFETY: `attr` lives through the call and is `size` bytes, as these commands expect.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size) };
    match Errno::result(result) {
        Ok(_) => Ok(Some(attr.next_id)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno).context("bpf"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_of_a_link_counts_as_a_link() {
        let link = "pos:\t0\nlink_type:\ttracing\nlink_id:\t7\nprog_tag:\tab\nprog_id:\t5\n";
        assert_eq!(parse_fdinfo(link), Some(("link_id", 7)));
        assert_eq!(parse_fdinfo("map_type:\t1\nmap_id:\t9\n"), Some(("map_id", 9)));
        assert_eq!(parse_fdinfo("pos:\t0\n"), None);
    }
}
