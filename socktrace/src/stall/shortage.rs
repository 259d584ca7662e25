//! Whether a process is short of memory: by its cgroups, or by all TCP sockets of the host. Pure.

use std::fmt;

use crate::host::{CgroupMemory, Pressure, ProtocolMemory};

/// Pressure from which on tasks are noticeably slowed down, in hundredths of a per cent of the last 10 seconds.
const NOTICEABLE: u32 = 1000;

/// What was read of the memory that a process may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Its cgroup and those above it, innermost first.
    pub cgroups: Vec<CgroupMemory>,
    /// How long tasks of its cgroup waited for memory; `None` where the kernel does not tell.
    pub pressure: Option<Pressure>,
    /// Memory of TCP sockets, in pages, and its limits.
    pub tcp: ProtocolMemory,
}

/// What is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Tasks of its cgroup wait for memory: this share of the last 10 seconds, in hundredths of a per cent.
    Waiting(u32),
    /// A cgroup holds more bytes than `memory.high`, and each allocation is slowed down.
    AboveHigh {
        /// Bytes in use.
        current: u64,
        /// The limit.
        high: u64,
    },
    /// TCP sockets hold as much as they may: writes wait.
    Tcp,
}

impl Memory {
    /// `None` where nothing is, or nothing is known.
    pub fn shortage(&self) -> Option<Shortage> {
        match self.pressure.and_then(|it| it.some) {
            Some(stall) if stall.avg10 >= NOTICEABLE => {
                return Some(Shortage::Waiting(stall.avg10));
            }
            // A cgroup may stand at its limit for long with page cache, which costs nobody anything.
            Some(_) => {}
            None => {
                let above = self.cgroups.iter().find_map(above_high);
                if above.is_some() {
                    return above;
                }
            }
        }
        let full = self.tcp.pages_used.zip(self.tcp.high).is_some_and(|(used, high)| used >= high);
        full.then_some(Shortage::Tcp)
    }
}

fn above_high(of: &CgroupMemory) -> Option<Shortage> {
    let (current, high) = of.current.zip(of.high)?;
    (current > high).then_some(Shortage::AboveHigh { current, high })
}

impl fmt::Display for Shortage {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting(share) => write!(
                to,
                "short of memory (tasks of its cgroup waited for it in {}.{:02} % of the last 10 s)",
                share / 100,
                share % 100
            ),
            Self::AboveHigh { current, high } => write!(
                to,
                "short of memory (its cgroup holds {} KiB, memory.high is {} KiB)",
                current >> 10,
                high >> 10
            ),
            Self::Tcp => {
                to.write_str("short of memory (TCP sockets hold all that net.ipv4.tcp_mem allows)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::PressureStall;

    fn pressed(avg10: u32) -> Pressure {
        let some = PressureStall { avg10, avg60: 0, avg300: 0, total_us: 0 };
        Pressure { some: Some(some), full: None }
    }

    fn above() -> CgroupMemory {
        CgroupMemory { current: Some(4 << 20), high: Some(2 << 20), ..CgroupMemory::default() }
    }

    fn words(memory: &Memory) -> String {
        memory.shortage().map(|it| it.to_string()).unwrap_or_default()
    }

    #[test]
    fn tasks_that_wait_for_memory_are_short_of_it() {
        let waits =
            Memory { pressure: Some(pressed(1234)), cgroups: vec![above()], ..Memory::default() };
        assert!(words(&waits).contains("in 12.34 % of the last 10 s"), "{}", words(&waits));
        assert_eq!(Memory { pressure: Some(pressed(999)), ..Memory::default() }.shortage(), None);
    }

    #[test]
    fn a_cgroup_above_its_limit_counts_only_where_waiting_is_not_measured() {
        let unknown = Memory { cgroups: vec![above()], ..Memory::default() };
        assert!(words(&unknown).contains("holds 4096 KiB, memory.high is 2048 KiB"));
        let calm = Memory { pressure: Some(pressed(0)), ..unknown };
        assert_eq!(calm.shortage(), None);
    }

    #[test]
    fn tcp_sockets_that_hold_all_they_may_leave_none() {
        let tcp = |used| ProtocolMemory {
            pages_used: Some(used),
            high: Some(20),
            ..ProtocolMemory::default()
        };
        assert_eq!(Memory { tcp: tcp(20), ..Memory::default() }.shortage(), Some(Shortage::Tcp));
        assert_eq!(Memory { tcp: tcp(19), ..Memory::default() }.shortage(), None);
        assert_eq!(Memory::default().shortage(), None);
    }
}
