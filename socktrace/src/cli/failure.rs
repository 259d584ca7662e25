//! What a command ends with: exit codes and the sentence before them.

use std::{io, process::ExitCode};

use nix::errno::Errno;

use crate::{
    host::{HostError, sock_diag::SockDiagError},
    kernel::Missing,
    live::LiveError,
    pipeline::PipelineError,
    probe::AttachError,
    session::ReadError,
};

/// All is well.
pub const SUCCESS: ExitCode = ExitCode::SUCCESS;
/// A finding met `--fail-on`.
pub(super) const FOUND: u8 = 1;
/// A command line that asks for what does not exist.
const USAGE: u8 = 2;
/// A missing privilege or kernel feature.
const UNABLE: u8 = 3;
/// Incomplete data under `--strict`.
pub(super) const INCOMPLETE: u8 = 4;
/// socktrace itself failed before CMD ran.
const OWN: u8 = 125;
/// CMD cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// CMD does not exist.
const NOT_FOUND: u8 = 127;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Bad input that the parser cannot see.
    #[error("{0}")]
    Usage(String),
    /// Privileges.
    #[error("{}", missing_sentence(.0))]
    Privileges(Vec<Missing>),
    /// Outside the initial pid namespace.
    #[error(
        "this process is not in the initial pid namespace, whose pids the kernel's hooks see; run \
         socktrace on the host, or in a container with the host's pid namespace (--pid=host)"
    )]
    PidNamespace,
    /// Attaching.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Tracing.
    #[error(transparent)]
    Tracing(#[from] PipelineError<LiveError>),
    /// Setting up.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// `/proc`.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Not one list of sockets.
    #[error(transparent)]
    Listeners(#[from] SockDiagError),
    /// The command to record.
    #[error("cannot run {command}: {}", in_words(.source))]
    Command {
        /// Its name.
        command: String,
        /// What went wrong.
        source: io::Error,
    },
    /// A file to write.
    #[error("cannot write {path}: {}", in_words(.source))]
    Output {
        /// Which.
        path: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The session file of `record`.
    #[error(
        "cannot save the session as {path}: {}; name another file with -o, or save none with --no-save",
        in_words(.source)
    )]
    Session {
        /// Which.
        path: String,
        /// What went wrong.
        source: io::Error,
    },
    /// A file to read.
    #[error("cannot read {path}: {}", in_words(.source))]
    Input {
        /// Which.
        path: String,
        /// What went wrong.
        source: io::Error,
    },
    /// A session that is none.
    #[error("cannot read the session {path}: {source}")]
    Unreadable {
        /// Which.
        path: String,
        /// What went wrong.
        source: ReadError,
    },
    /// An incident that this host cannot have.
    #[error("this demo cannot be shown here: {0}")]
    Demo(io::Error),
    /// What went wrong before CMD could run.
    #[error(transparent)]
    BeforeCommand(Box<Failure>),
    /// Anything else from the system.
    #[error("{what}: {}", in_words(.source))]
    System {
        /// What was tried.
        what: &'static str,
        /// What went wrong.
        source: io::Error,
    },
}

/// The system's words for an error, with its name instead of its number.
pub(super) fn in_words(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(errno) => format!("{} ({errno:?})", errno.desc()),
        None => error.to_string(),
    }
}

fn missing_sentence(missing: &[Missing]) -> String {
    let each: Vec<String> = missing
        .iter()
        .map(|missing| format!("{} (to {})", missing.capability, missing.purpose))
        .collect();
    format!(
        "not allowed to trace: this process lacks {}; run it as root, for example with sudo",
        each.join(", ")
    )
}

impl Failure {
    /// Prints the sentence; a closed pipe ends quietly.
    pub fn report(&self) -> ExitCode {
        if self.is_closed_pipe() {
            return SUCCESS;
        }
        // Nothing is left to tell it to if stderr is closed.
        let _ = io::Write::write_all(&mut io::stderr(), format!("socktrace: {self}\n").as_bytes());
        ExitCode::from(self.code())
    }

    /// Whether the reader of a pipe has seen enough.
    pub(super) fn is_closed_pipe(&self) -> bool {
        let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        match self {
            Self::Tracing(PipelineError::Sink(source)) | Self::Output { source, .. } => {
                broken(source)
            }
            _ => false,
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::BeforeCommand(failure) => match failure.code() {
                UNABLE => OWN,
                code => code,
            },
            Self::Usage(_) | Self::Input { .. } | Self::Unreadable { .. } => USAGE,
            Self::Privileges(_)
            | Self::PidNamespace
            | Self::Demo(_)
            | Self::Attach(_)
            | Self::Host(_)
            | Self::Listeners(_) => UNABLE,
            Self::Command { source, .. } if source.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Self::Command { .. } => NOT_EXECUTABLE,
            Self::Tracing(_)
            | Self::Live(_)
            | Self::Session { .. }
            | Self::Output { .. }
            | Self::System { .. } => OWN,
        }
    }
}
