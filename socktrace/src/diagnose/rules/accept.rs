//! Why `accept()` fails: descriptors of the process, files of the host.

use super::words::count;
use crate::{
    diagnose::{
        case::Case,
        rule::{Cause, Outcome, client, subject},
    },
    event::{Certainty, Phrase, Severity, phrase},
};

/// What most descriptors are, for evidence.
fn kinds(case: &Case) -> Vec<Phrase> {
    let Some(descriptors) = &case.descriptors else { return Vec::new() };
    let mut kinds: Vec<_> = descriptors.kinds.iter().collect();
    kinds.sort_by_key(|(_, number)| std::cmp::Reverse(**number));
    let line = |(kind, number): &(&String, &u64)| format!("{number} × {kind}").into();
    kinds.iter().take(5).map(line).collect()
}

pub(super) fn out_of_descriptors(case: &Case) -> Outcome {
    let known = case.descriptors.as_ref();
    let (open, limits) = (known.and_then(|it| it.open), known.and_then(|it| it.limits));
    if case.errno.is_none() {
        match open.zip(limits) {
            None => return Outcome::Unknown("the descriptors of the process and their limit"),
            Some((open, limits)) if (open as u64) < limits.soft => return Outcome::Clear,
            Some(_) => {}
        }
    }
    let numbers = open
        .zip(limits)
        .map_or(String::new(), |(open, limits)| format!(": {open} open, limit {}", limits.soft));
    let room = limits
        .filter(|limits| limits.hard > limits.soft)
        .map_or(String::new(), |limits| format!(" (it may go up to {} by itself)", limits.hard));
    Outcome::found(Cause {
        severity: Severity::Error,
        // EMFILE has this cause only.
        certainty: if case.errno.is_some() { Certainty::Measured } else { Certainty::Inferred },
        subject: subject(case),
        fact: phrase![client(case), " had no descriptor left", numbers],
        consequence: "connections wait in its queue meanwhile, and are dropped when that is full"
            .into(),
        fix: phrase![
            "raise the limit (LimitNOFILE=, ulimit -n)",
            room,
            ", or find what the process does not close"
        ],
        evidence: kinds(case),
    })
}

pub(super) fn out_of_files(case: &Case) -> Outcome {
    let host = case.descriptors.as_ref().and_then(|it| it.host);
    if case.errno.is_none() {
        match host {
            None => return Outcome::Unknown("how many files the host has open"),
            Some((open, limit)) if open < limit => return Outcome::Clear,
            Some(_) => {}
        }
    }
    let numbers = host.map_or(String::new(), |(open, limit)| {
        format!(": {} open, fs.file-max is {limit}", count(open, "file"))
    });
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: if case.errno.is_some() { Certainty::Measured } else { Certainty::Inferred },
        subject: subject(case),
        fact: phrase!["the host had no file left", numbers],
        consequence: "no process without CAP_SYS_ADMIN can open another".into(),
        fix: "find who holds them (lsof), or raise fs.file-max".into(),
        evidence: Vec::new(),
    })
}
