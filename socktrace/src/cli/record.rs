//! `record`: trace until something ends it, then report.

use std::{
    ffi::OsString,
    io::{Write, stderr, stdout},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitCode, ExitStatus},
    time::{Duration, Instant, SystemTime},
};

use clap::{Args, Parser};
use nix::sys::signal::Signal;
use tokio::{process::Child, runtime::Runtime};

use super::{
    args::{FilterArgs, TraceArgs, parse_duration},
    child,
    failure::{Failure, SUCCESS},
    judge::JudgeArgs,
    output::{NO_NAMES, NO_TRACE, ReportFile, ReportFormat, cost, print, redactor, render},
    saving::{Destination, Saving},
    session::{self, Came, Signals},
    tape::Tape,
};
use crate::{
    aggregate::{Aggregator, Snapshot},
    host::Host,
    live::{Live, LiveError},
    redact::Redacted,
    transport::Descendants,
};

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

/// A session's outcome.
pub(super) struct Recorded {
    /// The report.
    pub(super) snapshot: Snapshot,
    /// Whether the session could be saved, if it was to be.
    saved: Result<(), Failure>,
    /// How CMD ended, if it did.
    pub(super) status: Option<ExitStatus>,
    /// CMD, if it goes on.
    running: Option<Running>,
}

/// CMD beyond the end of the recording, with what it is waited for.
struct Running {
    child: Child,
    interrupts: u32,
    signals: Signals,
    runtime: Runtime,
}

/// Why recording stops.
enum Stop {
    Interrupted,
    Elapsed,
    Ended(ExitStatus),
}

impl Record {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        // What is on stdout is CMD's, or the session.
        let streams = self.output.as_deref().is_some_and(|path| path.as_os_str() == "-");
        if self.command.is_empty() && !streams {
            self.run_to(stdout())
        } else {
            self.run_to(stderr())
        }
    }

    /// Records and prints the report to `stream`.
    pub(super) fn run_to(self, stream: impl Write) -> Result<ExitCode, Failure> {
        let format = if self.json { Some(ReportFormat::Json) } else { self.format };
        if format == Some(ReportFormat::Perfetto) {
            return Err(Failure::Usage(NO_TRACE.to_owned()));
        }
        if self.redact && self.filters.ask_for_names() {
            return Err(Failure::Usage(NO_NAMES.to_owned()));
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
            session::tell_misses(&snapshot.completeness.misses);
        }
        let text = render(&snapshot, format.unwrap_or(ReportFormat::Text), Some(cost()));
        // All are tried, and CMD's end is passed on, whatever becomes of them.
        let reported = file.as_mut().map_or(Ok(()), |file| file.write(&snapshot));
        let printed = text.and_then(|text| print(stream, "the report", &text));
        let judged = self.judge.judge(&snapshot);
        let status = status.or_else(|| running.and_then(Running::wait));
        let code = match (session.and(reported).and(printed), status) {
            (Err(failure), None) => return Err(failure),
            (Err(failure), Some(_)) => failure.report(),
            (Ok(()), _) => SUCCESS,
        };
        if let Some(code) = judged {
            return Ok(code);
        }
        Ok(status.map_or(code, child::exit_like))
    }

    /// Where the session goes; `None` where it is not saved.
    fn destination(&self) -> Result<Option<Destination>, Failure> {
        if self.no_save {
            return Ok(None);
        }
        // Nobody's file is made where nothing can be recorded.
        session::check_privileges()?;
        Ok(Some(match &self.output {
            Some(path) => Destination::create(path)?,
            None => Destination::create_named(&session::host_name(), SystemTime::now())?,
        }))
    }

    /// Attaches, runs CMD, and takes everything in.
    fn record(&self, to: Option<Destination>) -> Result<Recorded, Failure> {
        let follow = !self.command.is_empty() && !self.system_wide;
        let filters = self.filters.filters(follow);
        let selection = self.filters.applied(follow);
        let options = self.trace.options(filters);
        let prepared = match session::prepare(&options) {
            Ok(prepared) => prepared,
            Err(failure) => {
                to.into_iter().for_each(Destination::abandon);
                return Err(failure);
            }
        };
        let mut redactor = self.redact.then(redactor).transpose()?;
        let session = prepared.session(&self.command);
        let session = match &mut redactor {
            Some(redactor) => redactor.session(session),
            None => session,
        };
        let header = session::header(session.clone(), selection.clone(), self.interval);
        let saving = to.map(|to| Saving::begin(to, &header)).transpose()?;
        let mut tape = Tape::new(saving, self.stop_after);
        let mut aggregator = Aggregator::new(session, selection);
        let runtime = session::runtime()?;
        let (traced, going_on) = runtime.block_on(async {
            let signals = Signals::catch()?;
            let session::Prepared { attached, lookout, investigator, .. } = prepared;
            let descendants = follow.then(|| Descendants::of(&attached.ebpf)).transpose();
            let descendants = descendants.map_err(LiveError::from)?;
            let live =
                Live::new(attached, lookout, investigator, Host::default(), self.trace.stall)?;
            let mut live = live.with_checkpoints(self.interval);
            live.select_listeners(&options.filters)?;
            if self.command.is_empty() {
                session::announce(live.verdicts(), "Ctrl-C ends it");
            }
            let mut live = Redacted::new(live, redactor);
            let descendants = descendants.as_ref();
            self.trace(&mut live, &mut aggregator, &mut tape, signals, descendants).await
        })?;
        let running = going_on.map(|(child, interrupts, signals)| Running {
            child,
            interrupts,
            signals,
            runtime,
        });
        Ok(Recorded { running, ..traced })
    }

    /// Runs CMD, if there is one, and records until something ends it. CMD, if it goes on, comes with
    /// how often it was interrupted.
    async fn trace(
        &self,
        live: &mut Redacted<Live>,
        aggregator: &mut Aggregator,
        tape: &mut Tape,
        mut signals: Signals,
        descendants: Option<&Descendants>,
    ) -> Result<(Recorded, Option<(Child, u32, Signals)>), Failure> {
        let begin = Instant::now();
        let mut child = if self.command.is_empty() {
            None
        } else {
            Some(child::spawn(&self.command, self.user.as_ref(), self.keep_privileges)?)
        };
        tape.begin(child.is_some());
        let mut duration = None;
        let mut interrupts = 0;
        let stop = async {
            let stop =
                wait_for_end(child.as_mut(), &mut signals, &mut interrupts, self.duration).await;
            duration = Some(begin.elapsed());
            if let (Stop::Ended(_), Some(descendants)) = (&stop, descendants) {
                session::tell(&child::note_descendants(descendants).unwrap_or_default());
            }
            stop
        };
        let ran = session::run(live, aggregator, tape, stop).await;
        let duration = duration.unwrap_or_else(|| begin.elapsed());
        let saved = tape.finish(aggregator, duration);
        let snapshot = aggregator.snapshot(duration);
        let recorded = Recorded { snapshot, saved, status: None, running: None };
        match (ran, child) {
            (Ok(Some(Stop::Ended(status))), _) => {
                Ok((Recorded { status: Some(status), ..recorded }, None))
            }
            (Ok(_), Some(child)) => Ok((recorded, Some((child, interrupts, signals)))),
            (Ok(_), None) => Ok((recorded, None)),
            // Recording broke off: CMD goes on, and is waited for.
            (Err(failure), child) => {
                if let Some(child) = child {
                    wait_or_leave(child, &mut signals, interrupts).await;
                }
                Err(failure)
            }
        }
    }
}

