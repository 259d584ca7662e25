//! `listen`: a socket began to listen, with the backlog that was asked for and the one that
//! applies. This is also how a new listener gets its owner.

use aya_ebpf::{
    EbpfContext,
    macros::{fexit, kprobe},
    programs::{FExitContext, ProbeContext},
};
use socktrace_common::{Endpoint, ListenEvent, ListenerInfo, Signal, Stage, TaskKey};

use crate::{
    emit, filter,
    globals::offset,
    kernel::{self, Probed, Reach, Socket, Task, pid_tgid},
    maps::{LISTEN_CALLS, LISTENERS, ListenCall},
    tally::{self, Tallied},
};

const SIGNAL: Signal = Signal::Listen;

/// The current task's `listen(fd, requested)` succeeded.
#[inline(always)]
pub(super) fn listened(ctx: &impl EbpfContext, fd: i32, requested: i32) {
    listened_on(ctx, Task::current().socket(fd), requested);
}

/// The same of the socket that a descriptor refers to.
#[inline(always)]
fn listened_on(ctx: &impl EbpfContext, socket: Option<Socket>, requested: i32) {
    let Some(sock) = socket.and_then(Socket::sock) else { return };
    if !sock.in_scope() {
        return;
    }
    let actor = Task::actor();
    let own = filter::self_test(SIGNAL, actor.task);
    if !own {
        tally::count(SIGNAL, Stage::Seen, 1);
    }
    let wanted = filter::process(actor.task);
    let info = ListenerInfo {
        local: Endpoint::NONE,
        owner: actor.task,
        acceptor: TaskKey::NONE,
        drops_at_close: u64::MAX,
        accepted: 0,
        accepted_ns: 0,
        netns: sock.net().inum(),
        requested,
        effective: sock.handshake().max_ack_backlog(),
        selected: u32::from(wanted),
        from_child: 0,
        pad: 0,
    };
    let header = emit::header::<ListenEvent>(SIGNAL, actor);
    let mut event = ListenEvent { header, listener: sock.inode(), info };
    sock.read_local(&mut event.info.local);
    // SAFETY: copied at once.
    if let Some(known) = unsafe { LISTENERS.get(event.listener) } {
        // It listens again, with another backlog.
        event.info.accepted = known.accepted;
        event.info.accepted_ns = known.accepted_ns;
        event.info.acceptor = known.acceptor;
    }
    if own {
        // By this, drops know whose it is.
        let _ = LISTENERS.insert(event.listener, &event.info, 0);
        return;
    }
    if !wanted {
        return tally::count(SIGNAL, Stage::Filtered, 1);
    }
    if LISTENERS.insert(event.listener, &event.info, 0).is_err() {
        tally::count(SIGNAL, Stage::LostTally, 1);
    }
    tally::remember_task(SIGNAL, &event.header.actor);
    if !filter::no_errno() || !filter::endpoint(&event.info.local) {
        return tally::count(SIGNAL, Stage::Filtered, 1);
    }
    emit::send(ctx, SIGNAL, Tallied::New, &event);
}

/// Remembers a `listen()` call until it returns.
#[inline(always)]
pub(super) fn called(fd: i32, backlog: i32) {
    if LISTEN_CALLS.insert(pid_tgid(), ListenCall { fd, backlog }, 0).is_err() {
        tally::count(SIGNAL, Stage::LostPending, 1);
    }
}

/// A remembered `listen()` call returned.
#[inline(always)]
pub(super) fn returned(ctx: &impl EbpfContext, result: i64) {
    // SAFETY: copied at once; only this task writes this entry.
    let Some(call) = (unsafe { LISTEN_CALLS.get(pid_tgid()) }) else { return };
    let (fd, backlog) = (call.fd, call.backlog);
    let _ = LISTEN_CALLS.remove(pid_tgid());
    if result == 0 {
        listened(ctx, fd, backlog);
    }
}

// --- fentry tier -------------------------------------------------------------------------------

/// `int __sys_listen(int fd, int backlog)`: above it the backlog is still the requested one.
#[fexit]
fn listen_fexit(ctx: FExitContext) -> i32 {
    if ctx.arg::<i32>(2) == 0 {
        listened(&ctx, ctx.arg(0), ctx.arg(1));
    }
    0
}

/// `int io_listen(struct io_kiocb *req, unsigned int issue_flags)`: through io_uring. The backlog is in the request; the
/// result goes to the completion queue.
#[fexit]
fn listen_io_fexit(ctx: FExitContext) -> i32 {
    let (request, returned): (u64, i32) = (ctx.arg(0), ctx.arg(2));
    if returned == 0 && Probed::read::<i32>(request, offset!(io_kiocb_result)) == 0 {
        let socket = Socket::of_file(kernel::pointer_at(request, offset!(io_kiocb_file)));
        listened_on(&ctx, socket, Probed::read(request, offset!(io_listen_backlog)));
    }
    0
}

// --- kprobe tier -------------------------------------------------------------------------------

/// `__sys_listen` at entry; the result comes from `sys_exit_listen`.
#[kprobe]
fn listen_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(fd), Some(backlog)) = (ctx.arg(0), ctx.arg(1)) {
        called(fd, backlog);
    }
    0
}
