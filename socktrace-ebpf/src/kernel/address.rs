//! `struct sockaddr` as a program passed it or the kernel copied it.

use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_probe_read_user_str,
};
use socktrace_common::Endpoint;

use super::AF_UNIX;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// Size of `sun_path`.
const PATH_MAX: u64 = 108;

/// Fills `end` from a `struct sockaddr` of `len` bytes in kernel memory.
#[inline(always)]
pub(crate) fn read_kernel_address(end: &mut Endpoint, address: u64, len: i32) {
    read_address(end, address, len, Memory::Kernel);
}

/// Fills `end` from a `struct sockaddr` of `len` bytes in user memory.
#[inline(always)]
pub(crate) fn read_user_address(end: &mut Endpoint, address: u64, len: i32) {
    read_address(end, address, len, Memory::User);
}

#[derive(Clone, Copy, PartialEq)]
enum Memory {
    Kernel,
    User,
}

impl Memory {
    /// Copies `len` bytes; false if they are not all readable.
    #[inline(always)]
    fn copy(self, to: *mut u8, len: u32, from: u64) -> bool {
        // SAFETY: every caller passes room for `len` bytes; the helper checks `from`.
        let result = unsafe {
            match self {
                Self::Kernel => bpf_probe_read_kernel(to.cast(), len, from as *const _),
                Self::User => bpf_probe_read_user(to.cast(), len, from as *const _),
            }
        };
        result == 0
    }

    /// Copies up to and with the first NUL, at most `len` bytes of which the last becomes NUL;
    /// returns the length with the NUL.
    #[inline(always)]
    fn copy_str(self, to: *mut u8, len: u32, from: u64) -> i64 {
        // SAFETY: as above.
        unsafe {
            match self {
                Self::Kernel => bpf_probe_read_kernel_str(to.cast(), len, from as *const _),
                Self::User => bpf_probe_read_user_str(to.cast(), len, from as *const _),
            }
        }
    }
}

/// Leaves `end` without an address where the memory is unreadable or too short for its family.
#[inline(always)]
fn read_address(end: &mut Endpoint, address: u64, len: i32, memory: Memory) {
    let mut family = 0u16;
    if len < 2 || !memory.copy((&raw mut family).cast(), 2, address) {
        return;
    }
    if family == AF_UNIX {
        read_path(end, address + 2, len, memory);
    } else if family == AF_INET && len >= 16 {
        read_port(end, address, memory);
        if memory.copy(end.addr.as_mut_ptr(), 4, address + 4) {
            end.len = 4;
        }
    } else if family == AF_INET6 && len >= 24 {
        read_port(end, address, memory);
        if memory.copy(end.addr.as_mut_ptr(), 16, address + 8) {
            end.len = 16;
        }
    }
    end.family = family;
}

#[inline(always)]
fn read_port(end: &mut Endpoint, address: u64, memory: Memory) {
    let mut port = 0u16;
    if memory.copy((&raw mut port).cast(), 2, address + 2) {
        end.port = u16::from_be(port);
    }
}

/// An abstract name is all its bytes; a path ends at its NUL, whatever `len` says, and need not
/// have one. Bytes past the end stay 0, so that one path is one key.
#[inline(always)]
fn read_path(end: &mut Endpoint, path: u64, len: i32, memory: Memory) {
    let mut used = len as u64 - 2;
    if used == 0 {
        return;
    }
    if used > PATH_MAX {
        used = PATH_MAX;
    }
    let mut first = 0u8;
    if !memory.copy(&raw mut first, 1, path) {
        return;
    }
    if first != 0 {
        let copied = memory.copy_str(end.addr.as_mut_ptr(), used as u32 + 1, path);
        if copied > 0 {
            end.len = copied as u16 - 1;
            return;
        }
    }
    if memory.copy(end.addr.as_mut_ptr(), used as u32, path) {
        end.len = used as u16;
    }
}
