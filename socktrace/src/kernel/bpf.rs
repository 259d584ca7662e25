//! `bpf(2)` by itself, for questions that a small program in the kernel answers: whether tracing programs
//! load, and where a symbol is; and for what it tells of a program or a link.
//!
//! aya answers neither without parsing all of the kernel's BTF, or at all.

use std::{
    ffi::{c_long, c_void},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use super::locked_memory::beyond_limit;

/// `enum bpf_cmd`, `include/uapi/linux/bpf.h`; so are all numbers here.
mod command {
    pub(super) const MAP_CREATE: i64 = 0;
    pub(super) const MAP_UPDATE_ELEM: i64 = 2;
    pub(super) const PROG_LOAD: i64 = 5;
    pub(super) const PROG_TEST_RUN: i64 = 10;
    pub(super) const PROG_GET_NEXT_ID: i64 = 11;
    pub(super) const PROG_GET_FD_BY_ID: i64 = 13;
    pub(super) const OBJ_GET_INFO_BY_FD: i64 = 15;
    pub(super) const RAW_TRACEPOINT_OPEN: i64 = 17;
    pub(super) const MAP_FREEZE: i64 = 22;
}

const MAP_TYPE_ARRAY: u32 = 2;
/// Programs only read it.
const RDONLY_PROG: u32 = 1 << 7;

/// Instructions, as one number each.
pub(super) mod instruction {
    const fn encode(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
        code as u64
            | (dst as u64 | (src as u64) << 4) << 8
            | (off.cast_unsigned() as u64) << 16
            | (imm.cast_unsigned() as u64) << 32
    }
    /// `dst = *(u64 *)(src + off)`
    pub(in crate::kernel) const fn load(dst: u8, src: u8, off: i16) -> u64 {
        encode(0x79, dst, src, off, 0)
    }
    /// `*(u64 *)(dst + off) = src`
    pub(in crate::kernel) const fn store(dst: u8, off: i16, src: u8) -> u64 {
        encode(0x7b, dst, src, off, 0)
    }
    /// `*(u64 *)(dst + off) = 0`
    pub(in crate::kernel) const fn clear(dst: u8, off: i16) -> u64 {
        encode(0x7a, dst, 0, off, 0)
    }
    /// `dst = src`
    pub(in crate::kernel) const fn copy(dst: u8, src: u8) -> u64 {
        encode(0xbf, dst, src, 0, 0)
    }
    /// `dst = value`
    pub(in crate::kernel) const fn set(dst: u8, value: i32) -> u64 {
        encode(0xb7, dst, 0, 0, value)
    }
    /// `dst += value`
    pub(in crate::kernel) const fn add(dst: u8, value: i32) -> u64 {
        encode(0x07, dst, 0, 0, value)
    }
    /// `if (dst != 0) goto` so many instructions further
    pub(in crate::kernel) const fn jump_if_not_zero(dst: u8, further: i16) -> u64 {
        encode(0x55, dst, 0, further, 0)
    }
    /// `dst` = address of the first value of a map; two instructions.
    pub(in crate::kernel) const fn value_of_map(dst: u8, fd: i32) -> [u64; 2] {
        [encode(0x18, dst, 2, 0, fd), 0]
    }
    pub(in crate::kernel) const fn call(helper: i32) -> u64 {
        encode(0x85, 0, 0, 0, helper)
    }
    pub(in crate::kernel) const fn exit() -> u64 {
        encode(0x95, 0, 0, 0, 0)
    }
}

/// What a program is loaded as.
#[derive(Clone, Copy)]
pub(super) struct ProgramKind {
    pub(super) program_type: u32,
    pub(super) attach_type: u32,
    pub(super) flags: u32,
    /// The kernel function that it is for, by the id of its type; 0 for none.
    pub(super) function: u32,
}

/// The beginning of `union bpf_attr`, for [`command::PROG_LOAD`].
#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    attach_type: u32,
    btf_fd: u32,
    function_info_size: u32,
    function_info: u64,
    function_info_count: u32,
    line_info_size: u32,
    line_info: u64,
    line_info_count: u32,
    attach_btf_id: u32,
}

const _: () = assert!(size_of::<Load>() == 112);

