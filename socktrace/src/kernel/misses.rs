//! How often the kernel skipped a program: because it ran already on that CPU, or, of a kprobe, because another one did, or,
//! of a kretprobe, because all its return slots were taken.
//!
//! The kernel tells the first of a program since 5.12 (`bpf_prog_get_info_by_fd`), where it counts
//! programs of kprobes and perf tracepoints only since 6.7 (`trace_call_bpf`): a 0 before that says
//! nothing of those. The others it tells of a link, since 6.7, too (`bpf_perf_link_fill_kprobe`): that a link has
//! room for that number tells that both are counted.

use std::{
    fs,
    os::fd::{BorrowedFd, RawFd},
    path::Path,
};

use super::bpf;

const OWN: &str = "/proc/self/fdinfo";

/// What is known of a program that is loaded.
pub struct Skipped {
    id: u32,
    /// How often it was skipped because it ran; `None` where the kernel keeps no count.
    pub because_it_ran: Option<u64>,
}

impl Skipped {
    /// Asks for it; `None` where the kernel does not tell.
    pub fn read(program: BorrowedFd<'_>) -> Option<Self> {
        let (id, because_it_ran) = bpf::id_and_misses(program).ok()?;
        Some(Self { id, because_it_ran })
    }
}

/// The links of kprobes and perf tracepoints that this process has open: their descriptors, each with the id of its program.
/// Found once, as looking through all descriptors takes its time. None where the kernel does not count what it skips of those.
pub struct PerfLinks(Vec<(u32, RawFd)>);

impl PerfLinks {
    /// Finds them.
    pub fn find() -> Self {
        // What cannot be read is no link of this process any more.
        let infos = fs::read_dir(OWN).into_iter().flatten().flatten().map(|entry| entry.path());
        let link = |info: &Path| {
            let is_link = is_perf_link(&fs::read_to_string(info).ok()?);
            let fd = is_link.then(|| info.file_name()?.to_str()?.parse().ok())??;
            Some((bpf::perf_link(fd).ok()??.program, fd))
        };
        Self(infos.filter_map(|info| link(&info)).collect())
    }

    /// How often this kprobe, kretprobe or perf tracepoint was missed before its program was asked for; `None` where the
    /// kernel does not count that.
    pub fn misses_of(&self, program: &Skipped) -> Option<u64> {
        // Each has one target.
        let (_, fd) = self.0.iter().find(|(of, _)| *of == program.id)?;
        let link = bpf::perf_link(*fd).ok()??;
        (link.program == program.id).then_some(link.missed)
    }
}

fn is_perf_link(fdinfo: &str) -> bool {
    fdinfo.lines().any(|line| line == "link_type:\tperf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_perf_events_are_told_from_others_and_from_files() {
        let link = |kind: &str| format!("pos:\t0\nlink_type:\t{kind}\nlink_id:\t3\nprog_id:\t8\n");
        assert!(is_perf_link(&link("perf")));
        assert!(!is_perf_link(&link("tracing")));
        assert!(!is_perf_link("pos:\t0\nflags:\t0100002\nmnt_id:\t15\n"));
    }
}
