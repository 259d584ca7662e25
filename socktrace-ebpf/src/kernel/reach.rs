//! How kernel memory is reached: with a helper from any address, or with a load where the verifier knows
//! what a pointer points to. A helper call is some 60 instructions, a load is one.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user};
use socktrace_common::loads;

use crate::globals::param;

/// A way to read `T` at `base + offset`.
pub(crate) trait Reach: Copy {
    /// Whether pointers that are read keep their type, so that loads may follow them.
    fn typed() -> bool;

    /// `T` is a pointer-free integer, or an array of them, that does not reach over the field's end.
    #[inline(always)]
    fn read<T: Copy>(base: u64, offset: u32) -> T {
        if Self::typed() { load(base, offset) } else { probe(base, offset) }
    }
}

/// Any address: stale pointers yield stale bytes or zeroes, never a fault.
#[derive(Clone, Copy)]
pub(crate) struct Probed;

impl Reach for Probed {
    #[inline(always)]
    fn typed() -> bool {
        false
    }
}

/// An argument or result of a function that a tracing program (fentry, fexit) is attached to, and what
/// its fields point to. The kernel checks at load that the field is there, and makes a load that faults
/// yield zero.
#[derive(Clone, Copy)]
pub(crate) struct Typed;

impl Reach for Typed {
    #[inline(always)]
    fn typed() -> bool {
        param!(loads) & loads::ARGUMENTS != 0
    }
}

/// The current task and what its fields point to, in a program of any kind.
#[derive(Clone, Copy)]
pub(crate) struct Current;

impl Reach for Current {
    #[inline(always)]
    fn typed() -> bool {
        param!(loads) & loads::TASK != 0
    }
}

/// As [`Current`], for what is read of few calls only: each field that a program follows is searched for by the verifier
/// on every path that leads there.
#[derive(Clone, Copy)]
pub(crate) struct Details;

impl Reach for Details {
    #[inline(always)]
    fn typed() -> bool {
        param!(loads) & loads::DETAILS != 0
    }
}

/// Volatile, so that LLVM does not read two neighbours at once: the verifier takes no read over a field's end.
#[inline(always)]
fn load<T: Copy>(base: u64, offset: u32) -> T {
    // SAFETY: the verifier refuses what is no field of that type; a fault reads as zero.
    unsafe { (base.wrapping_add(u64::from(offset)) as *const T).read_volatile() }
}

/// See [`Probed`].
#[inline(always)]
pub(super) fn probe<T: Copy>(base: u64, offset: u32) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    let from = base.wrapping_add(u64::from(offset)) as *const c_void;
    // SAFETY: the helper writes all of `value`: what is at `from`, or zeroes if it cannot read
    // that. `T` is a pointer-free integer or an array of them at every call.
    unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from);
        value.assume_init()
    }
}

/// As [`probe`], from user memory.
#[inline(always)]
pub(super) fn probe_user<T: Copy>(address: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: as in `probe`.
    unsafe {
        let to = value.as_mut_ptr().cast();
        bpf_probe_read_user(to, size_of::<T>() as u32, address as *const c_void);
        value.assume_init()
    }
}
