//! `report`: a saved session, as if it had just been recorded.

use std::{
    fs::{File, OpenOptions},
    future::pending,
    io::{BufWriter, Read, Write, stderr, stdin, stdout},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use clap::Args;

use super::{
    args::FilterArgs,
    failure::{Failure, SUCCESS},
    judge::JudgeArgs,
    output::{NO_NAMES, OutputFile, ReportFormat, print, redactor, render, shown},
    session::runtime,
    stream::UntilClosed,
    trace_file::TraceFile,
};
use crate::{
    aggregate::{Aggregator, Snapshot, diff::Diff},
    pipeline::{self, PipelineError, Sink, StopAfter},
    redact::Redacted,
    render::{Cost, diff},
    session::{Header, Reader, schema},
    transport::Clock,
};

/// The report of a saved session
///
/// FILE is what `socktrace record` saved, or - for standard input. A session of a tracer that was
/// killed is reported as far as it goes. Filters work as they do live.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct Report {
    /// The session
    #[arg(value_name = "FILE", required_unless_present = "schema")]
    file: Option<PathBuf>,
    /// Format of the report; without it, as the ending of --output says
    #[arg(long, value_name = "FORMAT")]
    format: Option<ReportFormat>,
    /// The same as --format json
    #[arg(long)]
    json: bool,
    /// Write to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Compare with this earlier session: what got better or worse, what is new, what is gone
    #[arg(long, value_name = "BEFORE")]
    diff: Option<PathBuf>,
    /// Replace names and addresses by pseudonyms
    #[arg(long)]
    redact: bool,
    /// Print the JSON Schema of the lines of a session, and read none
    #[arg(long)]
    schema: bool,
    /// Read as root a file that belongs to somebody else
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    judge: JudgeArgs,
    #[command(flatten)]
    filters: FilterArgs,
}

/// A session that was read.
struct Replayed {
    snapshot: Snapshot,
    /// What the tracer itself used; `None` where it did not live to say so.
    cost: Option<Cost>,
}

/// A session to be read, and where it is.
struct Recorded {
    path: String,
    reader: Reader<Box<dyn Read>>,
}

