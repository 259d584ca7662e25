//! What the user asked for, decided before anything is tallied or sent.

use socktrace_common::{Endpoint, Signal, Stage, TaskKey, family_bit, filter};

use crate::{
    globals::param,
    kernel::{Sock, Task},
    maps::{FILTER_PIDS, FILTER_PORTS, FOLLOWED, LISTENERS},
    tally,
};

#[inline(always)]
fn set(bit: u32) -> bool {
    param!(filters) & bit != 0
}

/// `-p`, `-u`, `-n` and `-- CMD`, for the current task.
#[inline(always)]
pub(crate) fn process(task: TaskKey) -> bool {
    if !set(filter::PROCESS) {
        return true;
    }
    if set(filter::PIDS) && FILTER_PIDS.get_ptr(task.tgid).is_none() {
        return false;
    }
    if set(filter::FOLLOW) && FOLLOWED.get_ptr(task).is_none() {
        return false;
    }
    let uid = aya_ebpf::helpers::bpf_get_current_uid_gid() as u32;
    if set(filter::UID) && uid != param!(uid) {
        return false;
    }
    !set(filter::COMM) || same_comm(Task::current().comm())
}

#[inline(always)]
fn same_comm(comm: [u8; 16]) -> bool {
    u128::from_ne_bytes(comm) == u128::from_ne_bytes(param!(comm))
}

/// Whether this is the tracer itself.
#[inline(always)]
pub(crate) fn is_tracer(task: TaskKey) -> bool {
    task.tgid == param!(tracer)
}

/// Whether `task` is the tracer, which tests its hooks: that is noted, and nobody else's business.
#[inline(always)]
pub(crate) fn self_test(signal: Signal, task: TaskKey) -> bool {
    let own = is_tracer(task);
    if own {
        tally::count(signal, Stage::SelfTest, 1);
    }
    own
}

/// The process filters for something that happened to a listener in softirq context: whether
/// one of the wanted processes is known to own it.
#[inline(always)]
pub(crate) fn owner_of(listener: u64) -> bool {
    if !set(filter::PROCESS) {
        return true;
    }
    // SAFETY: a plain integer that is only ever set.
    unsafe { LISTENERS.get(listener) }.is_some_and(|info| info.selected != 0)
}

/// `-4 -6 --unix` and `-P`: the listener's port, or the port a client connects to.
#[inline(always)]
pub(crate) fn address(family: u16, port: u16) -> bool {
    if set(filter::FAMILIES) && param!(families) & family_bit(family) == 0 {
        return false;
    }
    !set(filter::PORTS) || FILTER_PORTS.get_ptr(port).is_some()
}

/// [`address`] of a socket, which is read only if there is such a filter.
#[inline(always)]
pub(crate) fn socket(sock: Option<Sock>) -> bool {
    if !set(filter::FAMILIES) && !set(filter::PORTS) {
        return true;
    }
    let (family, port) = sock.map_or((0, 0), |sock| (sock.family(), sock.local_port()));
    address(family, port)
}

/// [`address`] of an endpoint.
#[inline(always)]
pub(crate) fn endpoint(end: &Endpoint) -> bool {
    address(end.family, end.port)
}

/// `-e`.
#[inline(always)]
pub(crate) fn errno(errno: u32) -> bool {
    if !set(filter::ERRNOS) {
        return true;
    }
    let word = match errno >> 6 {
        0 => param!(errnos[0]),
        1 => param!(errnos[1]),
        2 => param!(errnos[2]),
        _ => 0,
    };
    word >> (errno & 63) & 1 != 0
}

/// `-e`, for something that has no errno.
#[inline(always)]
pub(crate) fn no_errno() -> bool {
    !set(filter::ERRNOS)
}
