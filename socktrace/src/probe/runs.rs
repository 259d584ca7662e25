//! What runs of the programs take, as the kernel measures it while somebody asks for that.

use std::{io, os::fd::OwnedFd};

use aya::{
    Ebpf,
    programs::ProgramInfo,
    sys::{Stats, enable_stats},
};

use crate::event::{ProgramRuns, Runs};

/// The kernel times programs while this lives.
pub struct Timing {
    _enabled: OwnedFd,
}

impl Timing {
    /// Has every BPF program of the host timed, which costs each of their runs two readings of a clock.
    pub(super) fn begin() -> io::Result<Self> {
        let enabled = enable_stats(Stats::RunTime).map_err(|error| error.io_error)?;
        Ok(Self { _enabled: enabled })
    }
}

/// What the programs that are attached took so far.
pub(crate) fn read_runs(ebpf: &Ebpf) -> Runs {
    // A program that was not selected is not loaded.
    let infos = ebpf.programs().filter_map(|(name, program)| Some((name, program.info().ok()?)));
    Runs(infos.map(|(name, info)| (name.to_owned(), runs(&info))).collect())
}

fn runs(info: &ProgramInfo) -> ProgramRuns {
    let time_ns = u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX);
    ProgramRuns { count: info.run_count(), time_ns }
}
