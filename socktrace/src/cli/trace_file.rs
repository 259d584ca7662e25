//! `report --format perfetto`: writes the trace while the session is read, so that none of it is kept.

use std::{
    io::{self, Write},
    ops::ControlFlow,
};

use serde_json::Value;

use crate::{
    aggregate::{Aggregator, Snapshot},
    event::{Event, Record, Stall},
    pipeline::Sink,
    render::perfetto::{HEAD, Trace, tail},
    transport::Clock,
};

/// Objects of the Trace Event Format, one after the other.
pub(super) struct TraceFile<W> {
    out: W,
    trace: Trace,
    is_first: bool,
}

impl<W: Write> TraceFile<W> {
    /// Times are counted from where the clock is anchored.
    pub(super) fn new(mut out: W, clock: Clock) -> io::Result<Self> {
        out.write_all(HEAD.as_bytes())?;
        Ok(Self { out, trace: Trace::new(clock), is_first: true })
    }

    /// Ends what is open, and the file.
    pub(super) fn finish(mut self, snapshot: &Snapshot) -> io::Result<()> {
        let objects = self.trace.end(snapshot);
        self.put(&objects)?;
        writeln!(self.out, "{}", tail(snapshot))?;
        self.out.flush()
    }

    fn put(&mut self, objects: &[Value]) -> io::Result<()> {
        for object in objects {
            let comma = if std::mem::take(&mut self.is_first) { "" } else { "," };
            write!(self.out, "{comma}\n{object}")?;
        }
        Ok(())
    }
}

impl<W: Write> Sink for TraceFile<W> {
    fn record(&mut self, record: &Record, so_far: &Aggregator) -> io::Result<()> {
        match record {
            Record::Sightings(seen) => {
                let objects = self.trace.sightings(seen, so_far);
                self.put(&objects)
            }
            _ => Ok(()),
        }
    }

    fn event(&mut self, event: &Event, so_far: &Aggregator) -> io::Result<ControlFlow<()>> {
        let objects = self.trace.event(event, so_far);
        self.put(&objects).map(ControlFlow::Continue)
    }

    fn stall(&mut self, stall: &Stall, _: &Aggregator) -> io::Result<ControlFlow<()>> {
        let objects = self.trace.stall(stall);
        self.put(&objects).map(ControlFlow::Continue)
    }
}