impl Report {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let Some(file) = self.file.as_deref().filter(|_| !self.schema) else {
            print(stdout(), "stdout", &format!("{:#}\n", schema()))?;
            return Ok(SUCCESS);
        };
        if self.redact && (self.filters.ask_for_names() || self.judge.asks_for_names()) {
            return Err(Failure::Usage(NO_NAMES.to_owned()));
        }
        if self.redact && self.diff.is_some() {
            let why = "--redact gives each session pseudonyms of its own: two of them cannot be compared; \
                       leave one of --redact and --diff out";
            return Err(Failure::Usage(why.to_owned()));
        }
        let mut output = self.output.as_deref().map(OutputFile::create).transpose()?;
        let recorded = self.open(file)?;
        let asked = if self.json { Some(ReportFormat::Json) } else { self.format };
        let by_name = || Some(output.as_ref()?.format());
        let format = asked.or_else(by_name).unwrap_or(ReportFormat::Text);
        let snapshot = match (&self.diff, format) {
            (Some(before), _) => self.write_diff(before, recorded, format, output.as_mut())?,
            (None, ReportFormat::Perfetto) => self.write_trace(recorded, output.as_mut())?,
            (None, _) => self.write(recorded, format, output.as_mut())?,
        };
        Ok(self.judge.judge(&snapshot).unwrap_or(SUCCESS))
    }

    fn write_diff(
        &self,
        before: &Path,
        after: Recorded,
        format: ReportFormat,
        output: Option<&mut OutputFile>,
    ) -> Result<Snapshot, Failure> {
        let mut nothing = StopAfter::new(None);
        let before = self.replay(self.open(before)?, &mut nothing)?.snapshot;
        let after = self.replay(after, &mut nothing)?.snapshot;
        let diff = Diff::between(&before, &after);
        let text = match format {
            ReportFormat::Text => diff::render_text(&diff),
            ReportFormat::Json => format!("{:#}\n", diff::render_json(&diff)),
            ReportFormat::Html | ReportFormat::Perfetto => {
                let why = "two sessions are compared as text or JSON only: leave --format out, or give json";
                return Err(Failure::Usage(why.to_owned()));
            }
        };
        put(&text, output)?;
        Ok(after)
    }

    fn write(
        &self,
        recorded: Recorded,
        format: ReportFormat,
        output: Option<&mut OutputFile>,
    ) -> Result<Snapshot, Failure> {
        let Replayed { snapshot, cost } = self.replay(recorded, &mut StopAfter::new(None))?;
        put(&render(&snapshot, format, cost)?, output)?;
        Ok(snapshot)
    }

    /// Writes as it reads.
    fn write_trace(
        &self,
        recorded: Recorded,
        output: Option<&mut OutputFile>,
    ) -> Result<Snapshot, Failure> {
        let session = &recorded.reader.header().session;
        let clock = Clock::anchored_at(session.started_ns, session.started);
        let mut replayed = None;
        let fill = |out: &mut dyn Write| {
            let mut file = TraceFile::new(out, clock)?;
            let snapshot = self.replay(recorded, &mut file).map(|replayed| replayed.snapshot);
            let written = snapshot.as_ref().map_or(Ok(()), |snapshot| file.finish(snapshot));
            replayed = Some(snapshot);
            written
        };
        if let Some(output) = output {
            output.write(fill)?;
        } else {
            let failed = |source| Failure::Output { path: "the trace".to_owned(), source };
            let out = stdout().lock();
            // Who asks for a judgement waits for the end.
            let out: Box<dyn Write> =
                if self.judge.asks() { Box::new(UntilClosed::new(out)) } else { Box::new(out) };
            let mut out = BufWriter::new(out);
            fill(&mut out).and_then(|()| out.flush()).map_err(failed)?;
        }
        // It was filled, or that failed.
        replayed.unwrap_or_else(|| Err(Failure::Usage("nothing was read".to_owned())))
    }

    fn open(&self, path: &Path) -> Result<Recorded, Failure> {
        let from: Box<dyn Read> = if path.as_os_str() == "-" {
            Box::new(stdin())
        } else {
            Box::new(open(path, self.force)?)
        };
        let path = shown(path);
        match Reader::open(from) {
            Ok(reader) => Ok(Recorded { path, reader }),
            Err(source) => Err(Failure::Unreadable { path, source }),
        }
    }

    /// Takes all of it in, as a live session is.
    fn replay(&self, recorded: Recorded, sink: &mut impl Sink) -> Result<Replayed, Failure> {
        let Recorded { path, reader } = recorded;
        let Header { mut session, filters, .. } = reader.header().clone();
        if self.redact && filters.path.is_some() {
            return Err(Failure::Usage(format!("{path} was recorded with --path: {NO_NAMES}")));
        }
        let mut redactor = self.redact.then(redactor).transpose()?;
        if let Some(redactor) = &mut redactor {
            session = redactor.session(session);
        }
        let started_ns = session.started_ns;
        let mut source = Redacted::new(reader, redactor);
        let mut aggregator = Aggregator::new(session, filters).narrowed(self.filters.selection());
        let run = async {
            let stop = pin!(pending::<()>());
            pipeline::run(&mut source, &mut aggregator, sink, stop).await
        };
        runtime()?.block_on(run).map_err(|error| match error {
            PipelineError::Source(source) => Failure::Unreadable { path, source },
            PipelineError::Sink(source) => {
                Failure::Output { path: "the report".to_owned(), source }
            }
        })?;
        let reader = source.inner();
        tell_unknown(reader.unknown_kinds());
        // A tracer that was killed said neither.
        let end = reader.end();
        let until = started_ns.max(reader.last_ns()) - started_ns;
        let duration_ns = end.map_or(until, |end| end.duration_ns);
        let cost = end.map(|end| Cost {
            cpu: Duration::from_nanos(end.cpu_ns),
            peak_rss_bytes: end.peak_rss_bytes,
        });
        Ok(Replayed { snapshot: aggregator.snapshot(Duration::from_nanos(duration_ns)), cost })
    }
}

fn put(text: &str, output: Option<&mut OutputFile>) -> Result<(), Failure> {
    match output {
        Some(output) => output.write(|file| file.write_all(text.as_bytes())),
        None => print(stdout(), "the report", text),
    }
}

/// Lines that a newer socktrace wrote, and that say nothing to this one.
fn tell_unknown(lines: u64) {
    if lines != 0 {
        // Nobody to tell where stderr is closed.
        let _ = writeln!(
            stderr(),
            "socktrace: {lines} lines are of kinds that this version does not know; they were skipped"
        );
    }
}

/// Opens a session. Root does not read what anybody may have put there, unless told to.
fn open(path: &Path, force: bool) -> Result<File, Failure> {
    let failed = |source| Failure::Input { path: shown(path), source };
    // Not to wait for the writer of a FIFO.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(Failure::Usage(format!(
            "{} is no regular file; use - to read a session from a pipe",
            shown(path)
        )));
    }
    let own = nix::unistd::geteuid().as_raw();
    let invoker = super::child::invoking_user().map(|(uid, _)| uid);
    let trusted = own != 0 || found.uid() == 0 || Some(found.uid()) == invoker;
    if !trusted && !force {
        return Err(Failure::Usage(format!(
            "{} belongs to uid {}, not to you or root, who would read it now; use --force if you trust it",
            shown(path),
            found.uid()
        )));
    }
    Ok(file)
}
