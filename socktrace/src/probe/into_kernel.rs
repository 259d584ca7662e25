//! Puts chosen programs into the kernel: all are loaded, which takes its verifier some time, and then
//! attached in order. What it refuses is told in words.

use std::{
    num::NonZero,
    sync::{Mutex, PoisonError},
    thread,
};

use aya::{
    Btf, Ebpf,
    programs::{Program as Loaded, ProgramError},
};

use super::{Kind, Program, attach::AttachError, side_by_side::side_by_side};
use crate::kernel::{Facts, Tracefs, limit_may_refuse};

/// The first program that the kernel refused, and why.
pub(super) type Outcome = Result<(), (Program, String)>;

/// Loads all programs and attaches them in order, up to the first refusal. Perf tracepoints need
/// tracefs, so all of it runs where that is.
pub(super) fn attach_programs(
    ebpf: &mut Ebpf,
    facts: &Facts,
    programs: &[Program],
) -> Result<Outcome, AttachError> {
    let tracing = programs.iter().filter(|it| matches!(it.kind, Kind::Fentry | Kind::Fexit));
    let hooked: Vec<&str> = tracing.filter_map(|it| it.targets.first().copied()).collect();
    let btf = if hooked.is_empty() {
        None
    } else {
        let functions = facts.btf.file_of_functions(&hooked);
        let parsed = Btf::parse(&functions, aya::Endianness::default());
        Some(parsed.map_err(|error| AttachError::Load(error.into()))?)
    };
    if let Err(refused) = load_programs(ebpf, btf.as_ref(), programs) {
        return Ok(Err(refused));
    }
    let all = || {
        for program in programs {
            let result = attach_program(ebpf, program);
            result.map_err(|error| (*program, refusal(program, &error)))?;
        }
        Ok(())
    };
    let tracefs = facts.tracefs.as_ref().copied().unwrap_or(Tracefs::Mounted);
    tracefs.with(all).map_err(AttachError::Tracefs)
}

/// Loads every program, on every CPU; of those that are refused, the first of the list is told.
fn load_programs(ebpf: &mut Ebpf, btf: Option<&Btf>, programs: &[Program]) -> Outcome {
    let position = |name: &str| programs.iter().position(|program| program.name == name);
    let found = ebpf.programs_mut().filter_map(|(name, loaded)| Some((position(name)?, loaded)));
    let mut wanted: Vec<(usize, &mut Loaded)> = found.collect();
    wanted.sort_unstable_by_key(|(at, _)| *at);
    let first_refused = Mutex::new(None);
    side_by_side(
        thread::available_parallelism().map_or(1, NonZero::get),
        wanted,
        |(at, loaded)| {
            let Err(error) = load_program(loaded, btf, &programs[at]) else { return };
            let mut first = first_refused.lock().unwrap_or_else(PoisonError::into_inner);
            if first.as_ref().is_none_or(|(earlier, _)| at < *earlier) {
                *first = Some((at, error));
            }
        },
    );
    match first_refused.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((at, error)) => Err((programs[at], refusal(&programs[at], &error))),
        None => Ok(()),
    }
}

/// The kernel verifies a tracing program for the first of its targets.
fn load_program(
    loaded: &mut Loaded,
    btf: Option<&Btf>,
    program: &Program,
) -> Result<(), ProgramError> {
    let target = program.targets.first().ok_or(ProgramError::UnexpectedProgramType)?;
    match (loaded, btf) {
        (Loaded::FEntry(it), Some(btf)) => it.load(target, btf),
        (Loaded::FExit(it), Some(btf)) => it.load(target, btf),
        (Loaded::KProbe(it), _) => it.load(),
        (Loaded::TracePoint(it), _) => it.load(),
        (Loaded::RawTracePoint(it), _) => it.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn attach_program(ebpf: &mut Ebpf, program: &Program) -> Result<(), ProgramError> {
    let loaded = ebpf.program_mut(program.name).ok_or(ProgramError::NotLoaded)?;
    for target in program.targets {
        match loaded {
            Loaded::FEntry(it) => it.attach().map(|_| ()),
            Loaded::FExit(it) => it.attach().map(|_| ()),
            Loaded::KProbe(it) => it.attach(target, 0).map(|_| ()),
            Loaded::TracePoint(it) => {
                let (category, name) = target.split_once(':').unwrap_or(("", target));
                it.attach(category, name).map(|_| ())
            }
            Loaded::RawTracePoint(it) => it.attach(target).map(|_| ()),
            _ => Err(ProgramError::UnexpectedProgramType),
        }?;
    }
    Ok(())
}

/// A refusal in words: which hook, and what the kernel said. Of the verifier's log the end tells
/// why.
fn refusal(program: &Program, error: &ProgramError) -> String {
    let target = program.targets.join(", ");
    let said = match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
            let end = lines[lines.len().saturating_sub(3)..].join(" / ");
            let limit = limit_may_refuse(io_error).map(|limit| format!("; {limit}"));
            format!("{io_error}; verifier: {end}{}", limit.unwrap_or_default())
        }
        error => with_sources(error),
    };
    let words = format!("the kernel refused the hook on {target} ({said})");
    // On one line, whatever the verifier has written.
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        said = format!("{said}: {inner}");
        source = inner.source();
    }
    said
}
