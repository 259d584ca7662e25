//! socktrace's own build, test and setup commands: `cargo xtask --help`.
//!
//! Owns the command line; each command lives in the file of its name.

mod apt;
mod apt_sources;
mod bench;
mod build_ebpf;
mod docs;
mod initramfs;
mod kernels;
mod libtest;
mod modules;
mod paths;
mod printed_tables;
mod process;
mod programs;
mod provenance;
mod qemu;
mod results;
mod services;
mod setup;
mod stages;
mod strip;
mod test;
mod toolchain;
mod tools;
mod verdict;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// socktrace's own build, test and setup commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// One variant per command file.
#[derive(Subcommand)]
enum Command {
    /// Install everything that building and testing needs (Debian, root; idempotent).
    Setup(setup::Arguments),
    /// Build the eBPF object and write it, with its record, to socktrace/bpf.
    BuildEbpf(build_ebpf::Arguments),
    /// Write what is generated in docs/ from its tables.
    Docs(docs::Arguments),
    /// Run the tests: everything, or one part.
    Test(test::Arguments),
    /// Measure what tracing costs, beside other tracers.
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        // No `Debug`: a backtrace of xtask helps nobody whose test failed.
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Setup(arguments) => setup::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::BuildEbpf(arguments) => build_ebpf::run(arguments),
        Command::Docs(arguments) => docs::run(arguments),
        Command::Test(arguments) => test::run(arguments),
    }
}
