//! Who holds the other ends of the process's pipes.

use std::collections::{BTreeSet, HashMap};

use super::descriptors::Held;
use crate::{
    diagnose::process::{Pipe, PipeFacts, Process},
    host::{Host, PipeEnd, PipeHolders},
};

/// Processes at the other ends of which the name is read, for each pipe and side.
const NAMED: usize = 16;

/// `found` are the holders of all of them; `None` where processes could not be listed.
pub(super) fn read(host: &Host, pid: u32, held: &Held, found: Option<PipeHolders>) -> PipeFacts {
    if held.pipes.is_empty() {
        return PipeFacts { complete: true, ..PipeFacts::default() };
    }
    let complete = found.as_ref().is_some_and(|found| found.left_out == 0) && !held.more_pipes;
    let found = found.unwrap_or_default();
    let mut names = Names { host, known: HashMap::new() };
    let all = held.pipes.iter().map(|(inode, (reads, writes))| {
        let ends = found.ends.get(inode).map(Vec::as_slice).unwrap_or_default();
        let others: Vec<&PipeEnd> = ends.iter().filter(|end| end.pid != pid).collect();
        Pipe {
            inode: *inode,
            reads: *reads,
            writes: *writes,
            readers: names.of(&others, |end| end.reads),
            writers: names.of(&others, |end| end.writes),
            unclear: others.iter().any(|end| end.reads.is_none() || end.writes.is_none()),
        }
    });
    PipeFacts { all: all.collect(), unreadable: found.unreadable, complete }
}

/// Names of processes, each read once.
struct Names<'a> {
    host: &'a Host,
    known: HashMap<u32, Vec<u8>>,
}

impl Names<'_> {
    fn of(&mut self, ends: &[&PipeEnd], side: fn(&PipeEnd) -> Option<bool>) -> Vec<Process> {
        let is_on_side = |end: &&&PipeEnd| side(end) == Some(true);
        let pids: BTreeSet<u32> = ends.iter().filter(is_on_side).map(|end| end.pid).collect();
        let pids = pids.into_iter().take(NAMED);
        pids.map(|pid| Process { pid, comm: self.comm(pid) }).collect()
    }

    fn comm(&mut self, pid: u32) -> Vec<u8> {
        let host = self.host;
        self.known.entry(pid).or_insert_with(|| host.read_comm(pid).unwrap_or_default()).clone()
    }
}
