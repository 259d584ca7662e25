//! The `socktrace` program: parse, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser;

/// From this size on, memory is mapped by itself, and is the kernel's again as soon as it is freed: attaching
/// needs much (the kernel's type information) that tracing does not.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES: i32 = 64 << 10;

fn main() -> ExitCode {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator, which allows it at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
    }
    socktrace::cli::Cli::parse().run()
}
