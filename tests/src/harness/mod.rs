//! Runs socktrace beside a scenario and judges what it reported.
//!
//! `process`, `measured`, `run`, `session`, `servers` and `bpf_objects` act; `report`, `kernels` and `compare` are plain data and
//! pure judgement, tested with hand-made JSON.

pub mod bpf_objects;
pub mod chance;
pub mod compare;
pub mod kernels;
pub mod measured;
pub mod process;
pub mod report;
pub mod run;
pub mod servers;
pub mod session;
