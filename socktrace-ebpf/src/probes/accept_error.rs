//! `accept_error`: `accept()` failed. `EAGAIN` is counted apart and is never an error: it is how
//! a program with a non-blocking listener learns that nothing waits.

use aya_ebpf::{
    EbpfContext,
    macros::{fexit, kprobe},
    programs::{FExitContext, ProbeContext},
};
use socktrace_common::{AcceptErrorEvent, AcceptErrorKey, Signal, Stage};

use super::interrupted;
use crate::{
    emit, filter,
    globals::offset,
    kernel::{self, Sock, Socket, Task, pid_tgid},
    maps::{ACCEPT_CALLS, ACCEPT_ERROR_TALLY, AcceptCall},
    tally::{self, Tallied},
};

const SIGNAL: Signal = Signal::AcceptError;
const EAGAIN: u32 = 11;

/// The current task's `accept()` failed with `errno` on a listener, where that is known.
#[inline(never)]
pub(super) fn failed(ctx: &impl EbpfContext, errno: u32, listener: Option<Sock>, inode: u64) {
    if interrupted(errno) || listener.is_some_and(|listener| !listener.in_scope()) {
        return;
    }
    let task = Task::current_key();
    if filter::self_test(SIGNAL, task) {
        return;
    }
    tally::count(SIGNAL, Stage::Seen, 1);
    if !filter::process(task) || !filter::errno(errno) || !filter::socket(listener) {
        return tally::count(SIGNAL, Stage::Filtered, 1);
    }
    let key = AcceptErrorKey { task, listener: inode, errno, pad: 0 };
    let tallied = tally::tally(&ACCEPT_ERROR_TALLY, SIGNAL, &key, 1);
    if tallied != Tallied::Again {
        tally::remember_current(SIGNAL);
        tally::remember_listener(SIGNAL, inode, listener, None);
    }
    if errno == EAGAIN {
        return tally::count(SIGNAL, Stage::BelowThreshold, 1);
    }
    describe(ctx, &key, tallied);
}

/// Sends the event of one failure.
#[inline(never)]
fn describe(ctx: &impl EbpfContext, key: &AcceptErrorKey, tallied: Tallied) {
    let header = emit::header::<AcceptErrorEvent>(SIGNAL, Task::actor());
    emit::send(ctx, SIGNAL, tallied, &AcceptErrorEvent { header, key: *key });
}

#[inline(always)]
fn failed_on(ctx: &impl EbpfContext, errno: u32, socket: Option<Socket>) {
    let listener = socket.and_then(Socket::sock);
    failed(ctx, errno, listener, listener.map_or(0, Sock::inode));
}

/// Remembers the listener of an `accept()` call until it returns.
#[inline(always)]
pub(super) fn called(fd: i32) {
    let listener = Task::current().socket(fd).and_then(Socket::sock);
    let call = AcceptCall {
        listener: listener.map_or(0, Sock::key),
        inode: listener.map_or(0, Sock::inode),
        returned: 0,
    };
    if ACCEPT_CALLS.insert(pid_tgid(), call, 0).is_err() {
        tally::count(SIGNAL, Stage::LostPending, 1);
    }
}

/// The listener of the current task's `accept()` call, where a hook remembers those.
#[inline(always)]
pub(super) fn listener_of_call() -> Option<Sock> {
    // SAFETY: copied at once; only this task writes this entry.
    let call = unsafe { ACCEPT_CALLS.get(pid_tgid()) };
    // One that has returned left its entry behind.
    call.filter(|call| call.returned == 0).and_then(|call| Sock::from_raw(call.listener))
}

// --- fentry tier -------------------------------------------------------------------------------

/// `int __sys_accept4(int fd, sockaddr *, int *, int flags)`: every flavour of the system call.
/// `EMFILE` arises before `inet_csk_accept` is called, so only this level sees it.
#[fexit]
fn accept_error_fexit(ctx: FExitContext) -> i32 {
    let result = ctx.arg::<i32>(4);
    if result < 0 {
        failed_on(&ctx, -result as u32, Task::current().socket(ctx.arg(0)));
    }
    0
}

/// `int io_accept(struct io_kiocb *req, unsigned int issue_flags)`: through io_uring, only the
/// want of a descriptor is returned here; other results go to the completion queue.
#[fexit]
fn accept_error_io_fexit(ctx: FExitContext) -> i32 {
    let result = ctx.arg::<i32>(2);
    if result == -24 {
        let file = kernel::pointer_at(ctx.arg(0), offset!(io_kiocb_file));
        failed_on(&ctx, 24, Socket::of_file(file));
    }
    0
}

// --- kprobe tier -------------------------------------------------------------------------------

/// `__sys_accept4` at entry: which listener. The result comes from `sys_exit_accept*`.
#[kprobe]
fn accept_error_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(fd) = ctx.arg(0) {
        called(fd);
    }
    0
}
