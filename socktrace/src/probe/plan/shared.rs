//! Hooks that several signals share.

use super::{Only, Requirement, Slot, fexit, kprobe, kretprobe, needed, or_lose, raw, tracepoint};

const PREEMPTED: &str = "what happens to a TCP socket while the same hook is preempted";
const STATES: &str = "state changes of TCP sockets";
pub(super) const SOCK_STATE: Slot =
    needed(&[raw("sock_state", &["inet_sock_set_state"])]).alone_sees(STATES);
pub(super) const SOCK_STATE_TWIN: Slot =
    needed(&[raw("sock_state_twin", &["inet_sock_set_state"])]).alone_sees(STATES);
pub(super) const SOCK_STATE_PERF: Slot =
    or_lose(&[tracepoint("sock_state_perf", &["sock:inet_sock_set_state"])], PREEMPTED)
        .alone_sees(STATES)
        .only(Only::TracepointsPreempted);
pub(super) const SOCK_DESTROY: Slot = needed(&[raw("sock_destroy", &["tcp_destroy_sock"])]);
pub(super) const SOCK_DESTROY_TWIN: Slot =
    needed(&[raw("sock_destroy_twin", &["tcp_destroy_sock"])]);
pub(super) const SOCK_DESTROY_PERF: Slot =
    or_lose(&[tracepoint("sock_destroy_perf", &["tcp:tcp_destroy_sock"])], PREEMPTED)
        .only(Only::TracepointsPreempted);
pub(super) const SYS_ENTER_ACCEPT: Slot = needed(&[tracepoint(
    "sys_enter_accept",
    &["syscalls:sys_enter_accept", "syscalls:sys_enter_accept4"],
)])
.alone_sees("starts of accept calls");
pub(super) const SYS_ENTER_ACCEPT_TWIN: Slot = needed(&[tracepoint(
    "sys_enter_accept_twin",
    &["syscalls:sys_enter_accept", "syscalls:sys_enter_accept4"],
)])
.alone_sees("starts of accept calls")
.only(Only::TracepointsPreempted);
pub(super) const SYS_EXIT_ACCEPT: Slot = needed(&[tracepoint(
    "sys_exit_accept",
    &["syscalls:sys_exit_accept", "syscalls:sys_exit_accept4"],
)])
.alone_sees("ends of accept calls");
pub(super) const SYS_EXIT_ACCEPT_TWIN: Slot = needed(&[tracepoint(
    "sys_exit_accept_twin",
    &["syscalls:sys_exit_accept", "syscalls:sys_exit_accept4"],
)])
.alone_sees("ends of accept calls")
.only(Only::TracepointsPreempted);
pub(super) const SYS_ENTER_CONNECT: Slot =
    needed(&[tracepoint("sys_enter_connect", &["syscalls:sys_enter_connect"])])
        .alone_sees("starts of connect calls");
pub(super) const SYS_ENTER_CONNECT_TWIN: Slot =
    needed(&[tracepoint("sys_enter_connect_twin", &["syscalls:sys_enter_connect"])])
        .alone_sees("starts of connect calls")
        .only(Only::TracepointsPreempted);
pub(super) const SYS_EXIT_CONNECT: Slot =
    needed(&[tracepoint("sys_exit_connect", &["syscalls:sys_exit_connect"])])
        .alone_sees("ends of connect calls");
pub(super) const SYS_EXIT_CONNECT_TWIN: Slot =
    needed(&[tracepoint("sys_exit_connect_twin", &["syscalls:sys_exit_connect"])])
        .alone_sees("ends of connect calls")
        .only(Only::TracepointsPreempted);
pub(super) const SYS_ENTER_LISTEN: Slot =
    needed(&[tracepoint("sys_enter_listen", &["syscalls:sys_enter_listen"])])
        .alone_sees("starts of listen calls");
pub(super) const SYS_ENTER_LISTEN_TWIN: Slot =
    needed(&[tracepoint("sys_enter_listen_twin", &["syscalls:sys_enter_listen"])])
        .alone_sees("starts of listen calls")
        .only(Only::TracepointsPreempted);
pub(super) const SYS_EXIT_LISTEN: Slot =
    needed(&[tracepoint("sys_exit_listen", &["syscalls:sys_exit_listen"])])
        .alone_sees("ends of listen calls");
pub(super) const SYS_EXIT_LISTEN_TWIN: Slot =
    needed(&[tracepoint("sys_exit_listen_twin", &["syscalls:sys_exit_listen"])])
        .alone_sees("ends of listen calls")
        .only(Only::TracepointsPreempted);

pub(super) const CALLS_ABANDONED: Slot = needed(&[raw("calls_abandoned", &["sched_process_exit"])]);

pub(super) const SYSCALLS_ONLY: &str = "calls through io_uring, and those of 32-bit programs";

/// Which listener a call of `accept()` is about.
pub(super) const CALLED: Slot = needed(&[kprobe("accept_error_kprobe", &["__sys_accept4"])]);

/// What `connect()` returns.
pub(super) const CONNECT_RETURNS: Slot =
    needed(&[fexit("connect_failure_fexit", &["__sys_connect_file"])
        .requires(&[Requirement::Parameters(4)])]);

/// Of a kind that the kernel does not skip for a thread that is stopped inside the other. Attached before that one: what it
/// finds no mark of, it counts itself.
pub(super) const CONNECT_RETURNS_TWIN: Slot = or_lose(
    &[kretprobe("connect_failure_kretprobe_twin", &["__sys_connect_file"])],
    "a connect that ends while the hook on another one's end is preempted",
)
.only(Only::Preempted);
