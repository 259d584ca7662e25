//! What the threads of a process do now: running, stopped, or asleep, and in which call.
//!
//! Owns `/proc/PID/task/TID/{stat,wchan,syscall}`. Does not say what that means for a listener
//! (`stall`). Formats: proc(5); `do_task_stat()`, `proc_pid_wchan()`, `proc_pid_syscall()`.

use std::fs;

use super::error::{Malformed, read_with};
use super::process::parse_pid;
use super::{Host, HostError, decimal, words};

/// Threads that are read of one process: a process with more is described by these.
const MOST: usize = 64;

/// Threads of which it is read whether they wait for a futex.
const MOST_WAITERS: usize = 4096;

/// System calls that wait for a futex, of programs of this machine's own word size; the last two have
/// one number on all architectures (`futex_waitv`, `futex_wait`).
const FUTEX_CALLS: [i64; 3] = [libc::SYS_futex, 449, 455];

/// How many threads of a process wait for a futex: a lock, a condition, the end of a thread.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FutexWaiters {
    /// Threads that wait.
    pub waiting: u32,
    /// Threads of which the kernel did not tell.
    pub unknown: u32,
    /// All threads of the process, those included that there were too many of to be asked.
    pub threads: usize,
}

/// One thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// `R`, `S`, `D`, `T` (stopped), `t` (by a debugger) and so on.
    pub state: u8,
    /// The kernel function that it sleeps in; `None` where the kernel does not tell.
    pub function: Option<String>,
    /// The number of the system call that it is in; `None` where it is in none, or the kernel does
    /// not tell (that takes `CAP_SYS_PTRACE` for processes of others).
    pub syscall: Option<u32>,
}

impl Host {
    /// Whether the thread is one of the process, and not of another that was given its number.
    pub fn read_has_thread(&self, pid: u32, tid: u32) -> bool {
        self.proc_path(pid, "task").join(tid.to_string()).is_dir()
    }

    /// The threads of a process, [`MOST`] of them at most, and how many there are.
    pub fn read_threads(&self, pid: u32) -> Result<(Vec<Thread>, usize), HostError> {
        self.read_of(pid, move |host| host.threads_of(pid, MOST))
    }

    /// How many threads of a process wait for a futex.
    pub fn read_futex_waiters(&self, pid: u32) -> Result<FutexWaiters, HostError> {
        let (threads, count) = self.read_of(pid, move |host| host.threads_of(pid, MOST_WAITERS))?;
        let mut waiters = FutexWaiters { threads: count, ..FutexWaiters::default() };
        for thread in &threads {
            match thread.waits_for_futex() {
                Some(waits) => waiters.waiting += u32::from(waits),
                None => waiters.unknown += 1,
            }
        }
        let left_out = count.saturating_sub(MOST_WAITERS);
        waiters.unknown += u32::try_from(left_out).unwrap_or(u32::MAX);
        Ok(waiters)
    }

