//! socktrace's eBPF programs: one inline body per signal (`probes/<signal>.rs`) under thin entry
//! points per attach tier.
//!
//! Owns what runs inside the kernel. Which programs attach is decided in user space
//! (`socktrace/src/probe/plan/`); here every program of every tier is present, and
//! [`globals::tier`] tells a body which tier its signal runs in.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the target's atomic add has no stable name, see tally.rs")]
#![expect(
    clippy::inline_always,
    reason = "a BPF program is one function: an outlined body would cost a call and a stack frame"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "64-bit registers carry narrower C types; a checked conversion is a branch to verify"
)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a map value passed by value would be on the stack twice"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "newtypes over kernel pointers are registers; a reference would spill them"
)]

mod emit;
mod filter;
mod globals;
mod kernel;
mod maps;
mod probes;
mod tally;

/// The verifier only lets GPL-compatible programs call `bpf_probe_read_kernel`.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // No reachable code panics: the verifier refuses a program that could loop here.
    loop {}
}
