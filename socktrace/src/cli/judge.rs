//! `--fail-on` and `--strict`: what a report is held against, and the exit code that follows.

use std::{
    io::{Write, stderr},
    process::ExitCode,
};

use clap::Args;

use super::failure::{FOUND, INCOMPLETE};
use crate::{
    aggregate::{
        Snapshot, Verdict,
        condition::{Condition, Outcome},
    },
    render::conditions,
};

/// What makes a report a failure.
#[derive(Debug, Args)]
pub(super) struct JudgeArgs {
    #[arg(
        long,
        value_name = "CONDITION",
        value_parser = Condition::parse,
        help = "Exit with 1 if this is so, like 'accept_wait_p99>50ms' or 'connect_failures{errno=EACCES}>0'; \
                may be given again (docs/conditions.md)"
    )]
    fail_on: Vec<Condition>,
    /// Exit with 4 if the data is not complete
    #[arg(long)]
    strict: bool,
}

impl JudgeArgs {
    /// Whether anything may come of a report but success.
    pub(super) const fn asks(&self) -> bool {
        self.strict || !self.fail_on.is_empty()
    }

    /// Whether a condition asks for a name or an address.
    pub(super) fn asks_for_names(&self) -> bool {
        self.fail_on.iter().any(Condition::asks_for_names)
    }

    /// The exit code that a report calls for, if it does; what was found is said on stderr.
    pub(super) fn judge(&self, snapshot: &Snapshot) -> Option<ExitCode> {
        let outcomes: Vec<(&Condition, Outcome)> =
            self.fail_on.iter().map(|it| (it, it.check(snapshot))).collect();
        for (condition, outcome) in &outcomes {
            match outcome {
                Outcome::Met(met) => say(&conditions::met(met)),
                Outcome::Unknown { why } => say(&conditions::unknown(condition, why)),
                Outcome::NotMet => {}
            }
        }
        let is_met = outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Met(_)));
        let is_unknown =
            outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Unknown { .. }));
        let is_complete = snapshot.completeness.verdict == Verdict::Complete && !is_unknown;
        if is_met {
            return Some(ExitCode::from(FOUND));
        }
        (self.strict && !is_complete).then(|| ExitCode::from(INCOMPLETE))
    }
}

fn say(sentence: &str) {
    // Nobody to tell where stderr is closed.
    let _ = writeln!(stderr(), "socktrace: {sentence}");
}
