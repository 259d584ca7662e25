//! How often the kernel skipped a program because it ran already on that CPU.
//!
//! The kernel tells it in the descriptor's `fdinfo` since 5.12 (`bpf_prog_show_fdinfo`), and counts
//! programs of kprobes and perf tracepoints only since 6.7 (`trace_call_bpf`): a 0 before that says
//! nothing of those.

use std::{
    fs,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Reads the count of the program behind `fd`; `None` where the kernel keeps none.
pub fn read_recursion_misses(fd: BorrowedFd<'_>) -> Option<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    parse_misses(&info)
}

fn parse_misses(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_found_and_its_absence_is_unknown() {
        assert_eq!(parse_misses("prog_id:\t7\nrecursion_misses:\t12\n"), Some(12));
        assert_eq!(parse_misses("prog_id:\t7\n"), None);
    }
}
