//! `report`: a saved session, as if it had just been recorded.

use std::{
    fs::{File, OpenOptions},
    future::pending,
    io::{Read, Write as _, stderr, stdin, stdout},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use clap::Args;

use super::{
    args::FilterArgs,
    failure::{Failure, INCOMPLETE, SUCCESS},
    output::{Format, OutputFile, print, render, shown},
    session,
};
use crate::{
    aggregate::{Aggregator, Snapshot, Verdict},
    pipeline::{self, Sink, StopAfter},
    render::text::Cost,
    session::{Reader, schema},
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
    /// Format of the report
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// The same as --format json
    #[arg(long)]
    json: bool,
    /// Write to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the JSON Schema of the lines of a session, and read none
    #[arg(long)]
    schema: bool,
    /// Read as root a file that belongs to somebody else
    #[arg(short, long)]
    force: bool,
    /// Exit with 4 if the data is not complete
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    filters: FilterArgs,
}

/// A session that was read.
struct Replayed {
    snapshot: Snapshot,
    /// What the tracer itself used; `None` where it did not live to say so.
    cost: Option<Cost>,
}

impl Report {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let Some(file) = self.file.as_deref().filter(|_| !self.schema) else {
            print(stdout(), "stdout", &format!("{:#}\n", schema()))?;
            return Ok(SUCCESS);
        };
        let mut output = self.output.as_deref().map(OutputFile::create).transpose()?;
        let asked = if self.json { Some(Format::Json) } else { self.format };
        let format = asked.or_else(|| Some(output.as_ref()?.format())).unwrap_or(Format::Text);
        let Replayed { snapshot, cost } = self.replay(file, &mut StopAfter::new(None))?;
        let text = render(&snapshot, format, cost);
        match &mut output {
            Some(output) => output.write(|file| file.write_all(text.as_bytes()))?,
            None => print(stdout(), "the report", &text)?,
        }
        let complete = snapshot.completeness.verdict == Verdict::Complete;
        Ok(if self.strict && !complete { ExitCode::from(INCOMPLETE) } else { SUCCESS })
    }

    fn replay(&self, path: &Path, sink: &mut impl Sink) -> Result<Replayed, Failure> {
        if path.as_os_str() == "-" {
            return self.replay_from(stdin().lock(), path, sink);
        }
        self.replay_from(open(path, self.force)?, path, sink)
    }

    fn replay_from(
        &self,
        from: impl Read,
        path: &Path,
        sink: &mut impl Sink,
    ) -> Result<Replayed, Failure> {
        let unreadable = |source| Failure::Unreadable { path: shown(path), source };
        let mut reader = Reader::open(from).map_err(unreadable)?;
        let header = reader.header().clone();
        let started_ns = header.session.started_ns;
        let mut aggregator =
            Aggregator::new(header.session, header.filters).narrowed(self.filters.selection());
        let run = async {
            let stop = pin!(pending::<()>());
            pipeline::run(&mut reader, &mut aggregator, sink, stop).await
        };
        session::runtime()?.block_on(run).map_err(|error| match error {
            pipeline::PipelineError::Source(source) => unreadable(source),
            pipeline::PipelineError::Sink(source) => {
                Failure::Output { path: "the report".to_owned(), source }
            }
        })?;
        if reader.unknown_kinds() != 0 {
            // Nobody to tell where stderr is closed.
            let _ = writeln!(
                stderr(),
                "socktrace: {} lines are of kinds that this version does not know; they were skipped",
                reader.unknown_kinds()
            );
        }
        let end = reader.end().cloned();
        let whole = end.as_ref().map(|end| Duration::from_nanos(end.duration_ns));
        let seen = Duration::from_nanos(reader.last_ns().saturating_sub(started_ns));
        let cost = end.map(|end| Cost {
            cpu: Duration::from_nanos(end.cpu_ns),
            peak_rss_bytes: end.peak_rss_bytes,
        });
        let snapshot = aggregator.snapshot(whole.unwrap_or(seen));
        Ok(Replayed { snapshot, cost })
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
