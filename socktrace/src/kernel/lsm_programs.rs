//! Whether BPF programs take part in what security modules decide.
//!
//! `bpf` stands in the list of active modules wherever the kernel has it, whether anybody uses it or not; only the programs
//! that are loaded tell.

use std::io;

use super::bpf;

/// `BPF_PROG_TYPE_LSM`, `include/uapi/linux/bpf.h`.
const LSM: u32 = 29;

/// Whether any BPF program of type LSM is loaded, whatever it decides over. Needs `CAP_SYS_ADMIN`.
pub fn has_lsm_programs() -> io::Result<bool> {
    Ok(bpf::program_types()?.contains(&LSM))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::bpf::{ProgramKind, instruction, load, program_types};

    /// `BPF_PROG_TYPE_SK_LOOKUP` and `BPF_SK_LOOKUP` (5.9): few have such programs.
    const LOOKUP: ProgramKind =
        ProgramKind { program_type: 30, attach_type: 36, flags: 0, function: 0 };

    #[test]
    fn a_program_is_seen_while_it_is_loaded() {
        let lookups = || {
            let types = program_types().expect("root asks");
            types.into_iter().filter(|it| *it == LOOKUP.program_type).count()
        };
        let before = lookups();
        let accept_all = [instruction::set(0, 1), instruction::exit()];
        let program: OwnedFd = load(LOOKUP, &accept_all, &mut []).expect("root loads it");
        assert_eq!(lookups(), before + 1);
        drop(program);
        // It is freed a grace period later.
        let is_gone = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            lookups() == before
        });
        assert!(is_gone);
    }
}
