//! What a piece of work costs in CPU time: on a busy host that is less than the time that passes, and it is
//! what others go without.

use std::time::Duration;

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::{TimeVal, TimeValLike},
};
use rustix::time::{ClockId, clock_gettime};

/// Work under way on the current thread.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    children: bool,
    begun: Duration,
}

impl Effort {
    /// Of this thread alone.
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

fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
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
    fn what_children_did_is_counted_where_that_is_asked_for() {
        let (alone, all) = (Effort::of_thread(), Effort::with_children());
        let ended = Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done"])
            .status();
        assert!(ended.is_ok_and(|status| status.success()));
        assert!(all.so_far() > alone.so_far(), "{:?} and {:?}", all.so_far(), alone.so_far());
    }
}
