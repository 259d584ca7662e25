//! The same work on many programs at once: the kernel verifies each by itself, and waits for each
//! by itself until nothing runs it any more.

use std::{
    sync::{Mutex, PoisonError},
    thread,
};

/// Does `work` on every item, on up to so many `threads`; of those that cannot be started, the others do the
/// work.
pub(crate) fn side_by_side<T: Send>(threads: usize, items: Vec<T>, work: impl Fn(T) + Sync) {
    let threads = threads.min(items.len());
    let left = Mutex::new(items.into_iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work_on = || std::iter::from_fn(next).for_each(&work);
    thread::scope(|scope| {
        for _ in 1..threads {
            drop(thread::Builder::new().spawn_scoped(scope, work_on));
        }
        work_on();
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn every_item_is_worked_on_once_on_however_many_threads() {
        for threads in [0, 1, 3, 100] {
            let sum = AtomicU32::new(0);
            let add = |item| {
                sum.fetch_add(item, Ordering::Relaxed);
            };
            side_by_side(threads, (1..=10).collect(), add);
            assert_eq!(sum.into_inner(), 55, "{threads} threads");
        }
    }
}