    /// Of a process that may hold back the answer (`patience`).
    fn threads_of(&self, pid: u32, most: usize) -> Result<(Vec<Thread>, usize), HostError> {
        let path = self.proc_path(pid, "task");
        let mut tids = Vec::new();
        for entry in fs::read_dir(&path).map_err(HostError::read(&path))? {
            let name = entry.map_err(HostError::read(&path))?.file_name();
            tids.extend(parse_pid(name.as_encoded_bytes()));
        }
        tids.sort_unstable();
        let mut threads = Vec::new();
        for tid in tids.iter().take(most) {
            match self.read_thread(pid, *tid) {
                Ok(thread) => threads.push(thread),
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
        Ok((threads, tids.len()))
    }

    fn read_thread(&self, pid: u32, tid: u32) -> Result<Thread, HostError> {
        let file = |name: &str| self.proc_path(pid, &format!("task/{tid}/{name}"));
        let state = read_with(&file("stat"), parse_state)?;
        // Both are refused to most readers, and that is not an error of theirs.
        let function = read_with(&file("wchan"), |bytes| Ok(parse_function(bytes)));
        let syscall = read_with(&file("syscall"), |bytes| Ok(parse_syscall(bytes)));
        Ok(Thread { state, function: function.ok().flatten(), syscall: syscall.ok().flatten() })
    }
}

impl Thread {
    /// `None` where the kernel tells neither its call nor where it sleeps.
    fn waits_for_futex(&self) -> Option<bool> {
        if self.state == b'R' {
            return Some(false);
        }
        match (self.syscall, &self.function) {
            (Some(call), _) => Some(FUTEX_CALLS.contains(&i64::from(call))),
            (None, Some(function)) => Some(function.contains("futex")),
            (None, None) => None,
        }
    }
}

/// The state behind the name, which is printed raw: the last `)` ends it.
fn parse_state(bytes: &[u8]) -> Result<u8, Malformed> {
    let malformed = Malformed { line: 1, expected: "a state behind the name" };
    let end = bytes.iter().rposition(|&byte| byte == b')').ok_or(malformed)?;
    let after = bytes.get(end + 1..).ok_or(malformed)?;
    words(after).next().and_then(|state| state.first()).copied().ok_or(malformed)
}

/// A symbol, or `0` for none.
fn parse_function(bytes: &[u8]) -> Option<String> {
    let name = str::from_utf8(bytes).ok()?.trim();
    let symbol = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    (!name.is_empty() && name != "0" && name.chars().all(symbol)).then(|| name.to_owned())
}

/// `NUMBER ARGUMENTS…`, `running`, or `-1 …` outside of any call.
fn parse_syscall(bytes: &[u8]) -> Option<u32> {
    words(bytes).next().and_then(decimal)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_behind_any_name() {
        assert_eq!(parse_state(b"7 (a) S) T 1 7"), Ok(b'T'));
        assert!(parse_state(b"7 (a").is_err());
        assert!(parse_state(b"7 (a)").is_err());
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_unknown() {
        assert_eq!(parse_function(b"hrtimer_nanosleep"), Some("hrtimer_nanosleep".into()));
        assert_eq!(parse_function(b"0"), None);
        assert_eq!(parse_function(b"\x1b[31m"), None);
        assert_eq!(parse_syscall(b"35 0x7ffd 0x0\n"), Some(35));
        assert_eq!(parse_syscall(b"running\n"), None);
        assert_eq!(parse_syscall(b"-1 0x7f 0x7f\n"), None);
    }

    #[test]
    fn this_thread_is_seen_running_and_another_asleep() {
        let (word, waits) = std::sync::mpsc::channel::<()>();
        let sleeper = std::thread::spawn(move || waits.recv());
        let asleep = || {
            let (threads, count) =
                Host::default().read_threads(std::process::id()).expect("threads");
            assert!(count >= 2 && threads.iter().any(|thread| thread.state == b'R'));
            threads.iter().any(|thread| thread.state == b'S')
        };
        let seen = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            asleep()
        });
        drop(word);
        let _ended = sleeper.join();
        assert!(seen);
    }

    #[test]
    fn a_thread_waits_for_a_futex_by_its_call_or_where_it_sleeps() {
        let thread = |state, function: Option<&str>, syscall| {
            Thread { state, function: function.map(str::to_owned), syscall }.waits_for_futex()
        };
        let futex = u32::try_from(libc::SYS_futex).expect("a number");
        assert_eq!(thread(b'S', None, Some(futex)), Some(true));
        assert_eq!(thread(b'S', Some("futex_wait_queue"), Some(0)), Some(false));
        assert_eq!(thread(b'S', Some("futex_wait_queue"), None), Some(true));
        assert_eq!(thread(b'R', None, None), Some(false));
        assert_eq!(thread(b'S', None, None), None);
    }

    #[test]
    fn a_thread_that_waits_for_a_lock_is_counted() {
        let lock = std::sync::Mutex::new(());
        let held = lock.lock().expect("the lock");
        let seen = std::thread::scope(|scope| {
            scope.spawn(|| drop(lock.lock()));
            let seen = (0..1000).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                let waiters = Host::default().read_futex_waiters(std::process::id());
                waiters.is_ok_and(|waiters| waiters.waiting > 0 && waiters.threads > 1)
            });
            drop(held);
            seen
        });
        assert!(seen);
    }
}
