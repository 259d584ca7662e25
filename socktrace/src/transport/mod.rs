//! From the kernel's buffers to owned events and totals.

mod clock;
mod counters;
mod decode;
mod descendants;
mod pending;
mod perf;
mod reader;
mod ring;
mod turn;

pub use clock::{Clock, monotonic_now_ns};
pub use counters::{
    CountersError, read_connects_unseen, read_counters, read_counters_of, read_drops,
    read_drops_under_way, read_stages,
};
pub use decode::{Undecodable, decode};
pub use descendants::Descendants;
pub use pending::{
    Progress, read_accepted, read_listener, read_progress, read_queued, read_sleepers,
};
pub use reader::{Reader, ReaderError, Transport};
