//! Which listeners there are and who holds them, from `sock_diag` and `/proc`, in every network
//! namespace.
//!
//! Evidence of ownership from the kernel side (who called `listen()`, who accepts) is joined in
//! `aggregate`; here is what only user space can see: the processes that hold the descriptor.

mod listing;
mod lookout;
mod owners;
mod sightings;
mod units;
mod windows;

pub use listing::{Age, HolderFilter, Listed, Listing, UnseenHolders, read_listing};
pub use lookout::Lookout;
pub use owners::{Owners, read_owners};
pub use sightings::{Look, NamespaceSighting, Unseen, read_own_sightings, read_sightings};
pub use windows::open_windows;
