//! The session file of `record`: a new file of the invoking user, or stdout.
//!
//! Owns what happens when it cannot be written: tracing goes on, the file stays readable and says that it
//! was cut short, and the command fails in the end.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write, stderr, stdout},
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
    time::SystemTime,
};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::{
    failure::{Failure, in_words},
    output::shown,
};
use crate::{
    aggregate::Aggregator,
    event::Record,
    session::{End, Header, Writer},
};

/// Where a session goes, opened before anything is attached.
pub(super) enum Destination {
    /// A file that was not there before.
    File(PathBuf, File),
    /// stdout.
    Stream,
}

/// A session that is being written.
pub(super) struct Saving {
    /// The file; `None` where it is stdout.
    path: Option<PathBuf>,
    writer: Writer<Target>,
    /// Where each of the last frames began.
    before: [u64; 2],
    started_ns: u64,
    /// Why nothing is written any more, and the error behind it.
    cut: Option<(String, io::Error)>,
}

/// A file or a stream.
enum Target {
    File(File),
    Stream,
}

impl Destination {
    /// `-` is stdout. A file must not be there: nothing is overwritten, and no link followed.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            return Ok(Self::Stream);
        }
        survive_size_limit();
        let failed = |source| Failure::Session { path: shown(path), source };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(path).map_err(failed)?;
        let invoker = super::child::invoking_user().filter(|_| nix::unistd::geteuid().is_root());
        if let Some((uid, gid)) = invoker {
            fchown(&file, Some(uid), Some(gid)).map_err(failed)?;
        }
        Ok(Self::File(path.to_path_buf(), file))
    }

    /// A file in the working directory that is named after host and time.
    pub(super) fn create_named(host: &str, now: SystemTime) -> Result<Self, Failure> {
        Self::create(Path::new(&default_name(host, now)))
    }

    /// Removes the file, which has no session: nothing was recorded.
    pub(super) fn abandon(self) {
        let Self::File(path, file) = self else { return };
        let same = |path: &Path| {
            let (there, own) = (fs::symlink_metadata(path)?, file.metadata()?);
            Ok::<_, io::Error>((there.dev(), there.ino()) == (own.dev(), own.ino()))
        };
        // Whoever put another file there keeps it, and one without a session harms nobody.
        if same(&path).unwrap_or(false) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// `socktrace-HOST-TIME.jsonl.zst`; a host name with other characters than letters, digits, dots and
/// hyphens has them replaced.
fn default_name(host: &str, now: SystemTime) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let host: String = host.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let time = humantime::format_rfc3339_seconds(now).to_string().replace(['-', ':'], "");
    format!("socktrace-{host}-{time}.jsonl.zst")
}

impl Saving {
    /// Writes the header.
    pub(super) fn begin(to: Destination, header: &Header) -> Result<Self, Failure> {
        let (path, opened) = match &to {
            Destination::File(path, file) => (Some(path.clone()), Target::of(file)),
            Destination::Stream => (None, Ok(Target::Stream)),
        };
        match opened.and_then(|target| Writer::new(target, header)) {
            Ok(writer) => {
                let started_ns = header.session.started_ns;
                Ok(Self { path, writer, before: [0; 2], started_ns, cut: None })
            }
            Err(source) => {
                to.abandon();
                Err(match path.as_deref().map(shown) {
                    Some(path) => Failure::Session { path, source },
                    None => Failure::Output { path: "stdout".to_owned(), source },
                })
            }
        }
    }

    /// Writes a record, until writing fails.
    pub(super) fn record(&mut self, record: &Record, so_far: &Aggregator) {
        if self.cut.is_some() {
            return;
        }
        let written = self.writer.written();
        match self.writer.record(record, so_far.totals()) {
            Ok(()) if self.writer.written() != written => self.before = [self.before[1], written],
            Ok(()) => {}
            Err(error) => self.cut_short(error, so_far.totals().time_ns),
        }
    }

