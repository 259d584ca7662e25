//! What a piece of work costs in CPU time: on a busy host that is less than the time that passes, and it is
//! what others go without.

use std::{cell::Cell, time::Duration};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::{TimeVal, TimeValLike},
};
use rustix::time::{ClockId, clock_gettime};

thread_local! {
    /// What threads took that worked for this one and are gone.
    static HELPERS: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Work under way on the current thread.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    children: bool,
    begun: Duration,
}

impl Effort {
    /// Of this thread, and of threads that it made for its work ([`counted_here`]).
    pub fn of_thread() -> Self {
        Self { children: false, begun: thread_time() }
    }

    /// Of this thread, and of the processes that ended meanwhile: those that it makes for its work.
    pub fn with_children() -> Self {
        Self { children: true, begun: thread_time() + children_time() }
    }

    /// CPU time so far, user and system.
    pub fn so_far(self) -> Duration {
        let children = if self.children { children_time() } else { Duration::ZERO };
        (thread_time() + children).saturating_sub(self.begun)
    }
}

/// Does `work` on a thread that does nothing else; its CPU time goes with the answer to [`counted_here`].
pub(super) fn all_told<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let answer = work();
    (answer, thread_time())
}

/// Takes over what such a thread took.
pub(super) fn counted_here<T>((answer, time): (T, Duration)) -> T {
    HELPERS.set(HELPERS.get().saturating_add(time));
    answer
}

fn thread_time() -> Duration {
    let own = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
    own.saturating_add(HELPERS.get())
}

fn children_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Duration::ZERO };
    let time = |time: TimeVal| {
        let micros = u64::try_from(time.num_microseconds());
        Duration::from_micros(micros.unwrap_or(0))
    };
    time(usage.user_time()) + time(usage.system_time())
}

#[cfg(test)]
mod tests {
    use std::{process::Command, thread};

    use super::*;

    const SLEPT: Duration = Duration::from_millis(50);

    #[test]
    fn to_sleep_costs_less_than_it_takes() {
        let effort = Effort::of_thread();
        thread::sleep(SLEPT);
        assert!(effort.so_far() < SLEPT, "{:?}", effort.so_far());
    }

    #[test]
    fn what_a_thread_did_for_another_is_counted_there() {
        let effort = Effort::of_thread();
        let spin = || (0..3_000_000_u64).fold(0, |sum, n| std::hint::black_box(sum ^ n));
        let took = thread::scope(|scope| {
            let told = scope.spawn(|| all_told(spin)).join().expect("no panic");
            let took = told.1;
            counted_here(told);
            took
        });
        assert!(!took.is_zero() && effort.so_far() >= took, "{:?} of {took:?}", effort.so_far());
    }

    #[test]
    fn what_children_did_is_counted_where_that_is_asked_for() {
        let (alone, all) = (Effort::of_thread(), Effort::with_children());
        let ended = Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done"])
            .status();
        assert!(ended.is_ok_and(|status| status.success()));
        assert!(all.so_far() > alone.so_far(), "{:?} and {:?}", all.so_far(), alone.so_far());
    }
}
