//! `bench`: measures what tracers cost, for `cargo xtask bench`.
//!
//! ```text
//! bench PLAN         measures what the JSON file PLAN says, and prints it
//! bench load         prints what becomes of counts and events under loads, as rows of a table; the program is
//!                    SOCKTRACE_BIN
//! bench listeners IP many listeners of one process, until the end of stdin; `bench load` starts it
//! bench worker DIR   the process that is traced; `bench PLAN` starts it
//! ```

use std::io::{stdin, stdout};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use socktrace_tests::bench::{drive, listeners, load, serve};

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["worker", dir] => serve(stdin().lock(), stdout().lock(), Path::new(dir)),
        ["listeners", address] => listeners(address.parse()?, stdin().lock()),
        ["load"] => {
            let dir = tempfile::tempdir().context("a temporary directory")?;
            load(dir.path())
        }
        [plan] => {
            let text = std::fs::read(plan).with_context(|| format!("{plan} cannot be read"))?;
            let plan =
                serde_json::from_slice(&text).with_context(|| format!("{plan} is no plan"))?;
            let dir = tempfile::tempdir().context("a temporary directory")?;
            drive(&plan, dir.path())
        }
        _ => bail!("bench PLAN, bench load, or bench worker DIR"),
    }
}
