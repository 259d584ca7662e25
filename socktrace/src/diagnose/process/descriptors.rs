//! The step `descriptors`: how many of which kind, against the limits of the process and of the host.

use std::collections::BTreeMap;

use super::{
    Facts,
    table::note_findings,
    words::{count, note_unread_descriptors, subject},
};
use crate::{
    diagnose::{
        Check,
        rule::{Cause, Step},
    },
    event::{Certainty, Phrase, Severity, phrase},
    host::{DescriptorClass, FileLimits, NofileLimits},
};

/// Descriptors of the process and files of the host.
#[derive(Clone, Debug, Default)]
pub struct DescriptorFacts {
    /// How many of each kind it has; empty where they could not be read.
    pub counts: BTreeMap<DescriptorClass, u64>,
    /// Descriptors of which only the number is known, because there are too many.
    pub left_out: u64,
    /// Why they could not be read.
    pub refusal: Option<Phrase>,
    /// Its limits.
    pub limits: Option<NofileLimits>,
    /// Files of the host.
    pub host: FileLimits,
    /// Eventfds by their counter: at zero, above zero, unknown.
    pub event_counts: [u64; 3],
}

impl DescriptorFacts {
    /// How many are open; `None` where they could not be read.
    pub fn open(&self) -> Option<u64> {
        self.refusal.is_none().then(|| self.counts.values().sum())
    }
}

pub(super) fn check(facts: &Facts) -> Check {
    let mut check = Check::new("descriptors", "its descriptors and their limits");
    let known = &facts.descriptors;
    if let Some(open) = known.open() {
        check.facts.push(open_of(open, known.limits));
        check.facts.extend(kinds(known));
    }
    check.facts.extend(host_wide(known.host));
    note_findings(&mut check, facts, Step::Descriptors);
    note_unread_descriptors(&mut check, facts);
    if known.limits.is_none() {
        check.unseen.push("its limit (RLIMIT_NOFILE)".into());
    }
    if known.host.open.zip(known.host.max).is_none() {
        check.unseen.push("how many files the host has open and may have".into());
    }
    check
}

fn limit(number: u64) -> String {
    if number == u64::MAX { "unlimited".to_owned() } else { number.to_string() }
}

fn open_of(open: u64, limits: Option<NofileLimits>) -> Phrase {
    match limits {
        Some(NofileLimits { soft, hard }) => {
            let (soft, hard) = (limit(soft), limit(hard));
            format!("{open} are open, the limit is {soft} (hard limit {hard})").into()
        }
        None => format!("{open} are open").into(),
    }
}

/// The most frequent first.
fn kinds(known: &DescriptorFacts) -> Option<Phrase> {
    let mut kinds: Vec<_> = known.counts.iter().filter(|(_, number)| **number != 0).collect();
    kinds.sort_by_key(|(class, number)| (std::cmp::Reverse(**number), **class));
    let each: Vec<String> =
        kinds.iter().map(|(class, number)| format!("{number} × {}", class.name())).collect();
    (!each.is_empty()).then(|| each.join(", ").into())
}

fn host_wide(host: FileLimits) -> Option<Phrase> {
    let (open, max) = host.open.zip(host.max)?;
    // The kernel's default is no limit at all.
    let max = if max >= i64::MAX as u64 { "unlimited".to_owned() } else { max.to_string() };
    Some(format!("the host has {} open, fs.file-max is {max}", count(open, "file")).into())
}

/// Whether `used` is nine tenths of `limit`.
fn is_nearly(used: u64, limit: u64) -> bool {
    u128::from(used) * 10 >= u128::from(limit) * 9
}

pub(super) fn used_up(facts: &Facts) -> Option<Cause> {
    let known = &facts.descriptors;
    let (open, limits) = known.open().zip(known.limits)?;
    if !is_nearly(open, limits.soft) {
        return None;
    }
    let full = open >= limits.soft;
    let room = if limits.hard > limits.soft {
        format!(" (it may go up to {} by itself)", limit(limits.hard))
    } else {
        String::new()
    };
    Some(Cause {
        severity: if full { Severity::Error } else { Severity::Warning },
        certainty: Certainty::Measured,
        subject: subject(facts),
        fact: format!("{open} of {} descriptors are open", limits.soft).into(),
        consequence: if full {
            "accept(), socket(), open() and pipe() fail with EMFILE".into()
        } else {
            "accept(), socket(), open() and pipe() will fail with EMFILE".into()
        },
        fix: phrase![
            "raise the limit (LimitNOFILE=, ulimit -n)",
            room,
            ", or find what the process does not close",
        ],
        evidence: kinds(known).into_iter().collect(),
    })
}

pub(super) fn host_used_up(facts: &Facts) -> Option<Cause> {
    let host = facts.descriptors.host;
    let (open, max) = host.open.zip(host.max)?;
    if !is_nearly(open, max) {
        return None;
    }
    Some(Cause {
        severity: if open >= max { Severity::Error } else { Severity::Warning },
        certainty: Certainty::Measured,
        subject: "the host".into(),
        fact: format!("{open} of {max} files are open").into(),
        consequence: "past the limit no process without CAP_SYS_ADMIN can open another".into(),
        fix: "find who holds them (lsof), or raise fs.file-max".into(),
        evidence: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(open: u64, soft: u64) -> Facts {
        let descriptors = DescriptorFacts {
            counts: BTreeMap::from([
                (DescriptorClass::Socket, open - 1),
                (DescriptorClass::Epoll, 1),
            ]),
            limits: Some(NofileLimits { soft, hard: 4096 }),
            host: FileLimits { open: Some(10), max: Some(u64::MAX >> 1), nr_open: None },
            ..DescriptorFacts::default()
        };
        Facts { descriptors, ..Facts::default() }
    }

    #[test]
    fn nine_tenths_of_the_limit_are_a_warning_and_all_of_it_an_error() {
        let severity = |open| check(&with(open, 100)).findings.first().map(|it| it.severity);
        let found = [89, 90, 99, 100, 120].map(severity);
        let (warning, error) = (Some(Severity::Warning), Some(Severity::Error));
        assert_eq!(found, [None, warning, warning, error, error]);
    }

    #[test]
    fn no_limit_is_never_nearly_used_up() {
        assert!(!check(&with(1_000_000, u64::MAX)).is_bad());
    }

    #[test]
    fn kinds_are_listed_the_most_frequent_first() {
        let said = check(&with(9, 100)).facts;
        assert_eq!(said[1], "8 × socket, 1 × epoll".into());
        assert_eq!(said[2], "the host has 10 files open, fs.file-max is unlimited".into());
    }

    #[test]
    fn descriptors_that_may_not_be_read_are_unseen_and_not_none() {
        let mut facts = with(9, 100);
        facts.descriptors.refusal = Some("Permission denied".into());
        let said = check(&facts);
        assert_eq!((said.facts.len(), said.findings.len(), said.unseen.len()), (1, 0, 1));
    }

    #[test]
    fn a_host_without_files_left_is_an_error() {
        let mut facts = with(9, 100);
        facts.descriptors.host = FileLimits { open: Some(95), max: Some(100), nr_open: None };
        assert_eq!(check(&facts).findings[0].severity, Severity::Warning);
        facts.descriptors.host.open = Some(100);
        assert_eq!(check(&facts).findings[0].severity, Severity::Error);
    }
}
