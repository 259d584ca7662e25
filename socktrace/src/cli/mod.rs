//! The commands: one file each, from arguments to wiring.

mod args;
mod check;
mod child;
mod demo;
mod destination;
mod diagnose;
mod explain;
mod failure;
mod judge;
mod listeners;
mod output;
mod progress;
mod record;
mod report;
mod saving;
mod session;
mod stream;
mod tape;
mod trace_file;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use failure::{Failure, SUCCESS};

/// Says who cannot connect, who does not accept in time, and which listener throws connections
/// away.
#[derive(Debug, Parser)]
#[command(name = "socktrace", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Record(record::Record),
    Report(report::Report),
    Watch(watch::Watch),
    Listeners(listeners::Listeners),
    Diagnose(diagnose::Diagnose),
    Check(check::Check),
    Explain(explain::Explain),
    Demo(demo::Demo),
    #[command(hide = true)]
    DemoIncident(demo::Incident),
}

impl Cli {
    /// Runs the command and prints what went wrong.
    pub fn run(self) -> ExitCode {
        output::begin_cost();
        let result = match self.command {
            Command::Record(command) => command.run(),
            Command::Report(command) => command.run(),
            Command::Watch(command) => command.run(),
            Command::Listeners(command) => command.run(),
            Command::Diagnose(command) => command.run(),
            Command::Check(command) => command.run(),
            Command::Explain(command) => command.run(),
            Command::Demo(command) => command.run(),
            Command::DemoIncident(command) => command.run(),
        };
        result.unwrap_or_else(|failure| failure.report())
    }
}
