//! Capabilities: what is missing before the attach, and what is given up after it.

use caps::{CapSet, Capability, CapsHashSet};

/// A capability that socktrace needs and does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub capability: &'static str,
    /// What it is needed for.
    pub purpose: &'static str,
}

/// Needed to load and attach; `CAP_SYS_ADMIN` implies the two BPF ones.
const NEEDED: [(Capability, Missing); 3] = [
    (
        Capability::CAP_BPF,
        Missing { capability: "CAP_BPF", purpose: "create maps and load BPF programs" },
    ),
    (
        Capability::CAP_PERFMON,
        Missing { capability: "CAP_PERFMON", purpose: "attach them and read kernel memory" },
    ),
    (
        Capability::CAP_DAC_READ_SEARCH,
        Missing { capability: "CAP_DAC_READ_SEARCH", purpose: "read tracepoint ids and /proc" },
    ),
];

/// What is still needed once everything is attached: reading maps and other users' `/proc`,
/// starting a command as another user, and passing signals on to it.
const KEPT: [Capability; 7] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_KILL,
];

/// The needed capabilities that this process lacks.
pub fn missing_privileges() -> Vec<Missing> {
    let held = caps::read(None, CapSet::Effective).unwrap_or_default();
    select_missing(&held)
}

fn select_missing(held: &CapsHashSet) -> Vec<Missing> {
    let admin = held.contains(&Capability::CAP_SYS_ADMIN);
    NEEDED
        .iter()
        .filter(|(capability, _)| {
            let implied = admin && *capability != Capability::CAP_DAC_READ_SEARCH
                || *capability == Capability::CAP_DAC_READ_SEARCH
                    && held.contains(&Capability::CAP_DAC_OVERRIDE);
            !held.contains(capability) && !implied
        })
        .map(|(_, missing)| *missing)
        .collect()
}

/// Gives up every capability that reading does not need, in the calling thread: to be called
/// before other threads are started. A command that root starts has them all again: execution by
/// uid 0 takes them from the bounding set, which stays. Where reading `takes_turns`, so that hooks are not
/// skipped for long, it needs `CAP_SYS_NICE`.
pub fn drop_all_but_reading(takes_turns: bool) -> Result<(), caps::errors::CapsError> {
    let held = caps::read(None, CapSet::Permitted)?;
    let turns = takes_turns.then_some(Capability::CAP_SYS_NICE);
    let needed: CapsHashSet = KEPT.into_iter().chain(turns).collect();
    let kept: CapsHashSet = held.intersection(&needed).copied().collect();
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(held: &[Capability]) -> Vec<&'static str> {
        let held = held.iter().copied().collect();
        select_missing(&held).into_iter().map(|missing| missing.capability).collect()
    }

    #[test]
    fn sys_admin_stands_for_the_bpf_capabilities() {
        assert_eq!(names(&[]), ["CAP_BPF", "CAP_PERFMON", "CAP_DAC_READ_SEARCH"]);
        assert_eq!(names(&[Capability::CAP_SYS_ADMIN]), ["CAP_DAC_READ_SEARCH"]);
        assert!(names(&[Capability::CAP_SYS_ADMIN, Capability::CAP_DAC_OVERRIDE]).is_empty());
    }
}
