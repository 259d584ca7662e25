//! Clients that mean harm: the recording ends, nothing of theirs is opened (the scenario watches that), and
//! nothing of theirs reaches a terminal.

use anyhow::{Context, Result};
use socktrace_tests::harness::run::record_staged;

use super::told;
use crate::matrix::tell;

/// What must be said of some of them: name, rule, certainty.
const SAID: [(&str, &str, &str); 7] = [
    ("bad\n\u{1b}[2J\u{1b}[7m", "unix-parent-no-search", "measured"),
    ("hostile_links", "unix-socket-mode", "measured"),
    ("hostile_fan", "unix-symlink-loop", "measured"),
    ("bait_inside", "unix-not-a-directory", "measured"),
    ("bait_fifo", "unix-not-a-socket", "measured"),
    ("bait_secret", "unix-not-a-socket", "measured"),
    ("hostile_dots", "unix-no-such-path", "measured"),
];

/// The one whose directories move: what denied was either of these.
const MOVING: (&str, [&str; 2]) = ("hostile_moving", ["unix-parent-no-search", "unix-socket-mode"]);

#[test]
fn hostile_clients_neither_stop_nor_mislead_nor_command_the_report() -> Result<()> {
    let run = record_staged(&[], "causes_hostile")?;
    let all = told::of(&run);
    let find = |name: &str| {
        let told = all.iter().find(|told| told.name == name);
        told.with_context(|| format!("the scenario has no {name:?}"))
    };
    let mut problems = Vec::new();
    for (name, rule, certainty) in SAID {
        let told = find(name)?;
        let first = told.first().map(|it| (it.rule.as_str(), it.certainty.as_str()));
        if first != Some((rule, certainty)) {
            problems.push(format!("{name:?}: {first:?} {}", told.words()));
        }
    }
    let measured = find(MOVING.0)?.findings.iter().filter(|it| it.certainty == "measured");
    let wrong = measured.filter(|it| !MOVING.1.contains(&it.rule.as_str()));
    problems.extend(wrong.map(|it| format!("{}: measured {} {}", MOVING.0, it.rule, it.fact)));
    let bad = |byte: &&u8| byte.is_ascii_control() && **byte != b'\n';
    for (name, bytes) in [("report", &run.bytes), ("stderr", &run.finished.stderr)] {
        if bytes.iter().any(|byte| bad(&byte)) {
            problems.push(format!("raw control characters in the {name}"));
        }
    }
    tell(&problems)
}
