//! The `socktrace` program: parse, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    socktrace::cli::Cli::parse().run()
}
