//! Prints: text, JSON and HTML, each a function of the snapshot or of one event. No I/O and no clock.

mod cells;
pub mod checkup;
pub mod conditions;
mod cost;
pub mod diff;
mod event_line;
pub mod explain;
mod findings;
pub mod html;
pub mod json;
pub mod listing;
mod other;
pub mod perfetto;
pub mod phrases;
mod sentences;
mod stalls;
pub mod status;
pub mod text;
mod unread;

pub use crate::escape;
pub use cost::{Cost, of_hooks};
