//! From what the kernel allows to what is attached: plan (a table), select (pure), attach (thin).

mod attach;
mod into_kernel;
mod misses;
mod options;
mod out_of_kernel;
mod params;
mod plan;
mod runs;
mod select;
mod self_test;
mod side_by_side;

pub(crate) use attach::select_listener;
pub use attach::{AttachError, Attached, SelfTest, attach, facts};
pub(crate) use misses::MissReader;
pub use options::{Filters, Options, TierRequest};
pub(crate) use out_of_kernel::detach;
pub use plan::{FOLLOW, Kind, Only, PLAN, Program, Requirement, Slot, TierPlan, Without};
pub use runs::Timing;
pub(crate) use runs::read_runs;
pub use select::{Cannot, Choice, Refusal, Verdict, select_signal};
