//! Where reports go: a stream, and a file that is never somebody else's.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Read as _, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt, fchown},
    },
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use clap::ValueEnum;
use nix::sys::resource::{UsageWho, getrusage};

use super::{failure::Failure, stream::UntilClosed};
use crate::{
    aggregate::Snapshot,
    redact::Redactor,
    render::{Cost, escape::escape, html, json, text},
};

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// `--format` of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// One page for a browser, complete in itself
    Html,
    /// Trace Event Format, for the Perfetto UI (of saved sessions)
    Perfetto,
}

/// A file to write to, opened before there is anything to write.
pub(super) struct OutputFile {
    path: PathBuf,
    file: File,
}

/// A report file, opened before anything is attached.
pub(super) struct ReportFile {
    output: OutputFile,
    format: ReportFormat,
}

impl OutputFile {
    /// Creates `path`, mode 0600, for the user who called sudo; or takes an existing one, to be
    /// emptied when it is written, if it is a regular file of that user or of root with no other
    /// name. Never through a link.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let file =
            open_report(path).map_err(|source| Failure::Output { path: shown(path), source })?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// The format that the file's ending asks for.
    pub(super) fn format(&self) -> ReportFormat {
        match self.path.extension() {
            Some(ending) if ending == "json" => ReportFormat::Json,
            Some(ending) if ending == "html" => ReportFormat::Html,
            _ => ReportFormat::Text,
        }
    }

    /// Empties it and writes what `fill` writes.
    pub(super) fn write(
        &mut self,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let written = self.file.set_len(0).and_then(|()| {
            let mut buffered = BufWriter::new(&self.file);
            fill(&mut buffered)?;
            buffered.flush()
        });
        written
            .and_then(|()| self.file.sync_all())
            .map_err(|source| Failure::Output { path: shown(&self.path), source })
    }
}

impl ReportFile {
    /// As [`OutputFile::create`]. The format is `asked`, or by the file's ending.
    pub(super) fn create(path: &Path, asked: Option<ReportFormat>) -> Result<Self, Failure> {
        let output = OutputFile::create(path)?;
        let format = asked.unwrap_or_else(|| output.format());
        Ok(Self { output, format })
    }

    /// Writes the report.
    pub(super) fn write(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        let text = render(snapshot, self.format, Some(cost()))?;
        self.output.write(|file| file.write_all(text.as_bytes()))
    }
}

/// A path for a message.
pub(super) fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes()).into_owned()
}

fn open_report(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Not to wait for a reader of a FIFO.
    options.write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let invoker = super::child::invoking_user().filter(|_| nix::unistd::geteuid().is_root());
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            if let Some((uid, gid)) = invoker {
                fchown(&file, Some(uid), Some(gid))?;
            }
            return Ok(file);
        }
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Err(_) => {}
    }
    let file = options.open(path)?;
    let found = file.metadata()?;
    let own = found.uid() == nix::unistd::geteuid().as_raw()
        || invoker.is_some_and(|(uid, _)| found.uid() == uid);
    if !found.is_file() || found.nlink() != 1 || !own {
        return Err(io::Error::other(
            "it exists and is not a regular file of yours with one name; name another one",
        ));
    }
    Ok(file)
}

/// The report in one of its formats. A time line is made of events, which a snapshot does not have.
pub(super) fn render(
    snapshot: &Snapshot,
    format: ReportFormat,
    cost: Option<Cost>,
) -> Result<String, Failure> {
    match format {
        ReportFormat::Text => Ok(text::render_report(snapshot, cost)),
        ReportFormat::Json => Ok(format!("{:#}\n", json::render_report(snapshot))),
        ReportFormat::Html => Ok(html::render_report(snapshot, cost)),
        ReportFormat::Perfetto => Err(Failure::Usage(NO_TRACE.to_owned())),
    }
}

/// Why `record` does not write one.
pub(super) const NO_TRACE: &str = "a time line for Perfetto is made of a saved session: record without \
                                   this format, then run socktrace report FILE --format perfetto";

/// Why names are not asked for where there are none.
pub(super) const NO_NAMES: &str = "--redact replaces the names and addresses that --comm, --path and --fail-on \
                                   ask for; save the session without it, and give only one of them to \
                                   socktrace report";

/// Makes pseudonyms that nobody can take back: its key is kept nowhere.
pub(super) fn redactor() -> Result<Redactor, Failure> {
    let mut key = [0; 16];
    let random = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut key));
    random.map_err(|source| Failure::System { what: "cannot read /dev/urandom", source })?;
    Ok(Redactor::new(key))
}

/// Writes to stdout or stderr. Whoever closed the pipe has seen enough: what there is to judge is judged all the same.
pub(super) fn print(stream: impl Write, name: &str, text: &str) -> Result<(), Failure> {
    let mut stream = UntilClosed::new(stream);
    stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.flush())
        .map_err(|source| Failure::Output { path: name.to_owned(), source })
}

/// CPU time that was used before socktrace began: `cargo run` executes it in its own place.
static BEFORE: OnceLock<Duration> = OnceLock::new();

/// To be called first: from here on, the cost is socktrace's.
pub(super) fn begin_cost() {
    BEFORE.get_or_init(cpu_time);
}

/// What this process used so far.
pub(super) fn cost() -> Cost {
    let before = BEFORE.get().copied().unwrap_or_default();
    Cost { cpu: cpu_time().saturating_sub(before), peak_rss_bytes: read_peak_rss().unwrap_or(0) }
}

fn cpu_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let micros = |time: nix::sys::time::TimeVal| {
        u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000
            + u64::try_from(time.tv_usec()).unwrap_or(0)
    };
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

/// `VmHWM`, which begins anew with an execution.
fn read_peak_rss() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}
