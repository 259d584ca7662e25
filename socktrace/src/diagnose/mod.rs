//! Why something failed. So far: what an errno alone tells; pure.

mod errno;

pub use errno::{Cause, Certainty, cause, errno_name, parse_errno};
