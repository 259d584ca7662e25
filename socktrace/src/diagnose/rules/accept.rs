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
    let numbers = open.zip(limits).map_or(String::new(), |(open, limits)| {
        numbers(open as u64, limits.soft, case.errno.is_some())
    });
    let room = limits
        .filter(|limits| limits.hard > limits.soft)
        .map_or(String::new(), |limits| format!(" (it may go up to {} by itself)", limits.hard));
    Outcome::found(Cause {
        severity: Severity::Error,
        // EMFILE has this cause only; how many were open and allowed then is not known.
        certainty: if case.errno.is_some() { Certainty::Measured } else { Certainty::Inferred },
        subject: subject(case),
        fact: phrase![
            client(case),
            if case.errno.is_some() { " had" } else { " has" },
            " no descriptor left",
            numbers
        ],
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

/// Both are read after the failure: what was open may be closed since, and the limit another.
fn numbers(open: u64, limit: u64, afterwards: bool) -> String {
    match (afterwards, open < limit) {
        (false, _) => format!(": {open} are open, and the limit is {limit}"),
        (true, false) => format!(": when looked at afterwards, {open} of {limit} were open"),
        (true, true) => format!(
            ": when looked at afterwards, {open} of {limit} were open, so it has closed some \
             since, or its limit was another"
        ),
    }
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
    let (certainty, fact, fix): (_, Phrase, Phrase) = match (case.errno, host) {
        (None, Some((open, limit))) => (
            Certainty::Inferred,
            format!("the host has no file left: {} open, fs.file-max is {limit}", count(open, "file"))
                .into(),
            RAISE.into(),
        ),
        (_, Some((open, limit))) if open >= limit => (
            Certainty::Inferred,
            format!(
                "the host had no file left: when looked at afterwards, {} open, fs.file-max is {limit}",
                count(open, "file")
            )
            .into(),
            RAISE.into(),
        ),
        (_, host) => (
            Certainty::Unknown,
            phrase![
                "the host had no file left, or there was no memory for the new socket",
                host.map_or(String::new(), |(open, limit)| format!(
                    ": when looked at afterwards, {} open, fs.file-max is {limit}",
                    count(open, "file")
                ))
            ],
            "compare fs.file-nr with fs.file-max, and look at the memory limits of its cgroup".into(),
        ),
    };
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty,
        subject: subject(case),
        fact,
        consequence: "accept() fails, and the connection stays in the queue".into(),
        fix,
        evidence: Vec::new(),
    })
}

const RAISE: &str = "find who holds them (lsof), or raise fs.file-max";

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;
    use crate::{
        diagnose::case::{Descriptors, Question},
        event::Part,
        host::NofileLimits,
    };

    /// What is said behind the name of the client.
    fn told(errno: Option<Errno>, open: usize) -> Option<String> {
        let mut case = Case::new(Question::Accept, errno);
        case.client.pid = Some(7);
        case.descriptors = Some(Descriptors {
            open: Some(open),
            limits: Some(NofileLimits { soft: 100, hard: 100 }),
            ..Descriptors::default()
        });
        let Outcome::Found(found) = out_of_descriptors(&case) else { return None };
        let words = found[0].fact.0.iter().map(|part| match part {
            Part::Text(text) => text.to_string(),
            other => format!("{other:?}"),
        });
        Some(words.collect())
    }

    /// How sure it is that the host had no file left.
    fn sure(errno: Option<Errno>, open: u64) -> Option<Certainty> {
        let mut case = Case::new(Question::Accept, errno);
        case.descriptors = Some(Descriptors { host: Some((open, 100)), ..Descriptors::default() });
        let Outcome::Found(found) = out_of_files(&case) else { return None };
        Some(found[0].certainty)
    }

    #[test]
    fn enfile_is_want_of_files_only_where_the_host_has_none_left() {
        assert_eq!(sure(Some(Errno::ENFILE), 100), Some(Certainty::Inferred));
        assert_eq!(sure(Some(Errno::ENFILE), 6), Some(Certainty::Unknown), "it may be memory");
        assert_eq!(sure(None, 100), Some(Certainty::Inferred));
        assert_eq!(sure(None, 6), None);
    }

    #[test]
    fn numbers_that_were_read_afterwards_are_said_to_be() {
        let still = told(Some(Errno::EMFILE), 100).expect("EMFILE says it");
        assert!(
            still.contains("had no descriptor left: when looked at afterwards, 100"),
            "{still}"
        );
        assert!(still.ends_with("100 of 100 were open"), "{still}");
        let no_more = told(Some(Errno::EMFILE), 6).expect("EMFILE says it");
        assert!(no_more.contains("afterwards, 6 of 100 were open, so it has closed"), "{no_more}");
    }

    #[test]
    fn numbers_that_are_read_now_are_of_now() {
        let now = told(None, 100).expect("none is left");
        assert!(now.contains("has no descriptor left") && !now.contains("afterwards"), "{now}");
        assert_eq!(told(None, 6), None);
    }
}
