//! Incidents made for real (`scenario`), the means to judge what socktrace says of them (`harness`), and
//! what tracing costs (`bench`).
//!
//! The tests themselves are in `tests/tests/`; this library holds nothing that decides by itself
//! whether a run was good.

pub mod bench;
pub mod harness;
pub mod scenario;
