//! What a process does instead of accepting, in words. Pure.

use std::collections::BTreeMap;

use super::shortage::Shortage;
use crate::{event::Hold, host::Thread};

/// Calls that accept.
const ACCEPTS: [i64; 2] = [libc::SYS_accept, libc::SYS_accept4];
/// Calls that may wait for a connection among other things; the last are those of `io_uring(7)`.
const WAITS: [i64; 8] = [
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_select,
    libc::SYS_pselect6,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_io_uring_enter,
];

/// What was read of a process that holds a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Its threads, or some of them.
    pub threads: Vec<Thread>,
    /// How many there are.
    pub thread_count: usize,
    /// Whether its cgroup is frozen.
    pub frozen: bool,
    /// Whether its cgroup's CPU quota held it up since the look before; `None` where that is not
    /// known.
    pub throttled: Option<bool>,
    /// How often it was held up so far.
    pub throttled_times: Option<u64>,
    /// Open descriptors and the limit.
    pub descriptors: Option<(u64, u64)>,
    /// Whether it is short of memory.
    pub shortage: Option<Shortage>,
}

impl Activity {
    /// What holds it up; `None` where no thread was seen.
    pub fn hold(&self) -> Option<Hold> {
        let all_in = |states: &[u8]| self.threads.iter().all(|it| states.contains(&it.state));
        if self.frozen {
            return Some(Hold::Frozen);
        }
        if self.threads.is_empty() {
            return None;
        }
        if all_in(b"Tt") {
            return Some(Hold::Stopped);
        }
        if self.descriptors.is_some_and(|(open, limit)| open >= limit) {
            return Some(Hold::NoDescriptors);
        }
        if self.throttled == Some(true) {
            return Some(Hold::Throttled);
        }
        if self.shortage.is_some() {
            return Some(Hold::ShortOfMemory);
        }
        let runs = self.threads.iter().any(|thread| thread.state == b'R');
        Some(if runs { Hold::Running } else { Hold::Asleep })
    }

    /// As reports print it.
    pub fn describe(&self) -> Option<String> {
        Some(match self.hold()? {
            Hold::Frozen => "frozen by its cgroup".into(),
            Hold::Stopped if self.threads.iter().any(|thread| thread.state == b't') => {
                "stopped by a debugger".into()
            }
            Hold::Stopped => "stopped (SIGSTOP)".into(),
            Hold::NoDescriptors => {
                let (open, limit) = self.descriptors.unwrap_or_default();
                format!("out of descriptors ({open} of {limit})")
            }
            Hold::Throttled => "throttled by its cgroup's CPU quota".into(),
            Hold::ShortOfMemory => self.shortage?.to_string(),
            Hold::Running => self.running(),
            Hold::Asleep => self.asleep(),
        })
    }

    /// Whether a thread waits in `accept()`; `None` where one may wait for connections in another way, or
    /// not all are known.
    pub fn accepts(&self) -> Option<bool> {
        let is_in = |calls: &[i64], thread: &Thread| {
            thread.syscall.is_some_and(|call| calls.contains(&i64::from(call)))
        };
        if self.threads.iter().any(|thread| is_in(&ACCEPTS, thread)) {
            return Some(true);
        }
        let all = !self.threads.is_empty() && self.threads.len() == self.thread_count;
        let is_elsewhere = |thread: &Thread| {
            thread.state != b'R' && thread.syscall.is_some() && !is_in(&WAITS, thread)
        };
        (all && self.threads.iter().all(is_elsewhere)).then_some(false)
    }

    fn running(&self) -> String {
        let running = self.threads.iter().filter(|thread| thread.state == b'R').count();
        match self.thread_count {
            1 => "on CPU".into(),
            count => format!("on CPU ({running} of {count} threads)"),
        }
    }

    /// Where its threads sleep, most of them first.
    fn asleep(&self) -> String {
        const SHOWN: usize = 3;
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for thread in &self.threads {
            *places.entry(place(thread)).or_default() += 1;
        }
        let mut places: Vec<(String, usize)> = places.into_iter().collect();
        places.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let named = places.iter().take(SHOWN).map(|(place, count)| {
            if self.thread_count > 1 {
                format!("{place} ({count} of {} threads)", self.thread_count)
            } else {
                place.clone()
            }
        });
        named.collect::<Vec<_>>().join(", ")
    }
}

