//! One step of a checkup (`socktrace diagnose TARGET`): what was looked at, what is so, what was found.
//!
//! Owns the step as data. Which steps there are, and in which order, is with those who gather the facts.

use crate::event::{Finding, Phrase, Severity};

/// One step, in the order in which an operator would take it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Its stable name, as JSON has it: `path`, `sockets`, `descriptors`.
    pub name: &'static str,
    /// What it is about, in words.
    pub title: &'static str,
    /// What is so, a clause each without a full stop, whether it is well or not.
    pub facts: Vec<Phrase>,
    /// What was found, the most harmful first.
    pub findings: Vec<Finding>,
    /// What could not be seen, and why.
    pub unseen: Vec<Phrase>,
}

impl Check {
    /// A step that has seen nothing yet.
    pub fn new(name: &'static str, title: &'static str) -> Self {
        Self { name, title, ..Self::default() }
    }

    /// Whether it found something that harms or will.
    pub fn is_bad(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity < Severity::Info)
    }
}
