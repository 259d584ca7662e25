//! How often the kernel skipped a program because it ran already on that CPU, or (kprobes, perf
//! tracepoints) because any other of its kind did.

use std::{collections::BTreeMap, os::fd::AsFd};

use aya::Ebpf;

use super::Verdict;
use crate::{event::Misses, kernel::read_recursion_misses};

/// Reads the misses of everything that is attached.
pub(crate) fn read_misses(ebpf: &Ebpf, verdicts: &[Verdict]) -> Misses {
    let mut programs = BTreeMap::new();
    for (name, program) in ebpf.programs() {
        // A program that was not selected is not loaded.
        let Ok(fd) = program.fd() else { continue };
        programs.insert(name.to_owned(), read_recursion_misses(fd.as_fd()));
    }
    let unseen = unseen(verdicts, &programs);
    Misses { programs, unseen }
}

/// What was missed for good, at most: where several programs stand for one thing, as many as the
/// one that missed the fewest.
fn unseen(verdicts: &[Verdict], missed: &BTreeMap<String, Option<u64>>) -> BTreeMap<String, u64> {
    let of = |program: &&str| missed.get(*program).copied().flatten().unwrap_or(0);
    let choices = verdicts.iter().filter_map(|verdict| verdict.choice.as_ref());
    let jobs = choices.flat_map(|choice| &choice.alone);
    jobs.map(|(what, programs)| ((*what).to_owned(), programs.iter().map(of).min().unwrap_or(0)))
        .filter(|(_, missed)| *missed != 0)
        .collect()
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
        assert_eq!(missed(None, Some(2), Some(3)), BTreeMap::from([("starts".to_owned(), 3)]));
    }
}
