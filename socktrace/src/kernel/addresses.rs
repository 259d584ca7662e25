//! Where a symbol of the kernel begins and ends, as a small program asks it there: since 5.16, for whom may see
//! addresses.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use super::bpf::{
    self, Context, ProgramKind,
    instruction::{add, call, clear, copy, exit, jump_if_not_zero, load, set, store, value_of_map},
};

/// A program that is run by `bpf(2)` alone; it must be one that may sleep.
const KIND: ProgramKind =
    ProgramKind { program_type: 31, attach_type: 0, flags: 1 << 4, function: 0 };
const KALLSYMS_LOOKUP_NAME: i32 = 179;
const SNPRINTF: i32 = 165;

const NAME: usize = 24;
const WORDS: usize = 64;

/// The program's context.
#[repr(C)]
struct Question {
    /// With a NUL at the end.
    name: [u8; NAME],
    /// The answer.
    address: u64,
    /// Or why there is none, as a negative errno.
    errno: i64,
    /// The address in words: `tcp_v4_rcv+0x0/0xcc0`.
    words: [u8; WORDS],
}

// SAFETY: integers and arrays of them, without padding.
unsafe impl Context for Question {}

const ADDRESS: i16 = 24;
const ERRNO: i16 = 32;
const TEXT: i16 = 40;
const _: () = assert!(size_of::<Question>() == 104);

/// The program, ready to be asked.
pub(super) struct Addresses(OwnedFd);

impl Addresses {
    pub(super) fn open() -> io::Result<Self> {
        // The program keeps it.
        let format = bpf::constant(*b"%pS\0\0\0\0\0")?;
        bpf::load(KIND, &program(&format), &mut []).map(Self)
    }

    /// First and past-the-last address; `None` where the kernel itself has no such symbol (a module may).
    pub(super) fn span(&self, name: &str) -> io::Result<Option<[u64; 2]>> {
        let mut question = Question { name: [0; NAME], address: 0, errno: 0, words: [0; WORDS] };
        match question.name.get_mut(..name.len()) {
            Some(place) if name.len() < NAME => place.copy_from_slice(name.as_bytes()),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
        bpf::run(self.0.as_fd(), &mut question)?;
        match i32::try_from(question.errno) {
            Ok(0) => {}
            Ok(errno) if errno == -libc::ENOENT => return Ok(None),
            Ok(errno) => return Err(io::Error::from_raw_os_error(-errno)),
            Err(error) => return Err(io::Error::other(error)),
        }
        if question.words.contains(&b'[') {
            return Ok(None);
        }
        let length = parse_length(&question.words)
            .ok_or_else(|| io::Error::other("the kernel does not say how long a symbol is"))?;
        Ok(Some([question.address, question.address + length]))
    }
}

/// `tcp_v4_rcv+0x0/0xcc0`: an address at the beginning of a symbol, and how far the next one is.
fn parse_length(words: &[u8]) -> Option<u64> {
    let words = std::str::from_utf8(words.split(|byte| *byte == 0).next()?).ok()?;
    let (_, length) = words.split_once("+0x0/0x")?;
    u64::from_str_radix(length, 16).ok()
}

/// Looks the name up, and has the address written in words.
fn program(format: &OwnedFd) -> Vec<u64> {
    use std::os::fd::AsRawFd;
    /// Registers: the context is kept in one that calls leave alone; 10 is the end of the stack.
    const CONTEXT: u8 = 6;
    const STACK: u8 = 10;
    const ON_STACK: [i16; 3] = [-24, -32, -96];
    let [name, address, text] = ON_STACK;
    let words = || (0..8i16).map(|word| word * 8);
    let mut code = vec![copy(CONTEXT, 1)];
    for word in 0..3i16 {
        code.extend([load(2, CONTEXT, word * 8), store(STACK, name + word * 8, 2)]);
    }
    code.extend(words().map(|at| clear(STACK, text + at)));
    code.push(clear(STACK, address));
    code.extend([copy(1, STACK), add(1, name.into()), set(2, 24), set(3, 0)]);
    code.extend([copy(4, STACK), add(4, address.into()), call(KALLSYMS_LOOKUP_NAME)]);
    code.push(store(CONTEXT, ERRNO, 0));
    let mut then = vec![load(1, STACK, address), store(CONTEXT, ADDRESS, 1)];
    then.extend([copy(1, STACK), add(1, text.into()), set(2, 64)]);
    then.extend(value_of_map(3, format.as_raw_fd()));
    then.extend([copy(4, STACK), add(4, address.into()), set(5, 8), call(SNPRINTF)]);
    for at in words() {
        then.extend([load(1, STACK, text + at), store(CONTEXT, TEXT + at, 1)]);
    }
    code.push(jump_if_not_zero(0, i16::try_from(then.len()).unwrap_or(i16::MAX)));
    code.extend(then);
    code.extend([set(0, 0), exit()]);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_known_of_an_address_at_the_beginning_only() {
        assert_eq!(parse_length(b"tcp_v4_rcv+0x0/0xcc0\0\0"), Some(0xcc0));
        assert_eq!(parse_length(b"tcp_v4_rcv+0x10/0xcc0\0"), None);
        assert_eq!(parse_length(b"0xffffffff81000000\0"), None);
    }
}
