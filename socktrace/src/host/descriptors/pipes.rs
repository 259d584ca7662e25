//! Which processes hold the ends of a pipe.
//!
//! Owns that part of the pass over all processes (`sockets`). A pipe whose other end nobody holds is told by there being
//! none here, where nothing is unreadable or left out.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use super::super::patience::lock;
use super::super::{Host, HostError, SocketOwners, bracketed_inode};
use super::access;

/// Ends that each thread of one pass keeps.
const MOST_ENDS: u64 = 1 << 18;
/// Processes on each side of a pipe after which no more are looked for: which side an end is of takes a call
/// for each, and a pipe may be inherited by everybody.
const ENOUGH: u32 = 32;

/// The ends of the pipes that were asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PipeHolders {
    /// By inode of the pipe: the descriptors that lead to it, by ascending pid. Of a pipe with very many on either
    /// side, the first ones.
    pub ends: HashMap<u64, Vec<PipeEnd>>,
    /// Processes whose descriptors could not be read to the end, for another reason than their exit.
    /// Threads of the kernel do not count.
    pub unreadable: u32,
    /// Ends that are not in `ends`, because there were too many.
    pub left_out: u64,
}

/// A descriptor that leads to a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipeEnd {
    /// Who holds it.
    pub pid: u32,
    /// Whether it is open for reading; `None` where it was closed before that could be read.
    pub reads: Option<bool>,
    /// Whether it is open for writing.
    pub writes: Option<bool>,
}

impl Host {
    /// Finds who holds the `sockets` and the ends of the `pipes`, by their inodes, in one pass over all
    /// processes: of a host with very many, that is what takes the time.
    pub fn read_holders(
        &self,
        sockets: &HashSet<u64>,
        pipes: &HashSet<u64>,
    ) -> Result<(SocketOwners, PipeHolders), HostError> {
        let pipes = pipes.clone();
        let take = move |part: &Mutex<Part>, pid, fds: &OwnedFd, name: &CStr, link: &[u8]| {
            let inode = bracketed_inode(link, "pipe").filter(|inode| pipes.contains(inode));
            if let Some(inode) = inode
                && lock(part).wants(inode, pid)
            {
                // Not under the lock: nobody knows how long it takes.
                let access = name.to_str().ok().and_then(|name| access(fds, name));
                lock(part).add(inode, pid, access);
            }
        };
        let (owners, parts) = self.read_socket_owners_beside(sockets, take)?;
        let mut found = PipeHolders { unreadable: owners.unreadable, ..PipeHolders::default() };
        for part in parts {
            found.left_out += part.found.left_out;
            for (inode, ends) in part.found.ends {
                found.ends.entry(inode).or_default().extend(ends);
            }
        }
        Ok((owners, found))
    }
}

/// What one thread has found.
#[derive(Default)]
struct Part {
    found: PipeHolders,
    count: u64,
    sides: HashMap<u64, Sides>,
}

impl Part {
    /// Whether one more end of the pipe is to be looked at; it is left out where there are too many.
    fn wants(&mut self, inode: u64, pid: u32) -> bool {
        if self.sides.entry(inode).or_default().are_enough(pid) {
            return false;
        }
        self.count += 1;
        let is_room = self.count <= MOST_ENDS;
        self.found.left_out += u64::from(!is_room);
        is_room
    }

    fn add(&mut self, inode: u64, pid: u32, access: Option<(bool, bool)>) {
        let (reads, writes) = access.unzip();
        let end = PipeEnd { pid, reads, writes };
        self.sides.entry(inode).or_default().add(end);
        self.found.ends.entry(inode).or_default().push(end);
    }
}

/// How many processes are known on each side of a pipe.
#[derive(Default)]
struct Sides {
    /// How many, and which came last: they come by ascending pid.
    readers: (u32, Option<u32>),
    writers: (u32, Option<u32>),
}

impl Sides {
    /// Whether this process would add nothing. One that has been added is added to its end.
    fn are_enough(&self, pid: u32) -> bool {
        let is_enough = |(count, last): (u32, Option<u32>)| count >= ENOUGH && last != Some(pid);
        is_enough(self.readers) && is_enough(self.writers)
    }

    fn add(&mut self, end: PipeEnd) {
        let both = [(end.reads, &mut self.readers), (end.writes, &mut self.writers)];
        for (is_on, (count, last)) in both {
            if is_on == Some(true) && *last != Some(end.pid) {
                *count += 1;
                *last = Some(end.pid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_has_enough_ends_when_both_sides_have_and_not_before() {
        let end = |pid, reads| PipeEnd { pid, reads: Some(reads), writes: Some(!reads) };
        let mut sides = Sides::default();
        for pid in 0..ENOUGH * 2 {
            sides.add(end(pid, true));
            // Twice by the same process.
            sides.add(end(pid, true));
        }
        assert!(!sides.are_enough(1000), "nobody is known to write");
        for pid in 0..ENOUGH {
            assert!(!sides.are_enough(1000), "{pid} writers");
            sides.add(end(2000 + pid, false));
            sides.add(end(2000 + pid, false));
        }
        assert!(sides.are_enough(3000));
        assert!(!sides.are_enough(2000 + ENOUGH - 1), "it has not been read to its end");
    }

    #[test]
    fn the_ends_of_a_pipe_are_found_with_what_each_is_open_for() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let inode = rustix::fs::fstat(&reader).expect("fstat").st_ino;
        let ends = || {
            let wanted = HashSet::from([inode]);
            let (_, found) =
                Host::default().read_holders(&HashSet::new(), &wanted).expect("a pass");
            assert_eq!((found.left_out, found.ends.len()), (0, 1));
            let mut ends = found.ends[&inode].clone();
            ends.retain(|end| end.pid == std::process::id());
            ends.iter().map(|end| (end.reads, end.writes)).collect::<Vec<_>>()
        };
        let for_reading = (Some(true), Some(false));
        let mut both = ends();
        both.sort_unstable();
        assert_eq!(both, [(Some(false), Some(true)), for_reading]);
        drop(writer);
        assert_eq!(ends(), [for_reading]);
    }
}
