//! Where `record` saves a session: new files of the invoking user, or stdout.
//!
//! Owns what the files are called, and that nobody's file is written to.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
    thread,
    time::SystemTime,
};

use nix::{
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    unistd::{Gid, Uid, setfsgid, setfsuid},
};

use super::{failure::Failure, output::shown};

/// Why a stream has no largest size.
const NO_TURNS: &str = "--max-size takes files, which are written in turns; leave it out with -o -";

/// Where a session goes, opened before anything is attached.
pub(super) enum Destination {
    /// Files that were not there before: one, or two in turns.
    Files {
        /// Where it begins.
        first: NewFile,
        /// Where it goes on when the first is full, and the size that a file has then.
        second: Option<(NewFile, u64)>,
    },
    /// stdout.
    Stream,
}

/// A file that socktrace made.
pub(super) struct NewFile {
    /// Where.
    pub(super) path: PathBuf,
    /// What is written to.
    pub(super) file: File,
}

impl Destination {
    /// `-` is stdout. With a largest size on disk, two files share it.
    pub(super) fn create(path: &Path, max_size: Option<u64>) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            return match max_size {
                None => Ok(Self::Stream),
                Some(_) => Err(Failure::Usage(NO_TURNS.to_owned())),
            };
        }
        survive_size_limit();
        let first = NewFile::create(path)?;
        let Some(max_size) = max_size else { return Ok(Self::Files { first, second: None }) };
        match NewFile::create(&second_name(path)) {
            Ok(second) => Ok(Self::Files { first, second: Some((second, max_size / 2)) }),
            Err(failure) => {
                first.abandon();
                Err(failure)
            }
        }
    }

    /// A file in the working directory that is named after host and time.
    pub(super) fn create_named(
        host: &str,
        now: SystemTime,
        max_size: Option<u64>,
    ) -> Result<Self, Failure> {
        Self::create(Path::new(&default_name(host, now)), max_size)
    }

    /// Removes the files, which have no session: nothing was recorded.
    pub(super) fn abandon(self) {
        if let Self::Files { first, second } = self {
            first.abandon();
            if let Some((second, _)) = second {
                second.abandon();
            }
        }
    }
}

impl NewFile {
    /// It must not be there: nothing is overwritten, and no link followed.
    fn create(path: &Path) -> Result<Self, Failure> {
        let failed = |source| Failure::Session { path: shown(path), source };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(path).map_err(failed)?;
        let invoker = super::child::invoking_user().filter(|_| nix::unistd::geteuid().is_root());
        if let Some((uid, gid)) = invoker {
            let given = fchown(&file, Some(uid), Some(gid));
            let file = Self { path: path.to_path_buf(), file };
            return match given {
                Ok(()) => Ok(file),
                Err(error) => {
                    file.abandon();
                    Err(failed(error))
                }
            };
        }
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Removes it.
    pub(super) fn abandon(self) {
        let Self { path, file } = self;
        let same = |path: &Path| {
            let (there, own) = (fs::symlink_metadata(path)?, file.metadata()?);
            Ok::<_, io::Error>((there.dev(), there.ino()) == (own.dev(), own.ino()))
        };
        // Whoever put another file there keeps it, and one without a session harms nobody.
        if same(&path).unwrap_or(false) && fs::remove_file(&path).is_err() {
            as_invoker(|| fs::remove_file(&path));
        }
    }

    /// Brings it to the disk. One that was removed meanwhile is no session that anybody could read.
    pub(super) fn finish(self) -> io::Result<PathBuf> {
        self.file.sync_all()?;
        match self.file.metadata()?.nlink() {
            0 => Err(io::Error::other("it was removed while it was written")),
            _ => Ok(self.path),
        }
    }

    /// Forgets what is behind this length, and goes on there.
    pub(super) fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.file.seek(SeekFrom::Start(length)).map(|_| ())
    }
}

/// What root without its capabilities may not do in the directory of the user who called sudo, that user may: on
/// a thread of its own, which ends with it.
fn as_invoker(act: impl FnOnce() -> io::Result<()> + Send) {
    let Some((uid, gid)) = super::child::invoking_user() else { return };
    thread::scope(|scope| {
        let acting = thread::Builder::new().spawn_scoped(scope, || {
            setfsgid(Gid::from_raw(gid));
            setfsuid(Uid::from_raw(uid));
            act()
        });
        // What stays is an empty file.
        drop(acting);
    });
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

/// The file that is written in turns with this one.
fn second_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// `socktrace-HOST-TIME.jsonl.zst`; a host name with other characters than letters, digits, dots and
/// hyphens has them replaced.
fn default_name(host: &str, now: SystemTime) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let host: String = host.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let time = humantime::format_rfc3339_seconds(now).to_string().replace(['-', ':'], "");
    format!("socktrace-{host}-{time}.jsonl.zst")
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
