//! Totals and events become one [`Snapshot`]: the one thing that everything prints. Pure: no
//! I/O and no clock.

mod aggregator;
mod carry;
mod completeness;
pub mod condition;
pub mod diff;
mod drops;
mod findings;
mod report;
mod selection;
mod snapshot;
mod timeline;
mod waits;
mod wanted;

pub use crate::event::Interval;
pub use aggregator::Aggregator;
pub use completeness::{Completeness, Evidence, SignalStages, Unattributed, Verdict};
pub use condition::{Condition, ConditionError, Met, Outcome};
pub use diff::Diff;
pub use findings::FindingRow;
pub use selection::{PathGlob, Selection};
pub use snapshot::{
    AbandonedRow, AcceptErrorRow, ConnectFailureRow, DropRow, Drops, ListenerRow, NamespaceRow,
    ProcessRow, Session, SessionSignal, Snapshot,
};
pub use timeline::Timeline;
pub use waits::Waits;
