//! Connections that wait now: which listeners stall, since when, who waits, and what those who should
//! accept do instead.
//!
//! `glance.rs` and `watch.rs` decide (pure), `activity.rs` puts into words (pure), `scout.rs` reads.

mod activity;
mod ages;
mod glance;
mod scout;
mod watch;

pub use activity::Activity;
pub use ages::Ages;
pub use scout::{Scout, Sight, read_activity};
pub use watch::{Change, Glance, Stalling, Watch};
