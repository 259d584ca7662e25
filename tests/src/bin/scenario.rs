//! `scenario`: makes socket incidents for real and prints, as one JSON object, what it saw itself.
//!
//! ```text
//! scenario [--gate DIR] [--port N] all | NAME...   incidents
//! scenario [--gate DIR] flood N [TARGET]           N refused Unix connects, fast
//! scenario scatter N                               N Unix connects, each to another path that is missing
//! scenario --gate DIR pulse                        a steady beat of incidents, with a log DIR/pulse
//! scenario --gate DIR hold here|netns|pinned       listeners that stay until the gate opens
//! scenario --gate DIR staged NAME                  an incident whose first part lies before the gate
//! scenario netns [NAME=VALUE...] -- PROGRAM ARGS   PROGRAM in a network namespace of its own
//! scenario amid PROGRAM ARGS                       PROGRAM while a full listener drops SYNs
//! scenario exit N | kill SIGNAL | sleep MS         ends as told
//! scenario inherits                                prints what it was run with
//! scenario background MS                           ends, and leaves a child that sleeps
//! scenario --gate DIR wait | deaf                  waits; takes no notice of Ctrl-C
//! scenario --gate DIR withhold                     a process that holds back what /proc tells of it
//! scenario measured FILE PROGRAM ARGS              runs a program, and writes how much memory it had
//! scenario shell TTY [FLAG...] -- PROGRAM ARGS     a job in a terminal
//! ```
//! With `--gate` it first writes `DIR/ready`, waits for `DIR/go`, and ends with `DIR/done`; with `--stay`
//! not before there is `DIR/dismissed`.
//! It needs nothing but `/proc` and `/tmp`, and root for most incidents.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, raise};
use socktrace_tests::harness::measured::measure;
use socktrace_tests::scenario::flood::{flood, scatter};
use socktrace_tests::scenario::gate::Gate;
use socktrace_tests::scenario::held::{Place, hold};
use socktrace_tests::scenario::record::Seen;
use socktrace_tests::scenario::stage::Stage;
use socktrace_tests::scenario::withholding::withhold;
use socktrace_tests::scenario::{amid, clock, command, edges, netns, play_and_count, pulse, shell};

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("scenario: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What was asked for, apart from the incidents' names.
#[derive(Default)]
struct Options {
    gate: Option<PathBuf>,
    stay: bool,
    port: Option<u16>,
}

fn run(args: Vec<String>) -> Result<ExitCode> {
    let (options, rest) = parse(args)?;
    let words: Vec<&str> = rest.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["exit", code] => return Ok(ExitCode::from(code.parse::<u8>().context("exit code")?)),
        ["kill", signal] => raise(signal.parse::<Signal>().context("signal")?)?,
        ["hold", place] => {
            let dir = options.gate.as_deref().context("hold needs --gate")?;
            hold(Place::named(place)?, dir)?;
        }
        ["inherits"] => println!("{}", serde_json::to_string(&command::inherited()?)?),
        ["background", ms] => command::leave_child(ms)?,
        ["deaf"] => {
            command::deaf(&Gate::at(options.gate.as_deref().context("deaf needs --gate")?))?;
        }
        ["withhold"] => {
            withhold(&Gate::at(options.gate.as_deref().context("withhold needs --gate")?))?;
        }
        ["wait"] => Gate::at(options.gate.as_deref().context("wait needs --gate")?).arrive()?,
        ["amid", ..] => return amid::run(&rest[1..]),
        ["measured", ..] => return measure(&rest[1..]),
        ["shell", ..] => shell::run(&rest[1..])?,
        ["netns", ..] => netns::enter_and_execute(&rest[1..])?,
        ["sleep", ms] => clock::sleep_ms(ms.parse().context("milliseconds")?),
        _ => print(&incidents(&options, &rest, &words)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(args: Vec<String>) -> Result<(Options, Vec<String>)> {
    let mut options = Options::default();
    let mut rest = Vec::new();
    let mut args = args.into_iter();
    while let Some(word) = args.next() {
        let mut value = || args.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--stay" => options.stay = true,
            "--gate" => options.gate = Some(value()?.into()),
            "--port" => options.port = Some(value()?.parse().context("--port")?),
            // Everything after it is for somebody else.
            "amid" | "measured" | "netns" | "shell" if rest.is_empty() => {
                rest.push(word);
                rest.extend(args.by_ref());
            }
            flag if flag.starts_with('-') => bail!("unknown option `{flag}`"),
            _ => rest.push(word),
        }
    }
    Ok((options, rest))
}

fn incidents(options: &Options, names: &[String], words: &[&str]) -> Result<Seen> {
    let gate = options.gate.as_deref().map(Gate::at);
    let mut stage = Stage::new(options.port)?;
    if let ["staged", name] = words {
        edges::play_staged(name, &mut stage, gate.as_ref().context("staged needs --gate")?)?;
        return Ok(stage.into_seen());
    }
    if let Some(gate) = &gate {
        gate.arrive()?;
    }
    let seen = if let ["pulse"] = words {
        let dir = options.gate.as_deref().context("pulse needs --gate")?;
        pulse::beat(&mut stage, &Gate::at(dir), dir)?;
        stage.into_seen()
    } else if let ["flood", count, target @ ..] = words {
        let count = count.parse().context("flood N")?;
        flood(&mut stage, count, target.first().map(Path::new))?;
        stage.into_seen()
    } else if let ["scatter", count] = words {
        scatter(&stage, count.parse().context("scatter N")?)?;
        stage.into_seen()
    } else {
        play_and_count(names, stage)?
    };
    if let Some(gate) = &gate {
        gate.leave()?;
        if options.stay {
            gate.stay()?;
        }
    }
    Ok(seen)
}

fn print(seen: &Seen) -> Result<()> {
    println!("{}", serde_json::to_string(seen)?);
    Ok(())
}
