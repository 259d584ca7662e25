//! `demo`: makes a harmless incident and records it, so that a newcomer sees a true report.

use std::{
    ffi::OsString,
    io::{self, stdout},
    path::PathBuf,
    process::ExitCode,
};

use clap::{
    Args,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};

use super::{
    failure::{Failure, SUCCESS},
    output::print,
    record::Record,
    session::check_privileges,
};
use crate::demo::{INCIDENTS, Incident as Kind, OwnDirectory, Scratch};

/// Make a harmless incident and record it: see a true report within seconds
///
/// Everything happens in a temporary directory, on a free port of the loopback, in namespaces or a cgroup of its own,
/// and is gone afterwards.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Which incident
    #[arg(value_parser = incidents())]
    scenario: Kind,
    /// Write the report to this file, too (as its ending says: .json, .html, or text)
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// The incident itself, in a process of its own.
#[derive(Debug, Args)]
pub(super) struct Incident {
    #[arg(value_parser = incidents())]
    scenario: Kind,
    /// A directory that is its own
    directory: PathBuf,
}

/// The incidents of the table, by name.
fn incidents() -> impl TypedValueParser<Value = Kind> {
    let known = INCIDENTS.iter().map(|it| PossibleValue::new(it.name).help(it.about));
    let missing = || "there is no such incident".to_owned();
    PossibleValuesParser::new(known).try_map(move |name| Kind::by_name(&name).ok_or_else(missing))
}

impl Demo {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        check_privileges()?;
        let Kind { name, story, .. } = self.scenario;
        let directory = OwnDirectory::make().map_err(wrong)?;
        let server = self.scenario.prepare().map_err(unprepared)?;
        let shown = format!("{story}\nThis is what `socktrace record -- …` says of it:\n\n");
        print(stdout(), "stdout", &shown)?;
        let exe = std::env::current_exe().map_err(|source| Failure::System {
            what: "cannot find socktrace's own program to run the demo",
            source,
        })?;
        let flags: [OsString; 2] = ["--no-save".into(), "--keep-privileges".into()];
        let report = self.report.map(|file| {
            let mut flag = OsString::from("--report=");
            flag.push(file);
            flag
        });
        let played: [OsString; 5] =
            ["--".into(), exe.into(), "demo-incident".into(), name.into(), directory.path().into()];
        let record = Record::parse(flags.into_iter().chain(report).chain(played))?;
        // When the report is written, and where Ctrl-C has ended the incident, too.
        record.run_to(stdout(), move || drop((server, directory)))
    }
}

impl Incident {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        self.scenario.play(&Scratch::at(self.directory)).map_err(wrong)?;
        Ok(SUCCESS)
    }
}

fn unprepared(source: io::Error) -> Failure {
    match source.kind() {
        io::ErrorKind::Unsupported => Failure::Demo(source),
        _ => wrong(source),
    }
}

fn wrong(source: io::Error) -> Failure {
    Failure::System { what: "the demo's incident went wrong", source }
}
