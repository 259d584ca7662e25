//! Source → Aggregator → Sinks: the only loop. Live tracing and replay differ in the source.

use std::{future::Future, io, ops::ControlFlow, pin::Pin};

use crate::{
    aggregate::Aggregator,
    event::{Diagnosis, Event, Record, Source, Stall, StallChange},
};

/// Where records go as they come.
pub trait Sink {
    /// Takes any record, wanted or not, before the aggregator does; the session ends in order if that
    /// fails.
    fn record(&mut self, _: &Record, _: &Aggregator) -> io::Result<()> {
        Ok(())
    }

    /// Takes one event; `Break` ends the session quietly (a closed pipe, enough events).
    fn event(&mut self, event: &Event, so_far: &Aggregator) -> io::Result<ControlFlow<()>>;

    /// Takes one change of a stall.
    fn stall(&mut self, _: &Stall, _: &Aggregator) -> io::Result<ControlFlow<()>> {
        Ok(ControlFlow::Continue(()))
    }

    /// Takes what was found out of an incident.
    fn diagnosis(&mut self, _: &Diagnosis, _: &Aggregator) -> io::Result<ControlFlow<()>> {
        Ok(ControlFlow::Continue(()))
    }

    /// Everything that was read is out.
    fn flush(&mut self, _: &Aggregator) -> io::Result<()> {
        Ok(())
    }
}

/// Shows nothing, and has enough after a number of events, if one is given.
pub struct StopAfter {
    left: Option<u64>,
}

impl StopAfter {
    /// Without a number it never has enough.
    pub const fn new(events: Option<u64>) -> Self {
        Self { left: events }
    }

    /// Counts one event down.
    pub const fn one_more(&mut self) -> ControlFlow<()> {
        match &mut self.left {
            None => ControlFlow::Continue(()),
            Some(0 | 1) => ControlFlow::Break(()),
            Some(left) => {
                *left -= 1;
                ControlFlow::Continue(())
            }
        }
    }
}

impl Sink for StopAfter {
    fn event(&mut self, _: &Event, _: &Aggregator) -> io::Result<ControlFlow<()>> {
        Ok(self.one_more())
    }
}

/// Why a session went wrong.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError<E> {
    /// The source.
    #[error(transparent)]
    Source(E),
    /// The sink.
    #[error("cannot write events: {0}")]
    Sink(#[from] io::Error),
}

/// Runs until the source ends, the sink has enough, or `stop` resolves; then takes what is left.
/// Returns what `stop` resolved to, if it did.
pub async fn run<S: Source, K: Sink, O>(
    source: &mut S,
    aggregator: &mut Aggregator,
    sink: &mut K,
    mut stop: Pin<&mut impl Future<Output = O>>,
) -> Result<Option<O>, PipelineError<S::Error>> {
    let mut records = Vec::new();
    let mut stopped = None;
    let mut broke = false;
    while stopped.is_none() && !broke {
        let more = tokio::select! {
            biased;
            output = stop.as_mut() => {
                stopped = Some(output);
                false
            }
            more = source.read(&mut records) => more.map_err(PipelineError::Source)?,
        };
        broke = pass(&mut records, aggregator, sink)?.is_break() || !more && stopped.is_none();
    }
    source.finish(&mut records).map_err(PipelineError::Source)?;
    if broke {
        for record in records.drain(..) {
            sink.record(&record, aggregator)?;
            aggregator.apply(record);
        }
    } else {
        // The session ends anyway, whether the sink has enough or not.
        let _ = pass(&mut records, aggregator, sink)?;
    }
    Ok(stopped)
}

fn pass<K: Sink>(
    records: &mut Vec<Record>,
    aggregator: &mut Aggregator,
    sink: &mut K,
) -> io::Result<ControlFlow<()>> {
    let mut flow = ControlFlow::Continue(());
    for record in records.drain(..) {
        sink.record(&record, aggregator)?;
        if let Record::Event(event) = &record
            && flow.is_continue()
            && aggregator.wants(event)
        {
            flow = quiet(sink.event(event, aggregator))?;
        }
        if let Record::Stall(stall) = &record
            && flow.is_continue()
            && stall.change != StallChange::Still
            && aggregator.wants_stall(stall)
        {
            flow = quiet(sink.stall(stall, aggregator))?;
        }
        if let Record::Diagnosis(diagnosis) = &record
            && flow.is_continue()
            && aggregator.wants_diagnosis(diagnosis)
        {
            flow = quiet(sink.diagnosis(diagnosis, aggregator))?;
        }
        aggregator.apply(record);
    }
    if flow.is_continue() {
        flow = quiet(sink.flush(aggregator).map(ControlFlow::Continue))?;
    }
    Ok(flow)
}

/// A reader that closes its end has seen enough; the session still ends in order.
fn quiet(result: io::Result<ControlFlow<()>>) -> io::Result<ControlFlow<()>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        result => result,
    }
}
