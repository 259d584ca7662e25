//! `record -- CMD`: the command's descendants are followed from the moment they are forked.
//!
//! The tracer's own children are followed, so that the command is before it executes. A key holds the start time, so a pid that is used again is not
//! mistaken; the entry goes away with the process.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use socktrace_common::{Signal, Stage};

use crate::{globals::param, kernel::Task, maps::FOLLOWED, tally};

/// `sched:sched_process_fork(parent, child)`.
#[raw_tracepoint]
fn follow_fork(ctx: RawTracePointContext) -> i32 {
    let parent = Task::from_raw(ctx.arg(0)).key();
    let child = Task::from_raw(ctx.arg(1)).key();
    // A new thread has its process's key, which must keep its own mark.
    let follows = parent.tgid == param!(tracer) || FOLLOWED.get_ptr(parent).is_some();
    if parent.tgid != child.tgid && follows && FOLLOWED.insert(child, 1, 0).is_err() {
        // What it does is filtered: every signal may miss some of it.
        for signal in Signal::ALL {
            tally::count(signal, Stage::LostPending, 1);
        }
    }
    0
}

/// `sched:sched_process_free(task)`: for the leader, after its last thread.
#[raw_tracepoint]
fn follow_free(ctx: RawTracePointContext) -> i32 {
    let task = Task::from_raw(ctx.arg(0));
    if task.is_leader() {
        let _ = FOLLOWED.remove(task.key());
    }
    0
}
