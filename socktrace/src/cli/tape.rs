//! What becomes of a recording as it goes: it is saved, and it may be enough.

use std::{
    io::{self, Write, stderr},
    ops::ControlFlow,
    time::Duration,
};

use super::{
    failure::Failure,
    output::{cost, shown},
    saving::Saving,
};
use crate::{
    aggregate::Aggregator,
    event::{Event, Record},
    pipeline::{Sink, StopAfter},
    render::text::Cost,
    session::End,
};

/// Saves what comes, and has enough after a number of events, if one is given.
pub(super) struct Tape {
    saving: Option<Saving>,
    limit: StopAfter,
}

impl Sink for Tape {
    fn record(&mut self, record: &Record, so_far: &Aggregator) -> io::Result<()> {
        if let Some(saving) = &mut self.saving {
            saving.record(record, so_far);
        }
        Ok(())
    }

    fn event(&mut self, event: &Event, so_far: &Aggregator) -> io::Result<ControlFlow<()>> {
        self.limit.event(event, so_far)
    }
}

impl Tape {
    /// Without a file it saves nothing.
    pub(super) const fn new(saving: Option<Saving>, stop_after: Option<u64>) -> Self {
        Self { saving, limit: StopAfter::new(stop_after) }
    }

    /// Ends the session, and says where it is.
    pub(super) fn finish(
        &mut self,
        so_far: &Aggregator,
        duration: Duration,
    ) -> Result<(), Failure> {
        let Some(saving) = self.saving.take() else { return Ok(()) };
        let Cost { cpu, peak_rss_bytes } = cost();
        let end =
            End { duration_ns: nanos(duration), cpu_ns: nanos(cpu), peak_rss_bytes, cut: None };
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