impl Running {
    /// Waits for CMD, with the report out already.
    fn wait(mut self) -> Option<ExitStatus> {
        if let Some(pid) = self.child.id() {
            let how = if self.interrupts < 2 { "the third Ctrl-C leaves" } else { "Ctrl-C leaves" };
            session::tell(&format!(
                "socktrace: recording has ended, and CMD (pid {pid}) goes on; socktrace ends with it, \
                 {how} it alone\n"
            ));
        }
        let wait = wait_or_leave(self.child, &mut self.signals, self.interrupts);
        self.runtime.block_on(wait)
    }
}

/// Waits for CMD once recording is over. The first Ctrl-C is CMD's here, too; the third leaves.
async fn wait_or_leave(
    mut child: Child,
    signals: &mut Signals,
    mut interrupts: u32,
) -> Option<ExitStatus> {
    loop {
        tokio::select! {
            status = child.wait() => return status.ok(),
            came = signals.next() => match came {
                Came::Interrupt if interrupts >= 2 => {
                    return Some(ExitStatus::from_raw(libc::SIGINT));
                }
                Came::Interrupt => interrupts += 1,
                Came::Terminate => child::pass_on(child.id(), Signal::SIGTERM),
            },
        }
    }
}

/// Waits for what ends a recording. With CMD, the first Ctrl-C is CMD's (the terminal has sent it
/// to both), the second ends the recording; without, the first one does.
async fn wait_for_end(
    mut child: Option<&mut Child>,
    signals: &mut Signals,
    interrupts: &mut u32,
    duration: Option<Duration>,
) -> Stop {
    let pid = child.as_ref().and_then(|child| child.id());
    let mut elapsed = std::pin::pin!(session::elapsed(duration));
    loop {
        let ended = async {
            match &mut child {
                Some(child) => child.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            status = ended => return status.map_or(Stop::Interrupted, Stop::Ended),
            () = &mut elapsed => return Stop::Elapsed,
            came = signals.next() => match came {
                Came::Terminate if pid.is_some() => child::pass_on(pid, Signal::SIGTERM),
                Came::Terminate => return Stop::Interrupted,
                Came::Interrupt => {
                    *interrupts += 1;
                    if pid.is_none() || *interrupts >= 2 {
                        return Stop::Interrupted;
                    }
                }
            },
        }
    }
}
