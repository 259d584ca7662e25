//! socktrace's library: everything but argument parsing and dispatch.
//!
//! The modules form one pipeline. `kernel` says what this kernel is, `probe` decides and attaches,
//! `transport` reads; `host` and `listener` add what the host knows; `aggregate` turns it all into
//! the one [`aggregate::Snapshot`] that `render` prints. `cli` wires them, a file per command.

pub mod aggregate;
pub mod cli;
pub mod demo;
pub mod diagnose;
pub mod escape;
pub mod event;
pub mod evidence;
pub mod host;
pub mod kernel;
pub mod listener;
pub mod live;
pub mod pipeline;
pub mod probe;
pub mod redact;
pub mod render;
pub mod session;
pub mod stall;
pub mod transport;
