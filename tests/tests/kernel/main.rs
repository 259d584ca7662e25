//! What must be seen on a real kernel: every signal in every tier and transport, against what the
//! scenario saw itself and what the kernel counted.
//!
//! Needs root, `SOCKTRACE_BIN`, and `--test-threads=1` (the kernel's counters are one per machine).
//! Runs the same on the host and in a VM; `kernels.toml` says what this kernel must manage. Nothing
//! is skipped: what the table promises and the machine lacks is a failure.

mod causes;
mod check;
mod command;
mod demo;
mod diagnose;
mod edges;
mod filters;
mod leftovers;
mod listeners;
mod loss;
mod matrix;
mod overflow;
mod privileges;
mod probe_cost;
mod refusals;
mod scope;
mod sessions;
mod signals;
mod stalls;
mod stress;
mod watch;
mod withheld;
mod without_ftrace;
