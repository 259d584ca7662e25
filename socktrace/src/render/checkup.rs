//! A checkup as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    findings::{fields, sentence},
    json::SCHEMA_VERSION,
    phrases,
};
use crate::{diagnose::Check, event::Severity};

/// What is wrong first, then every step with its facts, then what could not be seen.
pub fn render_checkup(target: &str, checks: &[Check]) -> String {
    let mut text = String::new();
    let bad = checks.iter().flat_map(|check| &check.findings);
    let bad: Vec<_> = bad.filter(|finding| finding.severity < Severity::Info).collect();
    // Writing to a `String` cannot fail.
    if bad.is_empty() {
        let as_seen = if healthy(checks).is_some() { "" } else { ", as far as could be seen" };
        let _ = writeln!(
            text,
            "{target}: nothing was found that would refuse, stall or drop{as_seen}."
        );
    }
    for finding in bad {
        let _ = writeln!(text, "{}: {}", phrases::text(&finding.subject), sentence(finding));
    }
    for check in checks {
        let _ = writeln!(text, "\n{}", check.title.to_uppercase());
        for fact in &check.facts {
            let _ = writeln!(text, "  {}", phrases::text(fact));
        }
        for finding in &check.findings {
            let mark = match finding.severity {
                Severity::Error => "!!",
                Severity::Warning => "! ",
                Severity::Info => "->",
            };
            let _ = match finding.severity {
                Severity::Info => writeln!(text, "{mark} {}", sentence(finding)),
                _ => writeln!(text, "{mark} {} [{}]", phrases::text(&finding.fact), finding.rule),
            };
        }
        for unseen in &check.unseen {
            let _ = writeln!(text, "?  not seen: {}", phrases::text(unseen));
        }
    }
    text
}

/// Whether nothing is wrong; `None` where something that would tell could not be seen.
fn healthy(checks: &[Check]) -> Option<bool> {
    if checks.iter().any(Check::is_bad) {
        return Some(false);
    }
    let undecided = checks.iter().any(|check| check.name == "next" && !check.unseen.is_empty());
    (!undecided).then_some(true)
}

/// The same for programs.
pub fn checkup_json(target: &str, checks: &[Check], trace: Option<&Value>) -> Value {
    let told = |phrases: &[crate::event::Phrase]| -> Vec<String> {
        phrases.iter().map(phrases::text).collect()
    };
    let check = |check: &Check| {
        json!({
            "name": check.name,
            "title": check.title,
            "facts": told(&check.facts),
            "findings": check.findings.iter().map(fields).collect::<Vec<_>>(),
            "unseen": told(&check.unseen),
        })
    };
    json!({
        "schema_version": SCHEMA_VERSION,
        "target": target,
        "healthy": healthy(checks),
        "checks": checks.iter().map(check).collect::<Vec<_>>(),
        "trace": trace,
    })
}
