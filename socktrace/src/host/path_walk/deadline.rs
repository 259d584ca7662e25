//! Work that may wait forever, given a time.
//!
//! Owns the threads that look at foreign files. A thread that hangs in a filesystem cannot be
//! stopped: it is left behind and ends when the filesystem answers. There are never more than
//! [`MOST_STUCK`] of them; until one comes back, further work is refused at once. (Waits of network
//! filesystems are killable, so threads left behind do not keep the process from ending.)

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::Duration;

/// Threads that may hang at one time.
const MOST_STUCK: usize = 4;

/// Threads that were given up and have not ended.
static STUCK: Stuck = Stuck(AtomicUsize::new(0));

/// How many they are.
struct Stuck(AtomicUsize);

// What became of the work, written by both sides: whoever comes second knows of the other.
const WORKING: usize = 0;
const DONE: usize = 1;
const GIVEN_UP: usize = 2;

/// Runs `work` on a thread of its own; `None` when it does not answer in time, or no thread is to be
/// had. The thread shares the caller's namespaces and credentials (clone(2)).
pub(super) fn within<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    STUCK.within(time, work)
}

impl Stuck {
    fn within<T: Send + 'static>(
        &'static self,
        time: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if self.0.load(Ordering::Relaxed) >= MOST_STUCK {
            return None;
        }
        let state = Arc::new(AtomicUsize::new(WORKING));
        let (answer, answers) = channel();
        let theirs = state.clone();
        let run = move || {
            let _ends = Ends { state: theirs, stuck: self };
            // Nobody may wait any more.
            let _sent = answer.send(work());
        };
        Builder::new().name("path-walk".into()).spawn(run).ok()?;
        let answered = answers.recv_timeout(time);
        // Without its sender the thread has ended, if in a panic.
        if matches!(answered, Err(RecvTimeoutError::Timeout)) {
            self.0.fetch_add(1, Ordering::Relaxed);
            if state.swap(GIVEN_UP, Ordering::AcqRel) == DONE {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        answered.ok()
    }
}

/// A thread that ends, however it does.
struct Ends {
    state: Arc<AtomicUsize>,
    stuck: &'static Stuck,
}

impl Drop for Ends {
    fn drop(&mut self) {
        if self.state.swap(DONE, Ordering::AcqRel) == GIVEN_UP {
            self.stuck.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn threads_that_hang_are_given_up_and_counted_until_they_come_back() {
        static OWN: Stuck = Stuck(AtomicUsize::new(0));
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
            OWN.0.load(Ordering::Relaxed) == 0
        });
        assert!(back);
        assert_eq!(OWN.within(Duration::from_mins(1), || 2), Some(2));
    }

    #[test]
    fn work_that_panics_is_no_answer_and_hangs_nowhere() {
        static OWN: Stuck = Stuck(AtomicUsize::new(0));
        let answer = OWN.within(Duration::from_mins(1), || assert_eq!(1, 2, "on purpose"));
        assert_eq!((answer, OWN.0.load(Ordering::Relaxed)), (None, 0));
    }
}