/// `asleep in nanosleep (hrtimer_nanosleep)`, as far as the kernel tells.
fn place(thread: &Thread) -> String {
    let kind = if thread.state == b'D' { "in uninterruptible sleep" } else { "asleep" };
    let call = thread.syscall.and_then(syscall_name);
    match (call, &thread.function) {
        (Some(call), Some(function)) => format!("{kind} in {call} ({function})"),
        (Some(call), None) => format!("{kind} in {call}"),
        (None, Some(function)) => format!("{kind} in {function}"),
        (None, None) => kind.into(),
    }
}

fn syscall_name(number: u32) -> Option<&'static str> {
    Some(syscalls::Sysno::new(usize::try_from(number).ok()?)?.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(state: u8, syscall: Option<u32>, function: Option<&str>) -> Thread {
        Thread { state, function: function.map(str::to_owned), syscall }
    }

    fn with(threads: Vec<Thread>) -> Activity {
        Activity { thread_count: threads.len(), threads, ..Activity::default() }
    }

    fn words(activity: &Activity) -> String {
        activity.describe().unwrap_or_default()
    }

    #[test]
    fn a_stopped_process_is_stopped_whatever_else_it_lacks() {
        let stopped = with(vec![thread(b'T', None, None); 2]);
        assert_eq!(words(&stopped), "stopped (SIGSTOP)");
        assert_eq!(words(&with(vec![thread(b't', None, None)])), "stopped by a debugger");
        let frozen = Activity { frozen: true, ..stopped };
        assert_eq!(words(&frozen), "frozen by its cgroup");
    }

    #[test]
    fn descriptors_and_quota_explain_more_than_sleep() {
        let asleep = with(vec![thread(b'S', None, None)]);
        let full =
            Activity { descriptors: Some((64, 64)), throttled: Some(true), ..asleep.clone() };
        assert_eq!(words(&full), "out of descriptors (64 of 64)");
        let held = Activity { throttled: Some(true), descriptors: Some((9, 64)), ..asleep };
        assert_eq!(words(&held), "throttled by its cgroup's CPU quota");
        let short = Activity { throttled: None, shortage: Some(Shortage::Tcp), ..held };
        assert!(words(&short).starts_with("short of memory (TCP sockets hold"));
        assert_eq!(short.hold(), Some(Hold::ShortOfMemory));
    }

    #[test]
    fn sleep_is_told_with_call_and_function_as_far_as_they_are_known() {
        let sleep = |function| with(vec![thread(b'S', Some(35), function)]);
        assert_eq!(
            words(&sleep(Some("hrtimer_nanosleep"))),
            "asleep in nanosleep (hrtimer_nanosleep)"
        );
        assert_eq!(words(&sleep(None)), "asleep in nanosleep");
        assert_eq!(
            words(&with(vec![thread(b'D', None, Some("io_schedule"))])),
            "in uninterruptible sleep in io_schedule"
        );
        assert_eq!(words(&with(vec![thread(b'S', None, None)])), "asleep");
    }

    #[test]
    fn threads_are_counted() {
        let spinning = with(vec![thread(b'R', None, None), thread(b'S', None, None)]);
        assert_eq!(words(&spinning), "on CPU (1 of 2 threads)");
        assert_eq!(words(&with(vec![thread(b'R', None, None)])), "on CPU");
        let two = with(vec![thread(b'S', Some(202), None), thread(b'S', Some(202), None)]);
        assert_eq!(words(&two), "asleep in futex (2 of 2 threads)");
    }

    #[test]
    fn a_process_accepts_or_does_not_or_may() {
        let call = |number: i64| u32::try_from(number).ok();
        let asleep = |number| thread(b'S', call(number), None);
        let accepts = |threads: &[Thread]| with(threads.to_vec()).accepts();
        let sleeps = asleep(libc::SYS_nanosleep);
        assert_eq!(accepts(&[sleeps.clone(), asleep(libc::SYS_accept4)]), Some(true));
        assert_eq!(accepts(&[sleeps.clone(), sleeps.clone()]), Some(false));
        assert_eq!(
            accepts(&[sleeps.clone(), asleep(libc::SYS_poll)]),
            None,
            "it may be in the set"
        );
        assert_eq!(accepts(&[sleeps.clone(), thread(b'S', None, None)]), None, "not told");
        assert_eq!(accepts(&[thread(b'R', None, None)]), None, "it may be about to");
        assert_eq!(accepts(&[]), None);
        let more = Activity { thread_count: 9, ..with(vec![sleeps]) };
        assert_eq!(more.accepts(), None, "others may");
    }

    #[test]
    fn a_process_that_was_not_seen_has_no_description() {
        assert_eq!(Activity::default().describe(), None);
    }
}
