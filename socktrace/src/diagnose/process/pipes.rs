//! The step `pipes`: its pipes, and who holds the other ends.

use super::{
    Facts, Process,
    table::note_findings,
    words::{
        count, few, knows_all, len, note_unread_descriptors, note_unreadable, processes, subject,
    },
};
use crate::{
    diagnose::{
        Check,
        rule::{Cause, Step},
    },
    event::{Certainty, Phrase, Severity, phrase},
};

/// Pipes of the process. Ends that wait inside a Unix socket, or that an `io_uring(7)` has registered,
/// are in no process's descriptors.
#[derive(Clone, Debug, Default)]
pub struct PipeFacts {
    /// Each pipe that it holds an end of.
    pub all: Vec<Pipe>,
    /// Processes whose descriptors could not be read.
    pub unreadable: u32,
    /// Whether every end that could be seen is here.
    pub complete: bool,
}

/// One pipe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pipe {
    /// Its inode.
    pub inode: u64,
    /// Whether the process may read from it; `None` where that is not known.
    pub reads: Option<bool>,
    /// Whether the process may write to it.
    pub writes: Option<bool>,
    /// Other processes that may read.
    pub readers: Vec<Process>,
    /// Other processes that may write.
    pub writers: Vec<Process>,
    /// Whether there are ends of which it is not known what they are open for.
    pub unclear: bool,
}

pub(super) fn check(facts: &Facts) -> Check {
    let mut check = Check::new("pipes", "its pipes and who holds the other ends");
    let pipes = &facts.pipes;
    check.facts.extend(match pipes.all.len() {
        0 if knows_all(facts) => Some("it has no pipe".into()),
        0 => None,
        _ => Some(format!("it has {}", count(len(&pipes.all), "pipe")).into()),
    });
    check.facts.extend(few(pipes.all.iter().map(line)));
    note_findings(&mut check, facts, Step::Pipes);
    note_unread_descriptors(&mut check, facts);
    if !pipes.all.is_empty() {
        note_unreadable(&mut check, pipes.unreadable);
        if !pipes.complete {
            check.unseen.push("some other ends of its pipes".into());
        }
    }
    check
}

/// Whether every end that any process holds is known.
fn is_all(pipes: &PipeFacts) -> bool {
    pipes.complete && pipes.unreadable == 0
}

fn line(of: &Pipe) -> Phrase {
    let side = |verb: &'static str, own: Option<bool>, others: &[Process]| match (own, others) {
        (Some(true), []) => phrase![verb, " by itself"],
        (Some(true), others) => phrase![verb, " by itself and ", processes(others)],
        (_, []) => phrase![verb, " by nobody that can be seen"],
        (_, others) => phrase![verb, " by ", processes(others)],
    };
    phrase![
        format!("pipe:[{}]: ", of.inode),
        side("written", of.writes, &of.writers),
        ", ",
        side("read", of.reads, &of.readers),
    ]
}

fn nobody_reads(of: &Pipe) -> bool {
    let alone = of.readers.is_empty() && !of.unclear;
    alone && of.writes == Some(true) && of.reads == Some(false)
}

fn nobody_writes(of: &Pipe) -> bool {
    let alone = of.writers.is_empty() && !of.unclear;
    alone && of.reads == Some(true) && of.writes == Some(false)
}

pub(super) fn unread(facts: &Facts) -> Option<Cause> {
    let found: Vec<&Pipe> = facts.pipes.all.iter().filter(|it| nobody_reads(it)).collect();
    // A process that could not be looked at may be the reader.
    let all = is_all(&facts.pipes);
    let nobody = if all { "nobody" } else { "nobody that can be seen" };
    (!found.is_empty()).then(|| Cause {
        severity: if all { Severity::Warning } else { Severity::Info },
        certainty: if all { Certainty::Inferred } else { Certainty::Unknown },
        subject: subject(facts),
        fact: format!("{nobody} reads from {} that it may write to", count(len(&found), "pipe"))
            .into(),
        consequence: "a write there ends it with SIGPIPE, or fails with EPIPE".into(),
        fix: "find out who read there and why it ended; close the pipe if that is meant".into(),
        evidence: few(found.iter().map(|it| line(it))),
    })
}

pub(super) fn unwritten(facts: &Facts) -> Option<Cause> {
    if !is_all(&facts.pipes) {
        return None;
    }
    let found: Vec<&Pipe> = facts.pipes.all.iter().filter(|it| nobody_writes(it)).collect();
    (!found.is_empty()).then(|| Cause {
        severity: Severity::Info,
        certainty: Certainty::Inferred,
        subject: subject(facts),
        fact: format!("nobody writes to {} that it may read from", count(len(&found), "pipe"))
            .into(),
        consequence: "after what is left in it a read returns 0, the end of the file".into(),
        fix: "close the pipe once its end was read".into(),
        evidence: few(found.iter().map(|it| line(it))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> Pipe {
        Pipe { inode: 5, reads: Some(false), writes: Some(true), ..Pipe::default() }
    }

    fn checked(pipe: Pipe) -> Check {
        let pipes = PipeFacts { all: vec![pipe], unreadable: 0, complete: true };
        check(&Facts { pipes, ..Facts::default() })
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_a_warning() {
        let said = checked(writer());
        assert_eq!(said.findings[0].rule, "pipe-without-reader");
        let line = phrase![
            "pipe:[5]: ",
            "written",
            " by itself",
            ", ",
            "read",
            " by nobody that can be seen"
        ];
        assert_eq!(said.facts[1], line);
    }

    #[test]
    fn a_pipe_that_nobody_writes_is_worth_a_word() {
        let pipe = Pipe { reads: Some(true), writes: Some(false), ..writer() };
        let said = checked(pipe);
        assert_eq!((said.findings[0].severity, said.is_bad()), (Severity::Info, false));
    }

    #[test]
    fn an_end_that_may_be_there_is_not_missing() {
        let reader = Process { pid: 9, comm: b"r".to_vec() };
        for pipe in [
            Pipe { readers: vec![reader], ..writer() },
            Pipe { reads: Some(true), ..writer() },
            Pipe { unclear: true, ..writer() },
        ] {
            assert_eq!(checked(pipe).findings, []);
        }
        let pipes = PipeFacts { all: vec![writer()], unreadable: 1, complete: true };
        let said = check(&Facts { pipes, ..Facts::default() });
        assert_eq!((said.findings[0].certainty, said.unseen.len()), (Certainty::Unknown, 1));
        assert!(!said.is_bad());
    }
}
