//! Takes out of a session what tells whose it is, so that it can be shown to others.
//!
//! Owns what is replaced, by what, and what stays. Every name becomes a pseudonym: the same one wherever
//! it stands in the session, so that what belongs together still does. Pure; the key is the
//! caller's, who makes a random one for each session and keeps it nowhere.
//!
//! Replaced: components of paths, abstract names, names of programs, users, units, interfaces and
//! cgroups, ids of containers, the host's name, addresses. Stay: ports, errnos, numbers of
//! processes, users, groups and inodes, times, counts, the kernel's release and function names. They
//! are what an incident is understood by, and mean little outside of the host.

mod addresses;
mod header;
mod keyed;
#[cfg(test)]
mod leaks;
mod names;
mod redactor;
mod source;
mod words;

pub use redactor::Redactor;
pub use source::Redacted;
