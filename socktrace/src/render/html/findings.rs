//! Findings as cards: how bad, of whom, what, what follows, what to do, and what it rests on.

use super::{
    command::{Words, words},
    values::{count, own_words},
};
use crate::{
    aggregate::{FindingRow, Snapshot},
    event::{Certainty, Severity},
    render::phrases,
};

/// Findings that are shown.
const SHOWN: usize = 60;
/// Pids that are named.
const PIDS: usize = 8;

/// All of them.
pub(super) struct Findings {
    pub(super) cards: Vec<Card>,
    /// Those that are not shown, in words.
    pub(super) more: Option<String>,
}

/// One of them.
pub(super) struct Card {
    pub(super) severity: &'static str,
    pub(super) certainty: &'static str,
    pub(super) certainty_means: &'static str,
    pub(super) rule: String,
    pub(super) subject: String,
    pub(super) fact: String,
    pub(super) consequence: String,
    pub(super) fix: Vec<Words>,
    pub(super) evidence: Vec<String>,
    /// How often, by whom, whether it goes on.
    pub(super) facts: Vec<String>,
}

pub(super) fn findings(snapshot: &Snapshot) -> Findings {
    let more = snapshot.findings.len().saturating_sub(SHOWN);
    Findings {
        cards: snapshot.findings.iter().take(SHOWN).map(card).collect(),
        more: (more > 0).then(|| {
            format!("and {}: --format json has all of them", count(more as u64, "more finding"))
        }),
    }
}

fn card(row: &FindingRow) -> Card {
    let finding = &row.finding;
    Card {
        severity: finding.severity.name(),
        certainty: finding.certainty.name(),
        certainty_means: match finding.certainty {
            Certainty::Measured => "the kernel said so, or nothing can have changed since",
            Certainty::Inferred => "read after the incident, and explains it",
            Certainty::Unknown => "several causes are possible, or none is known",
        },
        rule: own_words(&finding.rule),
        subject: phrases::text(&finding.subject),
        fact: capital(&phrases::text(&finding.fact)),
        consequence: capital(&phrases::text(&finding.consequence)),
        fix: words(&finding.fix),
        evidence: finding.evidence.iter().map(phrases::text).collect(),
        facts: facts(row),
    }
}

fn facts(row: &FindingRow) -> Vec<String> {
    let what = if row.listener.is_some() { "lost connection" } else { "failure" };
    let is_told = row.count > 0 || row.finding.severity != Severity::Info;
    let mut facts = Vec::new();
    facts.extend(is_told.then(|| count(row.count, what)));
    facts.extend(row.goes_on.then(|| "connections waited at the end".to_owned()));
    facts.extend(pids(row));
    facts.extend(row.listener.map(|inode| format!("listener inode {inode}")));
    facts
}

fn pids(row: &FindingRow) -> Option<String> {
    let named: Vec<String> = row.pids.iter().take(PIDS).map(u32::to_string).collect();
    let more = row.pids.len().saturating_sub(PIDS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let what = if row.pids.len() == 1 { "pid" } else { "pids" };
    (!named.is_empty()).then(|| format!("{what} {}{more}", named.join(", ")))
}

/// A clause as a sentence without its full stop; a name keeps its letters.
fn capital(clause: &str) -> String {
    let first = clause.split_whitespace().next().unwrap_or_default();
    let is_word = !first.is_empty() && first.chars().all(|c| c.is_ascii_lowercase());
    let mut letters = clause.chars();
    match letters.next().filter(|_| is_word) {
        Some(letter) => letter.to_uppercase().chain(letters).collect(),
        None => clause.to_owned(),
    }
}
