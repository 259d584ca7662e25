//! Prints: text and JSON, each a function of the snapshot or of one event. No I/O and no clock.

mod cells;
pub mod checkup;
pub mod escape;
pub mod explain;
mod findings;
pub mod json;
pub mod listing;
pub mod phrases;
mod sentences;
mod stalls;
pub mod status;
pub mod text;
mod unread;