/// For [`command::PROG_TEST_RUN`].
#[repr(C)]
#[derive(Default)]
struct Run {
    program: i32,
    returned: u32,
    data_sizes: [u32; 2],
    data: [u64; 2],
    repeat: u32,
    duration: u32,
    context_in_size: u32,
    context_out_size: u32,
    context_in: u64,
    context_out: u64,
    flags: [u32; 4],
}

const _: () = assert!(size_of::<Run>() == 80);

/// For [`command::RAW_TRACEPOINT_OPEN`].
#[repr(C)]
#[derive(Default)]
struct Attach {
    name: u64,
    program: i32,
    pad: u32,
}

/// For [`command::MAP_CREATE`].
#[repr(C)]
#[derive(Default)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

/// For [`command::MAP_UPDATE_ELEM`].
#[repr(C)]
#[derive(Default)]
struct Update {
    map: i32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// For [`command::MAP_FREEZE`].
#[repr(C)]
struct Freeze {
    map: i32,
}

/// For [`command::PROG_GET_NEXT_ID`], where `next` is the answer, and for [`command::PROG_GET_FD_BY_ID`].
#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// For [`command::OBJ_GET_INFO_BY_FD`].
#[repr(C)]
struct Info {
    fd: i32,
    length: u32,
    at: u64,
}

/// `struct bpf_prog_info`, as far as it is read here. The kernel writes where pointers are only if their counts say that
/// there is room.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    program_type: u32,
    id: u32,
    tag_to_run_count: [u64; 25],
    /// Since 5.12.
    recursion_misses: u64,
}

const _: () = assert!(size_of::<ProgramInfo>() == 216);

/// `struct bpf_link_info` of a link to a perf event, as far as it is read here. No name is asked for.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    link_type: u32,
    id: u32,
    program: u32,
    pad: u32,
    event_type: u32,
    event_pad: u32,
    name_to_address: [u64; 3],
    /// Of a kprobe or a kretprobe, since 6.7.
    missed: u64,
}

const _: () = assert!(size_of::<LinkInfo>() == 56);

const LINK_TYPE_PERF_EVENT: u32 = 7;
const PERF_EVENT_KPROBE: u32 = 3;
const PERF_EVENT_KRETPROBE: u32 = 4;

/// The id of a program, and how often it was skipped because it ran; `None` where the kernel keeps no count.
pub(super) fn id_and_misses(program: BorrowedFd<'_>) -> io::Result<(u32, Option<u64>)> {
    let mut info = ProgramInfo::default();
    let length = read_info(program.as_raw_fd(), &mut info)?;
    let counts = length >= size_of::<ProgramInfo>();
    Ok((info.id, counts.then_some(info.recursion_misses)))
}

/// The types of all programs that are loaded in this kernel, of everybody (`enum bpf_prog_type`). Needs `CAP_SYS_ADMIN`.
pub(super) fn program_types() -> io::Result<Vec<u32>> {
    let mut types = Vec::new();
    let mut at = ById::default();
    loop {
        // SAFETY: the kernel reads a number and writes one.
        match unsafe { bpf(command::PROG_GET_NEXT_ID, &mut at) } {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(types),
            next => next?,
        };
        at.id = at.next;
        let mut one = ById { id: at.id, ..ById::default() };
        // SAFETY: as above.
        match unsafe { bpf(command::PROG_GET_FD_BY_ID, &mut one) } {
            // Unloaded meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            fd => {
                let program = owned(fd?)?;
                let mut info = ProgramInfo::default();
                read_info(program.as_raw_fd(), &mut info)?;
                types.push(info.program_type);
            }
        }
    }
}

/// A link to a perf event, on a kernel that tells how often kprobes were missed.
pub(super) struct PerfLink {
    /// The id of its program.
    pub(super) program: u32,
    /// How often a kprobe or kretprobe was missed; 0 of anything else.
    pub(super) missed: u64,
}

/// What the kernel tells of this link; `None` where it is of another kind, or the kernel does not count.
pub(super) fn perf_link(link: RawFd) -> io::Result<Option<PerfLink>> {
    let mut info = LinkInfo::default();
    let length = read_info(link, &mut info)?;
    let is_counted = info.link_type == LINK_TYPE_PERF_EVENT && length >= size_of::<LinkInfo>();
    let is_probe = matches!(info.event_type, PERF_EVENT_KPROBE | PERF_EVENT_KRETPROBE);
    let missed = if is_probe { info.missed } else { 0 };
    Ok(is_counted.then_some(PerfLink { program: info.program, missed }))
}

