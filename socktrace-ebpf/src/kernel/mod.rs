//! Newtypes over kernel pointers: the only place that reads kernel or user memory.
//!
//! Every read goes through `bpf_probe_read_*`, so a stale pointer yields an error or stale bytes,
//! never a fault. Field offsets come from the running kernel's BTF.

mod address;
mod net;
mod skb;
mod sock;
mod task;

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

pub(crate) use address::{read_kernel_address, read_user_address};
pub(crate) use net::{ListenMib, Net};
pub(crate) use skb::Skb;
pub(crate) use sock::{AF_UNIX, SOCK_STREAM, Sock, Socket};
pub(crate) use task::{Task, now_ns, pid_tgid};

/// Reads a `T` at `base + offset`, all zeroes if the memory is not there.
///
/// No error to look at: a chain of reads from a null pointer is a chain of zeroes, straight-line
/// code that the verifier walks once.
#[inline(always)]
fn read<T: Copy>(base: u64, offset: u32) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    let from = base.wrapping_add(u64::from(offset)) as *const c_void;
    // SAFETY: the helper writes all of `value`: what is at `from`, or zeroes if it cannot read
    // that. `T` is a pointer-free integer or an array of them at every call.
    unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from);
        value.assume_init()
    }
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
