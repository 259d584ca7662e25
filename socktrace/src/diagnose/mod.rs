//! Why something failed: from facts to findings. Pure.
//!
//! Owns the facts of a case (`case`), the rules (`rules`), how they are run (`rule`), what the kernel
//! checks on a path (`access`), what an errno alone tells (`errno`), what all of that means to a reader
//! (`explain`), and the checkup of a process (`process`). Reads nothing: `evidence` gathers the facts.

pub mod access;
pub mod case;
mod check;
mod checkup;
mod errno;
pub mod explain;
mod listener;
pub mod process;
mod rule;
mod rules;

pub use crate::event::{errno_name, parse_errno};
pub use case::{Case, Question};
pub use check::Check;
pub use checkup::checkup;
pub use errno::{Cause, cause};
pub use listener::{ListenerCase, Slept, Thrown, diagnose_listener, with_queue};
pub use process::RULES as PROCESS_RULES;
pub use rule::{Described, Rule, Step, diagnose};
pub use rules::{LISTENER_TABLE as LISTENER_RULES, TABLE as RULES, all as all_rules};

/// The inode of the listener that a connect met, if it can have been just one.
pub fn listener_met(case: &Case) -> Option<u64> {
    case.unix_listener().or_else(|| rules::met_alone(case))
}
