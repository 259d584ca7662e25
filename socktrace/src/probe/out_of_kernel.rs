//! Takes every program out of the kernel again.

use aya::{Ebpf, programs::Program};

use super::side_by_side::side_by_side;

/// Detaches every program, all at once: each waits until the kernel has left it. One that was not
/// selected is not loaded: nothing to unload.
pub(crate) fn detach(ebpf: &mut Ebpf) {
    let programs = ebpf.programs_mut().map(|(_, program)| program);
    let loaded: Vec<&mut Program> = programs.filter(|program| program.fd().is_ok()).collect();
    side_by_side(loaded.len(), loaded, unload);
}

fn unload(program: &mut Program) {
    let _ = match program {
        Program::FEntry(it) => it.unload(),
        Program::FExit(it) => it.unload(),
        Program::KProbe(it) => it.unload(),
        Program::TracePoint(it) => it.unload(),
        Program::RawTracePoint(it) => it.unload(),
        _ => Ok(()),
    };
}
