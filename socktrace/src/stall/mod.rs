//! Connections that wait now: which listeners stall, since when, who waits, and what those who should
//! accept do instead.
//!
//! `glance.rs` and `watch.rs` decide (pure), `activity.rs` and `shortage.rs` put into words (pure), `scout.rs`
//! and `deeds.rs` read.

mod activity;
mod ages;
mod deeds;
mod glance;
mod scout;
mod shortage;
mod watch;

pub use activity::Activity;
pub use ages::Ages;
pub use deeds::read_activity;
pub use scout::{Scout, Sight};
pub use shortage::{Memory, Shortage};
pub use watch::{Change, Glance, Stalling, Watch};
