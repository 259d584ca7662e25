//! What tracing costs: operations on sockets, done many times by one process, with and without a tracer.
//!
//! This measures and prints; `cargo xtask bench` says what is measured, and makes tables of it.

mod driver;
mod load;
pub(crate) mod operation;
mod plan;
mod programs;
mod tracer;
mod worker;

pub use driver::drive;
pub use load::{listeners, load};
pub use operation::Operation;
pub use plan::{Plan, Subject, Work};
pub use worker::serve;
