//! `watch`: one line per event, as it happens.

use std::{
    io::{self, BufWriter, Write},
    ops::ControlFlow,
    process::ExitCode,
    time::{Duration, Instant},
};

use super::{
    args::{FilterArgs, TraceArgs, parse_duration},
    failure::{Failure, INCOMPLETE, SUCCESS},
    output::Format,
    session::{self, Signals},
    stream::Stdout,
};
use crate::{
    aggregate::{Aggregator, Verdict},
    event::{Diagnosis, Event, Stall},
    host::Host,
    live::Live,
    pipeline::{Sink, StopAfter},
    render::{json, of_hooks, text},
    transport::Clock,
};
use clap::Args;

/// One line per failure, drop, stall, new listener and slow accept, live
///
/// With --all, every accept. Text, or JSON Lines with --json. Ctrl-C ends it.
#[derive(Debug, Args)]
pub(super) struct Watch {
    /// Stop after this long
    #[arg(short, long, value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Stop after this many events
    #[arg(long, value_name = "N")]
    stop_after: Option<u64>,
    /// Format of the lines
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// The same as --format json
    #[arg(long)]
    json: bool,
    /// Exit with 4 if events were lost
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    filters: FilterArgs,
    #[command(flatten)]
    trace: TraceArgs,
}

impl Watch {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let filters = self.filters.filters(false);
        let selection = self.filters.applied(false);
        let options = self.trace.options(filters);
        let prepared = session::prepare(&options)?;
        let begun = Instant::now();
        let mut aggregator = Aggregator::new(prepared.session(&[]), selection);
        let format = if self.json { Format::Json } else { self.format };
        let mut lines = Lines::new(format, self.stop_after);
        session::runtime()?.block_on(async {
            let mut signals = Signals::catch()?;
            let session::Prepared { attached, lookout, investigator, .. } = prepared;
            let mut live =
                Live::new(attached, lookout, investigator, Host::default(), self.trace.stall)?;
            live.select_listeners(&options.filters)?;
            session::announce(live.verdicts(), "Ctrl-C ends it");
            let stop = async {
                tokio::select! {
                    _ = signals.next() => {}
                    () = session::elapsed(self.duration) => {}
                }
            };
            session::run(&mut live, &mut aggregator, &mut lines, stop).await.map(|_| ())
        })?;
        let snapshot = aggregator.snapshot(begun.elapsed());
        if self.trace.verbose {
            session::tell_programs(&snapshot);
        }
        if let Some(runs) = &snapshot.runs {
            session::tell(&format!("socktrace: {}\n", of_hooks(runs, snapshot.duration)));
        }
        let completeness = snapshot.completeness;
        if completeness.verdict != Verdict::Complete {
            let reasons = completeness.reasons.join("; ");
            // stdout is data; nobody to tell where stderr is closed.
            let _ = writeln!(io::stderr(), "socktrace: {}: {reasons}", completeness.verdict.name());
            if self.strict {
                return Ok(ExitCode::from(INCOMPLETE));
            }
        }
        Ok(SUCCESS)
    }
}

/// Writes a line per event.
struct Lines {
    out: BufWriter<Stdout>,
    /// The one that is being made.
    line: String,
    format: Format,
    clock: Clock,
    header: bool,
    limit: StopAfter,
}

impl Lines {
    fn new(format: Format, stop_after: Option<u64>) -> Self {
        Self {
            out: BufWriter::new(Stdout::default()),
            line: String::new(),
            format,
            clock: Clock::anchored_now(),
            header: format == Format::Text,
            limit: StopAfter::new(stop_after),
        }
    }
}

impl Sink for Lines {
    fn event(&mut self, event: &Event, so_far: &Aggregator) -> io::Result<ControlFlow<()>> {
        if std::mem::take(&mut self.header) {
            writeln!(self.out, "{}", text::event_header())?;
        }
        match self.format {
            Format::Text => {
                self.line.clear();
                text::write_event(&mut self.line, event, &self.clock, so_far);
                self.line.push('\n');
                self.out.write_all(self.line.as_bytes())?;
            }
            Format::Json => {
                writeln!(self.out, "{}", json::render_event(event, &self.clock, so_far))?;
            }
        }
        Ok(self.limit.one_more())
    }

    fn stall(&mut self, stall: &Stall, _: &Aggregator) -> io::Result<ControlFlow<()>> {
        if std::mem::take(&mut self.header) {
            writeln!(self.out, "{}", text::event_header())?;
        }
        match self.format {
            Format::Text => writeln!(self.out, "{}", text::render_stall(stall, &self.clock))?,
            Format::Json => writeln!(self.out, "{}", json::render_stall(stall, &self.clock))?,
        }
        Ok(self.limit.one_more())
    }

    fn diagnosis(
        &mut self,
        diagnosis: &Diagnosis,
        so_far: &Aggregator,
    ) -> io::Result<ControlFlow<()>> {
        let diagnosis = &so_far.told(diagnosis);
        if std::mem::take(&mut self.header) {
            writeln!(self.out, "{}", text::event_header())?;
        }
        match self.format {
            Format::Text => {
                for line in text::render_diagnosis(diagnosis, &self.clock) {
                    writeln!(self.out, "{line}")?;
                }
            }
            Format::Json => {
                for line in json::render_diagnosis(diagnosis, &self.clock) {
                    writeln!(self.out, "{line}")?;
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self, _: &Aggregator) -> io::Result<()> {
        self.out.flush()
    }
}
