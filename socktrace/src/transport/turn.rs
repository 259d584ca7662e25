//! Reading maps without being stopped in one.
//!
//! While a `bpf(2)` call is in a map, the kernel skips the programs of kprobes and perf tracepoints on that CPU
//! (`bpf_disable_instrumentation()`), because one of them might want the same lock. That is short; but where the kernel
//! preempts threads in its own code, others may have the CPU meanwhile, for milliseconds, and what they do is missed.
//! So the reader takes a turn of real-time priority, in which no ordinary thread gets ahead of it: as short as reading a
//! few entries.

use std::io;

/// Entries that are read in a turn.
const ENTRIES: u32 = 64;
/// The lowest of real time.
const PRIORITY: libc::c_int = 1;

/// A turn of the calling thread; it ends when this is dropped. It needs `CAP_SYS_NICE`, which is kept where that
/// matters only (`kernel::drop_all_but_reading`); without it, or where somebody has chosen another policy for the
/// thread (chrt(1)), nothing is changed.
pub(super) struct Turn {
    is_taken: bool,
    left: u32,
}

impl Turn {
    pub(super) fn begin() -> Self {
        let is_taken = policy() == libc::c_long::from(libc::SCHED_OTHER)
            && schedule(libc::SCHED_FIFO, PRIORITY).is_ok();
        Self { is_taken, left: ENTRIES }
    }

    /// One more entry is read. After a few, everybody else has a turn first.
    pub(super) fn one_more(&mut self) {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 && self.is_taken {
            self.end();
            *self = Self::begin();
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.is_taken) {
            // Whoever may take it may give it back.
            let _ = schedule(libc::SCHED_OTHER, 0);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.end();
    }
}

/// The policy of the calling thread, with its flags.
fn policy() -> libc::c_long {
    // SAFETY: takes no pointer.
    unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) }
}

/// Sets the policy of the calling thread. (The function of that name in the C library is about the process, or not there.)
fn schedule(policy: libc::c_int, sched_priority: libc::c_int) -> io::Result<()> {
    let param = libc::sched_param { sched_priority };
    // SAFETY: the kernel reads one `struct sched_param`, which lives through the call.
    let done = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const param) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_turn_ends_however_long_it_was_and_whatever_it_was_allowed() {
        let before = policy();
        for entries in [0, 1, ENTRIES - 1, ENTRIES, 3 * ENTRIES] {
            let mut turn = Turn::begin();
            for _ in 0..entries {
                turn.one_more();
                let fifo = policy() == libc::c_long::from(libc::SCHED_FIFO);
                assert_eq!(fifo, turn.is_taken, "after {entries} entries");
            }
            drop(turn);
            assert_eq!(policy(), before, "after {entries} entries");
        }
    }

    #[test]
    fn a_policy_that_somebody_has_chosen_stays() {
        let chosen = thread::spawn(|| {
            schedule(libc::SCHED_BATCH, 0).expect("anybody may choose it");
            let turn = Turn::begin();
            let is_taken = turn.is_taken;
            drop(turn);
            (is_taken, policy())
        });
        assert_eq!(chosen.join().expect("an end"), (false, libc::SCHED_BATCH.into()));
    }
}
