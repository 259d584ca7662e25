//! Wakes the reader once, when it is told to.
//!
//! tokio's own timers wake a thread twice for whatever is further away than 64 ms, since its wheels hand them
//! on: where nothing happens, waking is most of what there is to pay for.

use std::{
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};

/// A timer of the kernel's.
pub(super) struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    /// To be made on the runtime that will wait for it.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // SAFETY: `AsyncFd` owns the descriptor, which stays open and the same until it is dropped.
        let timer = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self(timer.map_err(io::Error::from)?))
    }

    /// Waits until then; once may be too early, if nobody waited for the time before.
    pub(super) async fn wait_until(&self, when: Instant) -> io::Result<()> {
        let set =
            Itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(left(when)) };
        // Nobody reads how often it rang: setting it anew forgets that.
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &set)?;
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}

/// Zero would turn it off.
fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1))
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_wakes_when_it_is_told_to_and_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        runtime.expect("a runtime").block_on(async {
            let alarm = Alarm::new().expect("a timer");
            let begin = Instant::now();
            for times in 1..=3 {
                let when = begin + Duration::from_millis(20) * times;
                alarm.wait_until(when).await.expect("no error");
                assert!(Instant::now() >= when, "{times}");
            }
            alarm.wait_until(begin).await.expect("a time that has passed");
        });
    }
}
