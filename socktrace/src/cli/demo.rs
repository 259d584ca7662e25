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
    /// Write the report to this file, too (as its ending says: .json, .html, or text)
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
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
        let flags: [OsString; 2] = ["--no-save".into(), "--keep-privileges".into()];
        let report = self.report.map(|file| {
            let mut flag = OsString::from("--report=");
            flag.push(file);
            flag
        });
        let played = ["--".into(), exe.into(), "demo-incident".into(), name.into()];
        Record::parse(flags.into_iter().chain(report).chain(played))?.run_to(stdout())
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
