//! What this kernel is and what it allows: BTF, symbols, features, privileges.
//!
//! Owns facts, never decisions: which hook is taken for which signal is `probe`'s business.

mod addresses;
mod bpf;
mod btf;
mod facts;
mod locked_memory;
mod lsm_programs;
mod misses;
mod names;
mod offsets;
mod out_of_sight;
mod preemption;
mod private_mount;
mod privileges;
mod symbols;
mod tracefs;

pub use btf::{BtfError, KernelBtf};
pub use facts::{Facts, Refused};
pub use locked_memory::limit_may_refuse;
pub use lsm_programs::has_lsm_programs;
pub use misses::{PerfLinks, Skipped};
pub use offsets::{OffsetsError, listen_request, resolve_offsets};
pub use out_of_sight::out_of_sight;
pub use preemption::Preemption;
pub use privileges::{Missing, drop_all_but_reading, missing_privileges};
pub use symbols::Symbols;
pub use tracefs::Tracefs;
