//! `record`: trace until something ends it, then report.

mod recording;

use std::{
    ffi::OsString,
    io::{Write, stderr, stdout},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::{Args, Parser};

use self::recording::{Recorded, Running};
use super::{
    args::{FilterArgs, TraceArgs, parse_duration, parse_size},
    child,
    destination::Destination,
    failure::{Failure, SUCCESS},
    judge::JudgeArgs,
    output::{NO_NAMES, NO_TRACE, ReportFile, ReportFormat, cost, print, render},
    session,
};
use crate::aggregate::Snapshot;

const NO_STREAM: &str =
    "CMD writes to stdout, too, and would damage the session there: save it as a file (-o FILE)";

/// Trace until Ctrl-C, --duration, --stop-after or the end of CMD, then print the report
///
/// With CMD, only CMD and its descendants are recorded; everything is attached before it starts.
/// Its output is its own: the report then goes to stderr, and the exit code is CMD's (125 if
/// socktrace itself fails, 126 if CMD cannot be executed, 127 if there is no CMD). Without CMD the
/// report goes to stdout.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct Record {
    /// Stop after this long
    #[arg(short, long, value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Stop after this many events
    #[arg(long, value_name = "N")]
    stop_after: Option<u64>,
    /// Record the whole host although there is a CMD
    #[arg(short = 'a', long)]
    system_wide: bool,
    /// Write the report to this file, too (as its ending says: .json, .html, or text)
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Format of the report
    #[arg(long, value_name = "FORMAT")]
    format: Option<ReportFormat>,
    /// The same as --format json
    #[arg(long)]
    json: bool,
    /// Save the session as this file, which must not exist; - is stdout
    /// [default: socktrace-HOST-TIME.jsonl.zst]
    #[arg(short, long, value_name = "FILE", conflicts_with = "no_save")]
    output: Option<PathBuf>,
    /// Save no session
    #[arg(long)]
    no_save: bool,
    /// Save about this much at most, like 100M: the session goes on in a second file, FILE.1, and then in
    /// the first again; each can be reported by itself
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "no_save")]
    max_size: Option<u64>,
    /// How often totals are saved: a tracer that is killed loses no more than this
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
    #[command(flatten)]
    judge: JudgeArgs,
    /// Replace names and addresses by pseudonyms, in the session and in the report
    #[arg(long)]
    redact: bool,
    /// Run CMD with all of socktrace's privileges, not as the user who called sudo
    #[arg(long)]
    keep_privileges: bool,
    /// Run CMD as this user (name or uid), not as the one who called sudo
    #[arg(long, value_name = "USER", value_parser = child::parse_user, requires = "command")]
    #[arg(conflicts_with = "keep_privileges")]
    user: Option<child::RunAs>,
    #[command(flatten)]
    filters: FilterArgs,
    #[command(flatten)]
    trace: TraceArgs,
    /// Command to run and record
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// `record` as another command calls it, with the flags of the command line.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    record: Record,
}

impl Record {
    /// From the words of a command line behind `record`.
    pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, Failure> {
        let line = std::iter::once(OsString::from("record")).chain(words);
        let line = Line::try_parse_from(line).map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(line.record)
    }
}

/// What happens to a target in this time; `filters` are the flags that select it.
pub(super) fn on_target(duration: Duration, filters: &[OsString]) -> Result<Snapshot, Failure> {
    let lasting = format!("{}ns", duration.as_nanos());
    let words = ["-d".into(), lasting.into(), "--no-save".into()]
        .into_iter()
        .chain(filters.iter().cloned());
    Ok(Record::parse(words)?.record(None)?.snapshot)
}

impl Record {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        // What is on stdout is CMD's, or the session.
        if self.command.is_empty() && !self.streams() {
            self.run_to(stdout(), || ())
        } else {
            self.run_to(stderr(), || ())
        }
    }

    /// Records and prints the report to `stream`; calls `at_end` when that is done.
    pub(super) fn run_to(
        self,
        stream: impl Write,
        at_end: impl FnOnce(),
    ) -> Result<ExitCode, Failure> {
        let format = if self.json { Some(ReportFormat::Json) } else { self.format };
        if format == Some(ReportFormat::Perfetto) {
            return Err(Failure::Usage(NO_TRACE.to_owned()));
        }
        if self.redact && (self.filters.ask_for_names() || self.judge.asks_for_names()) {
            return Err(Failure::Usage(NO_NAMES.to_owned()));
        }
        if self.streams() && !self.command.is_empty() {
            return Err(Failure::Usage(NO_STREAM.to_owned()));
        }
        let mut file = match &self.report {
            Some(path) => Some(ReportFile::create(path, format)?),
            None => None,
        };
        let recorded = self.destination().and_then(|to| self.record(to));
        let Recorded { snapshot, saved: session, status, running } = match recorded {
            Err(failure) if !self.command.is_empty() => {
                return Err(Failure::BeforeCommand(Box::new(failure)));
            }
            recorded => recorded?,
        };
        if self.trace.verbose {
            session::tell_programs(&snapshot);
        }
        let text = render(&snapshot, format.unwrap_or(ReportFormat::Text), Some(cost()));
        // All are tried, and CMD's end is passed on, whatever becomes of them.
        let reported = file.as_mut().map_or(Ok(()), |file| file.write(&snapshot));
        let printed = text.and_then(|text| print(stream, "the report", &text));
        let judged = self.judge.judge(&snapshot);
        let status = status.or_else(|| running.and_then(Running::wait));
        let failures = [session, reported, printed].into_iter().filter_map(Result::err);
        // Whoever closed a pipe has seen enough; each of the others is told.
        let own = failures.filter(|it| !it.is_closed_pipe()).map(|it| it.report()).last();
        // Who ends like CMD may end of its signal.
        at_end();
        // CMD's failure is told before socktrace's own.
        let failed = || status.filter(|status| !status.success()).map(child::exit_like);
        Ok(judged.or_else(failed).or(own).unwrap_or(SUCCESS))
    }

    /// Whether the session goes to stdout.
    fn streams(&self) -> bool {
        self.output.as_deref().is_some_and(|path| path.as_os_str() == "-")
    }

    /// Where the session goes; `None` where it is not saved.
    fn destination(&self) -> Result<Option<Destination>, Failure> {
        if self.no_save {
            return Ok(None);
        }
        // Nobody's file is made where nothing can be recorded.
        session::check_privileges()?;
        let destination = if let Some(path) = &self.output {
            Destination::create(path, self.max_size)
        } else {
            let host = if self.redact { "redacted".to_owned() } else { session::host_name() };
            Destination::create_named(&host, SystemTime::now(), self.max_size)
        };
        destination.map(Some)
    }
}
