//! Judgement: what the scenario saw against what the report says. Pure; every function returns the
//! problems that it found, none if all is well.

pub mod abandoned;
pub mod accept_errors;
pub mod accepts;
pub mod blocked;
pub mod closed;
pub mod completeness;
pub mod drops;
pub mod failures;
pub mod listens;
mod rows;
#[cfg(test)]
mod sample;
pub mod served;
pub mod stalls;
pub mod waits;

pub use rows::{Fields, Strangers, match_rows};
