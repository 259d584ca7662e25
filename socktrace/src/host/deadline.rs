//! Work that may wait forever, given a time.
//!
//! Owns the threads that look at what others may hold back. A thread that hangs in the kernel cannot be
//! stopped: it is left behind and ends when it is answered. Of each kind of work there are never more than
//! [`MOST_STUCK`] of them; until one comes back, further work is refused at once. (Waits of network
//! filesystems, and for an `execve()` that does not end, are killable, so threads left behind do not keep the process
//! from ending.)

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::Duration;

/// Threads that may hang at one time.
const MOST_STUCK: usize = 4;

/// Threads for one kind of work.
pub(super) struct Helpers {
    name: &'static str,
    /// Those that were given up and have not ended.
    stuck: AtomicUsize,
}

// What became of the work, written by both sides: whoever comes second knows of the other.
const WORKING: usize = 0;
const DONE: usize = 1;
const GIVEN_UP: usize = 2;

impl Helpers {
    /// None yet; theirs is the name of the threads.
    pub(super) const fn named(name: &'static str) -> Self {
        Self { name, stuck: AtomicUsize::new(0) }
    }

    /// Runs `work` on a thread of its own; `None` when it does not answer in time, or no thread is to be
    /// had. The thread shares the caller's namespaces and credentials (clone(2)).
    pub(super) fn within<T: Send + 'static>(
        &'static self,
        time: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if self.stuck.load(Ordering::Relaxed) >= MOST_STUCK {
            return None;
        }
        let state = Arc::new(AtomicUsize::new(WORKING));
        let (answer, answers) = channel();
        let theirs = state.clone();
        let run = move || {
            let _ends = Ends { state: theirs, helpers: self };
            // Nobody may wait any more.
            let _sent = answer.send(work());
        };
        Builder::new().name(self.name.into()).spawn(run).ok()?;
        let answered = answers.recv_timeout(time);
        // Without its sender the thread has ended, if in a panic.
        if matches!(answered, Err(RecvTimeoutError::Timeout)) {
            self.stuck.fetch_add(1, Ordering::Relaxed);
            if state.swap(GIVEN_UP, Ordering::AcqRel) == DONE {
                self.stuck.fetch_sub(1, Ordering::Relaxed);
            }
        }
        answered.ok()
    }
}

/// A thread that ends, however it does.
struct Ends {
    state: Arc<AtomicUsize>,
    helpers: &'static Helpers,
}

impl Drop for Ends {
    fn drop(&mut self) {
        if self.state.swap(DONE, Ordering::AcqRel) == GIVEN_UP {
            self.helpers.stuck.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn threads_that_hang_are_given_up_and_counted_until_they_come_back() {
        static OWN: Helpers = Helpers::named("test");
        let time = Duration::from_millis(20);
        let mut words = Vec::new();
        for _ in 0..MOST_STUCK {
            let (word, waits) = channel::<()>();
            words.push(word);
            assert_eq!(OWN.within(time, move || waits.recv().is_ok()), None);
        }
        let start = Instant::now();
        assert_eq!(OWN.within(Duration::from_mins(1), || 1), None, "too many hang");
        assert!(start.elapsed() < Duration::from_secs(30), "refused without waiting");
        drop(words);
        let back = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            OWN.stuck.load(Ordering::Relaxed) == 0
        });
        assert!(back);
        assert_eq!(OWN.within(Duration::from_mins(1), || 2), Some(2));
    }

    #[test]
    fn work_that_panics_is_no_answer_and_hangs_nowhere() {
        static OWN: Helpers = Helpers::named("test");
        let answer = OWN.within(Duration::from_mins(1), || assert_eq!(1, 2, "on purpose"));
        assert_eq!((answer, OWN.stuck.load(Ordering::Relaxed)), (None, 0));
    }
}
