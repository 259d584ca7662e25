//! Which processes hold the ends of a pipe.
//!
//! Owns that one pass over all processes. A pipe whose other end nobody holds is told by there being
//! none here, where nothing is unreadable or left out.

use std::collections::{HashMap, HashSet};

use super::super::sockets::ProcessDir;
use super::super::{Host, HostError, bracketed_inode};
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
    /// Finds who holds the ends of the `wanted` pipes, by their inodes, in one pass over all
    /// processes.
    pub fn read_pipe_holders(&self, wanted: &HashSet<u64>) -> Result<PipeHolders, HostError> {
        let (mut found, mut count) = (PipeHolders::default(), 0);
        for pid in self.read_pids()? {
            let keep = |inode, end| {
                count += 1;
                if count > MOST_ENDS {
                    found.left_out += 1;
                } else {
                    found.ends.entry(inode).or_default().push(end);
                }
            };
            match self.read_pipe_ends(pid, wanted, keep) {
                Ok(()) => {}
                Err(error) if error.is_gone() => {}
                Err(_) if self.read_is_kernel_thread(pid).unwrap_or(false) => {}
                Err(_) => found.unreadable += 1,
            }
        }
        Ok(found)
    }

    fn read_pipe_ends(
        &self,
        pid: u32,
        wanted: &HashSet<u64>,
        mut keep: impl FnMut(u64, PipeEnd),
    ) -> Result<(), HostError> {
        let process = ProcessDir::open(self.proc_path(pid, ""))?;
        process.read_links(|fds, name, link| {
            let inode = bracketed_inode(link, "pipe").filter(|inode| wanted.contains(inode));
            if let Some(inode) = inode {
                let access = name.to_str().ok().and_then(|name| access(fds, name));
                let (reads, writes) = access.unzip();
                keep(inode, PipeEnd { pid, reads, writes });
            }
        })
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
            let found = Host::default().read_pipe_holders(&HashSet::from([inode])).expect("a pass");
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
