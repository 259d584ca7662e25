//! Prints: text and JSON, each a function of the snapshot or of one event. No I/O and no clock.

mod cells;
pub mod escape;
pub mod json;
pub mod listing;
mod sentences;
mod stalls;
pub mod text;
mod unread;
