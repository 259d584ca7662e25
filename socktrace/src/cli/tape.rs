//! What becomes of a recording as it goes: it is saved, shown in short, and it may be enough.

use std::{
    io::{self, Write, stderr},
    ops::ControlFlow,
    time::{Duration, Instant},
};

use super::{
    failure::Failure,
    output::{cost, shown},
    progress::Progress,
    saving::Saving,
};
use crate::{
    aggregate::Aggregator,
    event::{Event, Record, Stall},
    pipeline::{Sink, StopAfter},
    render::Cost,
    session::End,
};

/// Saves what comes, and has enough after a number of events, if one is given.
pub(super) struct Tape {
    saving: Option<Saving>,
    limit: StopAfter,
    progress: Option<Progress>,
}

impl Sink for Tape {
    fn record(&mut self, record: &Record, so_far: &Aggregator) -> io::Result<()> {
        if let Some(saving) = &mut self.saving {
            saving.record(record, so_far);
        }
        Ok(())
    }

    fn event(&mut self, event: &Event, so_far: &Aggregator) -> io::Result<ControlFlow<()>> {
        if let Some(progress) = &mut self.progress {
            progress.event(event);
        }
        self.limit.event(event, so_far)
    }

    fn stall(&mut self, stall: &Stall, _: &Aggregator) -> io::Result<ControlFlow<()>> {
        if let Some(progress) = &mut self.progress {
            progress.stall(stall);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self, so_far: &Aggregator) -> io::Result<()> {
        if let Some(progress) = &mut self.progress {
            progress.tick(Instant::now(), so_far.totals().stages.lost());
        }
        Ok(())
    }
}

impl Tape {
    /// Without a file it saves nothing.
    pub(super) const fn new(saving: Option<Saving>, stop_after: Option<u64>) -> Self {
        Self { saving, limit: StopAfter::new(stop_after), progress: None }
    }

    /// Removes the session's files if nothing was written to them yet.
    pub(super) fn abandon(self) {
        if let Some(saving) = self.saving {
            saving.abandon();
        }
    }

    /// Begins the status line, where there is to be one.
    pub(super) fn begin(&mut self, has_command: bool) {
        self.progress = Progress::new(has_command);
    }

    /// Ends the session, and says where it is. Tracing that has `broken` off says why.
    pub(super) fn finish(
        &mut self,
        so_far: &Aggregator,
        duration: Duration,
        broken: Option<String>,
    ) -> Result<(), Failure> {
        self.progress = None;
        let Some(saving) = self.saving.take() else { return Ok(()) };
        let Cost { cpu, peak_rss_bytes } = cost();
        let end =
            End { duration_ns: nanos(duration), cpu_ns: nanos(cpu), peak_rss_bytes, cut: broken };
        if let Some(path) = saving.finish(so_far, &end)? {
            // Nobody to tell where stderr is closed.
            let _ =
                writeln!(stderr(), "socktrace: session saved: socktrace report {}", shown(&path));
        }
        Ok(())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
