//! Runs socktrace beside a scenario and judges what it reported.
//!
//! `process`, `measured`, `run`, `session`, `servers`, `terminal`, `browser`, `page` and `bpf_objects` act; `report`, `kernels`,
//! `picture` and `compare` are plain data and pure judgement, tested with hand-made JSON.

pub mod bpf_objects;
pub mod browser;
pub mod chance;
pub mod compare;
pub mod kernels;
pub mod measured;
pub mod page;
pub mod picture;
pub mod process;
pub mod report;
pub mod run;
pub mod servers;
pub mod session;
pub mod terminal;
