//! Which processes hold the ends of a pipe.
//!
//! Owns that part of the pass over all processes (`sockets`). A pipe whose other end nobody holds is told by there being
//! none here, where nothing is unreadable or left out.

use std::collections::{HashMap, HashSet};

use super::super::{Host, HostError, SocketOwners, bracketed_inode};
use super::access;

/// Ends that one pass keeps.
const MOST_ENDS: u64 = 1 << 18;

/// The ends of the pipes that were asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PipeHolders {
    /// By inode of the pipe: every descriptor that leads to it, by ascending pid.
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
        let (mut found, mut count) = (PipeHolders::default(), 0);
        let owners = self.read_socket_owners_beside(sockets, |pid, fds, name, link| {
            let inode = bracketed_inode(link, "pipe").filter(|inode| pipes.contains(inode));
            let Some(inode) = inode else { return };
            count += 1;
            if count > MOST_ENDS {
                found.left_out += 1;
                return;
            }
            let access = name.to_str().ok().and_then(|name| access(fds, name));
            let (reads, writes) = access.unzip();
            found.ends.entry(inode).or_default().push(PipeEnd { pid, reads, writes });
        })?;
        found.unreadable = owners.unreadable;
        Ok((owners, found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
