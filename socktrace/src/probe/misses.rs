//! How often the kernel skipped a program because it ran already on that CPU, or (kprobes, perf
//! tracepoints) because any other of its kind did, or (kretprobes) because too many calls were under way.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd, BorrowedFd},
};

use aya::{Ebpf, programs::Program};

use super::Verdict;
use crate::{
    event::Misses,
    kernel::{PerfLinks, Skipped},
    transport::read_connects_unseen,
};

/// What is said of connects that a twin saw fail, and of which it could not tell more.
const IN_IO_URING: &str = "failed connects through io_uring";

/// Reads the misses of everything that is attached, again and again.
pub(crate) struct MissReader {
    links: PerfLinks,
}

impl MissReader {
    /// To be made once everything is attached.
    pub(crate) fn new() -> Self {
        Self { links: PerfLinks::find() }
    }

    /// Reads them.
    pub(crate) fn read(&self, ebpf: &Ebpf, verdicts: &[Verdict]) -> Misses {
        let mut programs = BTreeMap::new();
        for (name, program) in ebpf.programs() {
            // A program that was not selected is not loaded.
            let Ok(fd) = program.fd() else { continue };
            programs.insert(name.to_owned(), self.misses_of(program, fd.as_fd()));
        }
        let mut unseen = unseen(verdicts, &programs);
        let in_io_uring = read_connects_unseen(ebpf).unwrap_or(0);
        if in_io_uring != 0 {
            unseen.insert(IN_IO_URING.to_owned(), in_io_uring);
        }
        Misses { programs, unseen }
    }

    /// What the kernel skipped of one program; `None` where it does not count all of that.
    fn misses_of(&self, program: &Program, fd: BorrowedFd<'_>) -> Option<u64> {
        let skipped = Skipped::read(fd)?;
        let before_it = if is_guarded(program) { self.links.misses_of(&skipped)? } else { 0 };
        Some(skipped.because_it_ran? + before_it)
    }
}

/// Whether it shares its guard with all others of these two kinds, and with `bpf(2)` while that is in a map.
pub(super) const fn is_guarded(program: &Program) -> bool {
    matches!(program, Program::KProbe(_) | Program::TracePoint(_))
}

/// What was missed for good, at most: where several programs stand for one thing, as many as the
/// one that missed the fewest, of those that can tell. Signals may share such a thing, and its programs or not.
fn unseen(verdicts: &[Verdict], missed: &BTreeMap<String, Option<u64>>) -> BTreeMap<String, u64> {
    let known = |program: &&str| missed.get(*program).copied().flatten();
    let choices = verdicts.iter().filter_map(|verdict| verdict.choice.as_ref());
    let jobs: BTreeSet<_> = choices.flat_map(|choice| &choice.alone).collect();
    let mut unseen = BTreeMap::new();
    for (what, programs) in jobs {
        if let Some(fewest @ 1..) = programs.iter().filter_map(known).min() {
            *unseen.entry((*what).to_owned()).or_default() += fewest;
        }
    }
    unseen
}

#[cfg(test)]
mod tests {
    use socktrace_common::{Signal, Tier};

    use super::*;
    use crate::probe::Choice;

    #[test]
    fn what_a_twin_saw_was_not_missed() {
        let choice = Choice {
            tier: Tier::Fentry,
            programs: Vec::new(),
            loses: Vec::new(),
            alone: BTreeMap::from([("ends", vec!["one", "twin"]), ("starts", vec!["start"])]),
        };
        let verdict =
            Verdict { signal: Signal::Accept, choice: Some(choice), refusals: Vec::new() };
        let missed = |one, twin, start| {
            let of = [("one", one), ("twin", twin), ("start", start)];
            let by_name = of.into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
            unseen(std::slice::from_ref(&verdict), &by_name)
        };
        assert_eq!(missed(Some(9), Some(0), Some(0)), BTreeMap::new());
        assert_eq!(missed(Some(9), Some(2), None), BTreeMap::from([("ends".to_owned(), 2)]));
        let both = [("ends".to_owned(), 2), ("starts".to_owned(), 3)];
        assert_eq!(
            missed(None, Some(2), Some(3)),
            BTreeMap::from(both),
            "who cannot tell may have"
        );
        assert_eq!(missed(None, None, None), BTreeMap::new());
    }

    #[test]
    fn what_signals_see_by_hooks_of_their_own_is_added_up() {
        let verdict = |signal, programs: &[&'static str]| {
            let alone = BTreeMap::from([("ends", programs.to_vec())]);
            let choice =
                Choice { tier: Tier::Fentry, programs: Vec::new(), loses: Vec::new(), alone };
            Verdict { signal, choice: Some(choice), refusals: Vec::new() }
        };
        let missed = BTreeMap::from([("one".to_owned(), Some(40)), ("other".to_owned(), Some(1))]);
        let of = |programs: &[&'static str]| {
            let of_accept = verdict(Signal::Accept, &["one"]);
            unseen(&[of_accept, verdict(Signal::AcceptError, programs)], &missed)["ends"]
        };
        assert_eq!((of(&["other"]), of(&["one"])), (41, 40));
    }
}
