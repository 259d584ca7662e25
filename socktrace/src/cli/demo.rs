//! `demo`: makes a harmless incident and records it, so that a newcomer sees a true report.

use std::{
    ffi::OsString,
    io::{self, stdout},
    process::ExitCode,
};

use clap::{
    Args, Parser,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};

use super::{
    failure::{Failure, SUCCESS},
    output::print,
    record::Record,
    session::check_privileges,
};
use crate::demo::{INCIDENTS, Incident as Kind};

/// Make a harmless incident and record it: see a true report within seconds
///
/// Everything happens in a temporary directory or on a free port of the loopback, and is gone
/// afterwards.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Which incident
    #[arg(value_parser = incidents())]
    scenario: Kind,
}

/// The incident itself, in a process of its own.
#[derive(Debug, Args)]
pub(super) struct Incident {
    #[arg(value_parser = incidents())]
    scenario: Kind,
}

/// The incidents of the table, by name.
fn incidents() -> impl TypedValueParser<Value = Kind> {
    let known = INCIDENTS.iter().map(|it| PossibleValue::new(it.name).help(it.about));
    let missing = || "there is no such incident".to_owned();
    PossibleValuesParser::new(known).try_map(move |name| Kind::by_name(&name).ok_or_else(missing))
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
        let Kind { name, story, .. } = self.scenario;
        let shown = format!("{story}\nThis is what `socktrace record -- …` says of it:\n\n");
        print(stdout(), "stdout", &shown)?;
        // Ends with this scope.
        let _server = self.scenario.prepare().map_err(wrong)?;
        let exe = std::env::current_exe().map_err(|source| Failure::System {
            what: "cannot find socktrace's own program to run the demo",
            source,
        })?;
        let line: [OsString; 7] = [
            "record".into(),
            "--no-save".into(),
            "--keep-privileges".into(),
            "--".into(),
            exe.into(),
            "demo-incident".into(),
            name.into(),
        ];
        let record = RecordLine::try_parse_from(line)
            .map_err(|error| Failure::Usage(error.to_string()))?
            .record;
        record.run_to(stdout())
    }
}

impl Incident {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        self.scenario.play().map_err(wrong)?;
        Ok(SUCCESS)
    }
}

fn wrong(source: io::Error) -> Failure {
    Failure::System { what: "the demo's incident went wrong", source }
}
