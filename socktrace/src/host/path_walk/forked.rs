//! A child process that tests look at from outside: it stops where it says, and goes on when told.
//!
//! Owns fork(2) and the two pipes. Compiled for tests only.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsRawFd;

/// The child's side: where it stops.
pub(crate) struct Pause {
    reached: PipeWriter,
    go_on: PipeReader,
}

impl Pause {
    /// Waits until the test lets it go on.
    pub(crate) fn here(&mut self) {
        let told = self.reached.write_all(b".");
        let _gone = told.and_then(|()| self.go_on.read_exact(&mut [0]));
    }
}

/// A child of this process.
pub(crate) struct Forked {
    pid: libc::pid_t,
    reached: PipeReader,
    go_on: PipeWriter,
}

impl Forked {
    /// Runs `work` in a child and waits for its first pause. The child is the copy of one thread of
    /// many: `work` may only make system calls, with what was made ready before.
    pub(crate) fn start(work: impl FnOnce(&mut Pause) -> i32) -> Self {
        let (reached, tell) = pipe().expect("a pipe");
        let (told, go_on) = pipe().expect("a pipe");
        // SAFETY: the child makes system calls and exits without unwinding into the test.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork(2)");
        if pid == 0 {
            close_all_but([tell.as_raw_fd(), told.as_raw_fd()]);
            let code = work(&mut Pause { reached: tell, go_on: told });
            // SAFETY: ends the child at once; nothing of the test runs in it.
            unsafe { libc::_exit(code) };
        }
        drop((tell, told));
        let mut forked = Self { pid, reached, go_on };
        forked.await_pause();
        forked
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    fn await_pause(&mut self) {
        self.reached.read_exact(&mut [0]).expect("the child lives to its pause");
    }

    /// To the next pause.
    pub(crate) fn go_on(&mut self) {
        self.go_on.write_all(b".").expect("the child waits");
        self.await_pause();
    }

    /// To its end, and what it returned.
    pub(crate) fn finish(mut self) -> i32 {
        self.go_on.write_all(b".").expect("the child waits");
        let status = self.wait();
        assert!(libc::WIFEXITED(status), "{status}");
        libc::WEXITSTATUS(status)
    }

    fn wait(&mut self) -> i32 {
        let mut status = 0;
        // SAFETY: the status lives through the call.
        let waited = unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        assert_eq!(waited, self.pid, "waitpid(2)");
        self.pid = 0;
        status
    }
}

/// Sockets of tests that run beside this one must not live on in the child.
fn close_all_but(kept: [i32; 2]) {
    let [low, high] = [kept[0].min(kept[1]), kept[0].max(kept[1])].map(i32::unsigned_abs);
    for (first, last) in [(3, low - 1), (low + 1, high - 1), (high + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: the child uses no descriptor but the kept ones, and ends with `_exit`.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        if self.pid > 0 {
            // SAFETY: it is a child that was not waited for: the pid is its own.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            self.wait();
        }
    }
}
