//! `demo`: makes a harmless incident and records it, so that a newcomer sees a true report.

use std::{ffi::OsString, io::stdout, process::ExitCode};

use clap::{Args, Parser, ValueEnum};

use super::{
    failure::{Failure, SUCCESS},
    output::print,
    record::Record,
    session::check_privileges,
};
use crate::demo::{self, Incident as Kind};

/// Make a harmless incident and record it: see a true report within seconds
///
/// Everything happens in a temporary directory or on a free port of 127.0.0.1, and is gone
/// afterwards.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Which incident
    scenario: Scenario,
}

/// The incident itself, in a process of its own.
#[derive(Debug, Args)]
pub(super) struct Incident {
    scenario: Scenario,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scenario {
    /// A client without permission on a Unix socket
    Eacces,
    /// A socket file that a server left behind
    StaleSocket,
    /// A server that accepts late
    Stall,
    /// A listener whose accept queue overflows
    Backlog,
    /// A server that runs out of descriptors
    FdLimit,
}

impl Scenario {
    const fn kind(self) -> Kind {
        match self {
            Self::Eacces => Kind::Eacces,
            Self::StaleSocket => Kind::StaleSocket,
            Self::Stall => Kind::Stall,
            Self::Backlog => Kind::Backlog,
            Self::FdLimit => Kind::FdLimit,
        }
    }
}

/// `record` as the demo calls it, with the flags of the command line.
#[derive(Parser)]
struct RecordLine {
    #[command(flatten)]
    record: Record,
}

impl Demo {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        check_privileges()?;
        let kind = self.scenario.kind();
        let shown =
            format!("{}\nThis is what `socktrace record -- …` says of it:\n\n", kind.story());
        print(stdout(), "stdout", &shown)?;
        let exe = std::env::current_exe().map_err(|source| Failure::System {
            what: "cannot find socktrace's own program to run the demo",
            source,
        })?;
        let name = self.scenario.to_possible_value().map(|value| value.get_name().to_owned());
        let line: [OsString; 6] = [
            "record".into(),
            "--keep-privileges".into(),
            "--".into(),
            exe.into(),
            "demo-incident".into(),
            name.unwrap_or_default().into(),
        ];
        let record = RecordLine::try_parse_from(line)
            .map_err(|error| Failure::Usage(error.to_string()))?
            .record;
        record.run_to(stdout())
    }
}

impl Incident {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        demo::play(self.scenario.kind())
            .map_err(|source| Failure::System { what: "the demo's incident went wrong", source })?;
        Ok(SUCCESS)
    }
}