/// Reads what the kernel tells of an object; returns the bytes that it knows of.
fn read_info<T>(fd: RawFd, info: &mut T) -> io::Result<usize> {
    let mut attributes = Info {
        fd,
        length: length(size_of::<T>())?,
        at: (&raw mut *info).expose_provenance() as u64,
    };
    // SAFETY: the kernel writes the structure in the length that is given, and has no room for more.
    unsafe { bpf(command::OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    Ok(attributes.length as usize)
}

/// Loads a program; the verifier's words go into `log`.
pub(super) fn load(kind: ProgramKind, instructions: &[u64], log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut attributes = Load {
        program_type: kind.program_type,
        instruction_count: length(instructions.len())?,
        instructions: instructions.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        flags: kind.flags,
        attach_type: kind.attach_type,
        attach_btf_id: kind.function,
        ..Load::default()
    };
    if !log.is_empty() {
        attributes.log_level = 1;
        attributes.log_size = length(log.len())?;
        attributes.log = log.as_mut_ptr().expose_provenance() as u64;
    }
    // SAFETY: the kernel reads the instructions and the license and writes the log, in their sizes.
    beyond_limit(|| owned(unsafe { bpf(command::PROG_LOAD, &mut attributes) }?))
}

/// Attaches a tracing program to the function that it was loaded for, until the descriptor is closed.
pub(super) fn attach(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attributes = Attach { program: program.as_raw_fd(), ..Attach::default() };
    // SAFETY: there is no name, and nothing else that the kernel would read or write.
    owned(unsafe { bpf(command::RAW_TRACEPOINT_OPEN, &mut attributes) }?)
}

/// Runs a program of type syscall once; it reads and writes `context`.
pub(super) fn run<T: Context>(program: BorrowedFd<'_>, context: &mut T) -> io::Result<()> {
    let mut attributes = Run {
        program: program.as_raw_fd(),
        context_in_size: length(size_of::<T>())?,
        context_in: (&raw mut *context).expose_provenance() as u64,
        ..Run::default()
    };
    // SAFETY: the kernel reads the context in its size and writes it back; any bytes are one.
    unsafe { bpf(command::PROG_TEST_RUN, &mut attributes) }?;
    Ok(())
}

/// What [`run`] hands over.
///
/// # Safety
///
/// Without padding, and valid whatever its bytes are.
pub(super) unsafe trait Context {}

/// A map of one value that nobody can change any more.
pub(super) fn constant(mut value: [u8; 8]) -> io::Result<OwnedFd> {
    let mut create = Create {
        map_type: MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: length(value.len())?,
        max_entries: 1,
        flags: RDONLY_PROG,
    };
    // SAFETY: the attributes are all that the kernel reads.
    let map = beyond_limit(|| owned(unsafe { bpf(command::MAP_CREATE, &mut create) }?))?;
    let mut key = 0u32;
    let mut update = Update {
        map: map.as_raw_fd(),
        key: (&raw mut key).expose_provenance() as u64,
        value: value.as_mut_ptr().expose_provenance() as u64,
        ..Update::default()
    };
    // SAFETY: the kernel reads key and value in the sizes that the map has.
    unsafe { bpf(command::MAP_UPDATE_ELEM, &mut update) }?;
    // SAFETY: as above.
    unsafe { bpf(command::MAP_FREEZE, &mut Freeze { map: map.as_raw_fd() }) }?;
    Ok(map)
}

fn length(of: usize) -> io::Result<u32> {
    u32::try_from(of).map_err(io::Error::other)
}

fn owned(fd: c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it, for this process alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
///
/// Every address in `attributes` must be good for what the command does with it.
unsafe fn bpf<T>(command: c_long, attributes: &mut T) -> io::Result<c_long> {
    let at: *mut c_void = (&raw mut *attributes).cast();
    // SAFETY: the attributes have their size; for what they point to, see above.
    match unsafe { libc::syscall(libc::SYS_bpf, command, at, size_of::<T>()) } {
        -1 => Err(io::Error::last_os_error()),
        done => Ok(done),
    }
}
