//! Runs socktrace beside a scenario and judges what it reported.
//!
//! `process`, `run`, `servers`, `terminal`, `browser` and `bpf_objects` act; `report`, `kernels`, `picture` and `compare`
//! are plain data and pure judgement, tested with hand-made JSON.

pub mod bpf_objects;
pub mod browser;
pub mod compare;
pub mod kernels;
pub mod picture;
pub mod process;
pub mod report;
pub mod run;
pub mod servers;
pub mod terminal;
