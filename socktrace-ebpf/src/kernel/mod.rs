//! Newtypes over kernel pointers: the only place that reads kernel or user memory.
//!
//! A read is a call of `bpf_probe_read_*` or a load that the verifier has checked ([`Reach`]): a stale pointer
//! yields an error or stale bytes, never a fault. Field offsets come from the running kernel's BTF.

mod address;
mod net;
mod reach;
mod skb;
mod sock;
mod task;

pub(crate) use address::{read_kernel_address, read_user_address};
pub(crate) use net::{ListenMib, Net, cpu_offset};
pub(crate) use reach::{Probed, Reach, Typed};
pub(crate) use skb::Skb;
pub(crate) use sock::{AF_UNIX, SOCK_STREAM, Sock, Socket};
pub(crate) use task::{Task, now_ns, pid_tgid};

/// Reads a `T` at `base + offset`, all zeroes if the memory is not there.
///
/// No error to look at: a chain of reads from a null pointer is a chain of zeroes, straight-line
/// code that the verifier walks once.
#[inline(always)]
fn read<T: Copy>(base: u64, offset: u32) -> T {
    reach::probe(base, offset)
}

/// Reads a `T` from user memory, all zeroes if it is not resident.
#[inline(always)]
fn read_user<T: Copy>(address: u64) -> T {
    reach::probe_user(address)
}

/// The C `bool` at `address`.
#[inline(always)]
pub(crate) fn flag_at(address: u64) -> bool {
    read::<u8>(address, 0) != 0
}

/// The pointer stored at `base + offset`, for structures that need no type of their own.
#[inline(always)]
pub(crate) fn pointer_at(base: u64, offset: u32) -> u64 {
    read(base, offset)
}
