//! One file per signal: its inline body, then its thin entry points, tier by tier. Hooks that
//! serve several signals have their entry points in `syscalls.rs` and `sock_state.rs`. Two signals have a part with
//! a file of its own: `accept_meeting.rs` and `connect_handshake.rs`.

mod accept;
mod accept_error;
mod accept_meeting;
mod backlog_drop;
mod connect_blocked;
mod connect_failure;
mod connect_handshake;
mod follow;
mod listen;
mod sock_state;
mod syscalls;

use aya_ebpf::{EbpfContext, programs::TracePointContext};

/// Reads field `offset` of a tracepoint's record; the verifier knows the context's size.
#[inline(always)]
fn field<T: Copy>(ctx: &TracePointContext, offset: usize) -> T {
    // SAFETY: fields of the record, at the offsets of its format file (the same since 5.10).
    unsafe { *ctx.as_ptr().add(offset).cast::<T>() }
}

/// `-ERESTARTSYS` and its kin, and `EINTR`: a signal interrupted the call, which mostly is
/// restarted. Not a failure.
#[inline(always)]
fn interrupted(errno: u32) -> bool {
    matches!(errno, 4 | 512 | 513 | 514 | 516)
}

/// A C `bool` in a register, whose upper bits are garbage.
#[inline(always)]
fn is_true(register: u64) -> bool {
    register as u8 != 0
}
