//! `check`: what this kernel and these privileges allow, by trying it.

use std::{fmt::Write as _, io::stdout, process::ExitCode};

use clap::Args;
use serde_json::json;

use super::{
    args::{FilterArgs, TraceArgs},
    failure::{Failure, SUCCESS},
    output::print,
    session::{check_privileges, session_signal, untested},
};
use crate::{
    aggregate::SessionSignal,
    probe::{AttachError, Verdict, attach, facts},
    render::json::signal,
};

/// Why there is no self-test where a tier that was asked for is refused.
const NOTHING_ATTACHED: &str = "nothing is attached";

/// What this kernel and these privileges allow: each signal, its tier, and what that tier loses
///
/// Everything is really attached, and detached again. Exit code 3 if a signal gets no tier.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filters: FilterArgs,
    #[command(flatten)]
    trace: TraceArgs,
}

impl Check {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        check_privileges()?;
        let options = self.trace.options(self.filters.filters(false));
        let facts = facts(&options)?;
        let (verdicts, untested) = match attach(&facts, &options) {
            Ok(attached) => (attached.verdicts, untested(&attached.self_test)),
            Err(AttachError::Refused(verdicts)) => (verdicts, Some(NOTHING_ATTACHED.to_owned())),
            Err(error) => return Err(error.into()),
        };
        let rows: Vec<SessionSignal> = verdicts.iter().map(session_signal).collect();
        let text = if self.json {
            let signals: Vec<_> = rows.iter().map(signal).collect();
            let kernel = &facts.release;
            let object = json!({"kernel": kernel, "signals": signals, "untested": untested});
            format!("{object:#}\n")
        } else {
            render(&facts.release, &rows, untested.as_deref())
        };
        print(stdout(), "stdout", &text)?;
        let refused: Vec<Verdict> =
            verdicts.into_iter().filter(|verdict| verdict.choice.is_none()).collect();
        if refused.is_empty() { Ok(SUCCESS) } else { Err(AttachError::Refused(refused).into()) }
    }
}

/// The signals first, then each reason once, with the signals that it concerns.
fn render(release: &str, rows: &[SessionSignal], untested: Option<&str>) -> String {
    let mut text = format!("kernel {release}\n\n{:<16} {:<11} LOSES\n", "SIGNAL", "TIER");
    for row in rows {
        let tier = row.tier.map_or("none", |tier| tier.name());
        let first = row.loses.first().map_or("nothing", String::as_str);
        let _ = writeln!(text, "{:<16} {tier:<11} {first}", row.signal.name());
        for lost in row.loses.iter().skip(1) {
            let _ = writeln!(text, "{:<28} {lost}", "");
        }
    }
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for row in rows {
        for (tier, why) in &row.refused {
            let reason = format!("tier {} refused: {why}", tier.name());
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, signals)) => signals.push(row.signal.name()),
                None => reasons.push((reason, vec![row.signal.name()])),
            }
        }
    }
    for (reason, signals) in reasons {
        let _ = writeln!(text, "\n{}:\n  {reason}", signals.join(", "));
    }
    let _ = match untested {
        None => writeln!(text, "\nself-test: every hook that it tries fires"),
        Some(why) => writeln!(text, "\nself-test not made: {why}"),
    };
    text
}
