//! Incidents made for real (`scenario`), and the means to judge what socktrace says of them (`harness`).
//!
//! The tests themselves are in `tests/tests/`; this library holds nothing that decides by itself
//! whether a run was good.

pub mod harness;
pub mod scenario;
