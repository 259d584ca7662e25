//! The session file: what was recorded, so that it survives the tracer and opens on another machine.
//!
//! Owns the format: what the lines are (`format`, `totals`), how they are framed and written (`writer`),
//! and how a file that nobody vouches for is read (`frames`, `reader`). Does not open files.
//! `docs/session-format.md` says what is promised.

mod format;
mod frames;
#[cfg(test)]
mod on_files;
mod plain;
mod possible;
mod reader;
mod schema;
mod totals;
mod writer;

pub use format::{End, Header, SCHEMA_VERSION};
pub use reader::{ReadError, Reader};
pub use schema::schema;
pub use writer::Writer;