    fn cut_short(&mut self, error: io::Error, now_ns: u64) {
        let seconds = now_ns.saturating_sub(self.started_ns) as f64 / 1e9;
        let why = format!("{} (later than {seconds:.1} s after the start)", in_words(&error));
        // A closed pipe has a reader who has seen enough.
        if error.kind() != io::ErrorKind::BrokenPipe {
            let name = self.name();
            // Nobody to tell where stderr is closed.
            let _ = writeln!(
                stderr(),
                "socktrace: the session is saved no further: {name}: {}; tracing goes on",
                in_words(&error)
            );
        }
        self.writer.discard();
        let written = self.writer.written();
        self.truncate(written);
        self.cut = Some((why, error));
    }

    /// Writes the end. An error is that of the session: the file says so itself, if there is room.
    pub(super) fn finish(
        mut self,
        so_far: &Aggregator,
        end: &End,
    ) -> Result<Option<PathBuf>, Failure> {
        let end = End { cut: self.cut.as_ref().map(|(why, _)| why.clone()), ..end.clone() };
        if let Err(error) = self.writer.finish(so_far.totals(), &end) {
            self.end_without_totals(&end, error);
        }
        if let Some((_, source)) = self.cut {
            let path = self.path.as_deref().map_or_else(|| "stdout".to_owned(), shown);
            return Err(Failure::Output { path, source });
        }
        if let Target::File(file) = self.writer.out() {
            let synced = file.sync_all().and_then(|()| still_has_a_name(file));
            let path = self.path.as_deref().map_or_else(String::new, shown);
            synced.map_err(|source| Failure::Output { path, source })?;
        }
        Ok(self.path)
    }

    /// The last line alone, if need be in the place of the last frames.
    fn end_without_totals(&mut self, end: &End, error: io::Error) {
        if self.cut.is_none() {
            self.cut_short(error, self.started_ns + end.duration_ns);
        }
        let end = End { cut: self.cut.as_ref().map(|(why, _)| why.clone()), ..end.clone() };
        for length in [self.writer.written(), self.before[1], self.before[0]] {
            self.writer.discard();
            // Without its header it would be no session.
            if length == 0 {
                return;
            }
            self.truncate(length);
            if self.writer.end(&end).is_ok() {
                return;
            }
        }
    }

    /// Nothing of a frame is left that was not written whole.
    fn truncate(&mut self, length: u64) {
        if let Target::File(file) = self.writer.out() {
            // What is left then is no whole frame: readers know that.
            let _ = file
                .set_len(length)
                .and_then(|()| io::Seek::seek(file, io::SeekFrom::Start(length)));
        }
    }

    fn name(&self) -> String {
        self.path.as_deref().map_or_else(|| "stdout".to_owned(), shown)
    }
}

impl Target {
    fn of(file: &File) -> io::Result<Self> {
        file.try_clone().map(Self::File)
    }
}

/// A file that was removed meanwhile is no session that anybody could read.
fn still_has_a_name(file: &File) -> io::Result<()> {
    match file.metadata()?.nlink() {
        0 => Err(io::Error::other("it was removed while it was written")),
        _ => Ok(()),
    }
}

/// Beyond `RLIMIT_FSIZE`, writing fails as on a full disk, and kills nobody. CMD gets the signal's default
/// action all the same: a handler ends with an execution.
fn survive_size_limit() {
    extern "C" fn ignored(_: libc::c_int) {}
    let handler =
        SigAction::new(SigHandler::Handler(ignored), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing, which is safe in any place. A refusal changes nothing.
    let _ = unsafe { sigaction(Signal::SIGXFSZ, &handler) };
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            // Past the buffer for lines: each frame goes out at once.
            Self::Stream => Ok(nix::unistd::write(stdout(), bytes)?),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_file_is_named_after_host_and_time_whatever_the_host_is_called() {
        let now = UNIX_EPOCH + Duration::from_hours(500_000);
        assert_eq!(
            default_name("web-1.lan", now),
            "socktrace-web-1.lan-20270115T080000Z.jsonl.zst"
        );
        assert_eq!(default_name("../a b", now), "socktrace-.._a_b-20270115T080000Z.jsonl.zst");
    }
}
