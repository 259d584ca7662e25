//! The step `memory`: socket memory of the host, memory and CPU of the process's cgroups, pressure.

use super::{
    Facts,
    table::note_findings,
    words::{SHOWN, count, size, subject},
};
use crate::{
    diagnose::{
        Check,
        rule::{Cause, Step},
    },
    event::{Certainty, Phrase, Severity, name, phrase},
    host::{CgroupMemory, Pressure, Pressures, ProtocolMemory, SocketMemory},
};

/// Pressure from which on it slows tasks down noticeably, in hundredths of a per cent of the last 10
/// seconds: of memory, of the CPU.
const MEMORY_PRESSURE: u32 = 1000;
const CPU_PRESSURE: u32 = 5000;

/// Memory and CPU. `None` where that could not be read.
#[derive(Clone, Debug, Default)]
pub struct MemoryFacts {
    /// Memory of sockets, in pages, and its limits.
    pub sockets: Option<SocketMemory>,
    /// Bytes of a page.
    pub page: u64,
    /// The process's cgroup and those above it, innermost first.
    pub cgroups: Option<Vec<CgroupMemory>>,
    /// Pressure in its cgroup.
    pub pressures: Pressures,
    /// Pressure on the host.
    pub host_pressures: Pressures,
    /// How often its cgroup's CPU quota held it up, at two looks; `None` without a quota.
    pub throttled: Option<(u64, Option<u64>)>,
}

pub(super) fn check(facts: &Facts) -> Check {
    let mut check = Check::new("memory", "socket memory, and memory and CPU of its cgroup");
    let known = &facts.memory;
    let tcp = known.sockets.map(|sockets| sockets.tcp).unwrap_or_default();
    check.facts.extend(socket_memory(tcp, known.page));
    check.facts.extend(known.sockets.and_then(orphans));
    let cgroups = known.cgroups.as_deref().unwrap_or_default();
    check.facts.extend(cgroups.iter().filter_map(cgroup).take(SHOWN));
    check.facts.extend(pressure("its cgroup", &known.pressures));
    check.facts.extend(pressure("the host", &known.host_pressures));
    let held_up = known.throttled.map(|(first, second)| second.unwrap_or(first));
    if let Some(times) = held_up.filter(|times| *times != 0) {
        let times = count(times, "period");
        check.facts.push(format!("its CPU quota held it up in {times} so far").into());
    }
    note_findings(&mut check, facts, Step::Memory);
    note_unseen(&mut check, known);
    check
}

fn socket_memory(tcp: ProtocolMemory, page: u64) -> Option<Phrase> {
    let used = size(tcp.pages_used?.saturating_mul(page));
    let limits = tcp.pressure.zip(tcp.high).map_or(String::new(), |(pressure, high)| {
        let size = |pages: u64| size(pages.saturating_mul(page));
        format!(" (pressure above {}, limit {})", size(pressure), size(high))
    });
    Some(format!("TCP sockets of the host hold {used}{limits}").into())
}

fn orphans(sockets: SocketMemory) -> Option<Phrase> {
    let orphans = sockets.orphans.filter(|orphans| *orphans != 0)?;
    let most = sockets.most_orphans.map_or(String::new(), |most| format!(" of {most} at most"));
    Some(format!("{} on the host belong to no process{most}", count(orphans, "TCP socket")).into())
}

fn path(of: &CgroupMemory) -> Phrase {
    phrase!["cgroup /", name(&of.path)]
}

/// One with a limit, or in which memory was refused.
fn cgroup(of: &CgroupMemory) -> Option<Phrase> {
    let current = of.current?;
    let limit = |limit: Option<u64>, word: &str| match limit {
        Some(u64::MAX) | None => String::new(),
        Some(limit) => format!(", {word} {}", size(limit)),
    };
    let sock = of.sock.filter(|bytes| *bytes != 0);
    let sock = sock.map_or(String::new(), |bytes| format!(" ({} for sockets)", size(bytes)));
    let events = [
        ("memory.high was met", of.events.high),
        ("memory.max was met", of.events.max),
        ("allocations failed", of.events.oom),
        ("processes were killed", of.events.oom_kill),
    ];
    let events: String = events
        .iter()
        .filter_map(|(what, times)| times.filter(|times| *times != 0).map(|times| (what, times)))
        .fold(String::new(), |said, (what, times)| {
            said + ", " + what + " " + &count(times, "time")
        });
    Some(phrase![
        path(of),
        format!(" holds {}{sock}", size(current)),
        limit(of.high, "memory.high"),
        limit(of.max, "memory.max"),
        events,
    ])
}

fn some10(of: Option<Pressure>) -> Option<u32> {
    Some(of?.some?.avg10)
}

fn percent(hundredths: u32) -> String {
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

fn pressure(of: &str, pressures: &Pressures) -> Option<Phrase> {
    let each = [("memory", pressures.memory), ("a CPU", pressures.cpu), ("I/O", pressures.io)];
    let each: Vec<String> = each
        .into_iter()
        .filter_map(|(what, pressure)| Some(format!("{} for {what}", percent(some10(pressure)?))))
        .collect();
    let each = (!each.is_empty()).then(|| each.join(", "))?;
    Some(format!("in the last 10 s tasks of {of} waited {each}").into())
}

pub(super) fn too_much_socket_memory(facts: &Facts) -> Option<Cause> {
    let (tcp, page) = (facts.memory.sockets?.tcp, facts.memory.page);
    let used = tcp.pages_used?;
    let full = tcp.high.is_some_and(|high| used >= high);
    if !full && tcp.pressure.is_none_or(|pressure| used < pressure) {
        return None;
    }
    Some(Cause {
        severity: if full { Severity::Error } else { Severity::Warning },
        certainty: Certainty::Measured,
        subject: "the host".into(),
        fact: if full {
            "TCP sockets hold as much memory as net.ipv4.tcp_mem allows".into()
        } else {
            "TCP sockets hold more memory than the pressure mark of net.ipv4.tcp_mem".into()
        },
        consequence: if full {
            "packets are dropped, and writes wait for memory".into()
        } else {
            "buffers of all TCP sockets are kept small, and transfers become slow".into()
        },
        fix: "find the sockets that hold it (ss -tm), or raise net.ipv4.tcp_mem".into(),
        evidence: socket_memory(tcp, page).into_iter().collect(),
    })
}

pub(super) fn too_many_orphans(facts: &Facts) -> Option<Cause> {
    let sockets = facts.memory.sockets?;
    let (orphans, most) = sockets.orphans.zip(sockets.most_orphans)?;
    (orphans >= most).then(|| Cause {
        severity: Severity::Warning,
        certainty: Certainty::Measured,
        subject: "the host".into(),
        fact: format!("{orphans} TCP sockets belong to no process, {most} may").into(),
        consequence: "connections that are closed with data left to send are reset".into(),
        fix: "find the peers that do not take the last data (ss -to state fin-wait-1), or raise \
              net.ipv4.tcp_max_orphans"
            .into(),
        evidence: Vec::new(),
    })
}

pub(super) fn short_of_memory(facts: &Facts) -> impl Iterator<Item = Cause> + '_ {
    facts.memory.cgroups.iter().flatten().filter_map(refused).take(SHOWN)
}

fn refused(of: &CgroupMemory) -> Option<Cause> {
    let current = of.current?;
    let limited = |limit: Option<u64>| limit.filter(|limit| *limit != u64::MAX);
    let killed = of.events.oom.unwrap_or(0) != 0 || of.events.oom_kill.unwrap_or(0) != 0;
    // A cgroup may stand at its limit for long with page cache alone: then nothing was refused.
    let slowed = limited(of.high).is_some_and(|high| current > high);
    if !killed && !slowed {
        return None;
    }
    Some(Cause {
        severity: Severity::Warning,
        certainty: Certainty::Measured,
        subject: path(of),
        fact: if killed {
            "its limit of memory was met, and allocations failed".into()
        } else {
            "it holds more memory than memory.high".into()
        },
        consequence: if killed {
            "processes are killed, and socket buffers refused".into()
        } else {
            "its processes are slowed down at each allocation".into()
        },
        fix: "raise memory.max and memory.high (MemoryMax=, MemoryHigh=), or let it use less"
            .into(),
        evidence: cgroup(of).into_iter().collect(),
    })
}

pub(super) fn throttled(facts: &Facts) -> Option<Cause> {
    let (first, second) = facts.memory.throttled?;
    (second? > first).then(|| Cause {
        severity: Severity::Warning,
        certainty: Certainty::Measured,
        subject: subject(facts),
        fact: "the CPU quota of its cgroup held it up while it was looked at".into(),
        consequence: "it stands still for the rest of each period, and answers late".into(),
        fix: "raise the quota (CPUQuota=, cpu.max), or give it less to do".into(),
        evidence: Vec::new(),
    })
}

pub(super) fn memory_pressed(facts: &Facts) -> Option<Cause> {
    let share = some10(facts.memory.pressures.memory).filter(|it| *it >= MEMORY_PRESSURE)?;
    Some(pressed(facts, "memory", share, "it stands still while pages are fetched again"))
}

pub(super) fn cpu_pressed(facts: &Facts) -> Option<Cause> {
    let share = some10(facts.memory.pressures.cpu).filter(|it| *it >= CPU_PRESSURE)?;
    Some(pressed(facts, "a CPU", share, "it answers late"))
}

/// Of a host that is busy, and no fault of a socket.
fn pressed(facts: &Facts, what: &str, share: u32, consequence: &'static str) -> Cause {
    Cause {
        severity: Severity::Info,
        certainty: Certainty::Measured,
        subject: subject(facts),
        fact: format!(
            "tasks of its cgroup waited for {what} in {} of the last 10 s",
            percent(share)
        )
        .into(),
        consequence: consequence.into(),
        fix: "find what else runs there (systemd-cgtop), or give it more".into(),
        evidence: Vec::new(),
    }
}

fn note_unseen(check: &mut Check, known: &MemoryFacts) {
    let limits = known.sockets.is_some_and(|sockets| sockets.tcp.high.is_some());
    let lacks = [
        (known.sockets.is_none(), "memory of sockets"),
        (
            known.sockets.is_some() && !limits,
            "net.ipv4.tcp_mem: the first network namespace has it",
        ),
        (known.cgroups.as_ref().is_none_or(Vec::is_empty), "memory of its cgroup (no cgroup v2)"),
        (known.pressures == Pressures::default(), "pressure in its cgroup"),
    ];
    check.unseen.extend(lacks.iter().filter(|(lacks, _)| *lacks).map(|(_, what)| (*what).into()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{MemoryEvents, PressureStall};

    fn rules(memory: MemoryFacts) -> Vec<(String, Severity)> {
        let found = check(&Facts { memory, ..Facts::default() }).findings;
        found.into_iter().map(|it| (it.rule.into_owned(), it.severity)).collect()
    }

    fn tcp(pages_used: u64) -> MemoryFacts {
        let tcp = ProtocolMemory {
            pages_used: Some(pages_used),
            low: Some(1),
            pressure: Some(10),
            high: Some(20),
        };
        let sockets = SocketMemory { tcp, ..SocketMemory::default() };
        MemoryFacts { sockets: Some(sockets), page: 4096, ..MemoryFacts::default() }
    }

    #[test]
    fn socket_memory_is_pressed_before_it_is_used_up() {
        assert_eq!(rules(tcp(9)), []);
        assert_eq!(rules(tcp(10)), [("tcp-memory".to_owned(), Severity::Warning)]);
        assert_eq!(rules(tcp(20)), [("tcp-memory".to_owned(), Severity::Error)]);
    }

    #[test]
    fn a_cgroup_at_its_limit_is_bad_only_where_memory_was_refused() {
        let at = |current, events| MemoryFacts {
            cgroups: Some(vec![CgroupMemory {
                path: b"a".to_vec(),
                current: Some(current),
                high: Some(50),
                max: Some(100),
                sock: None,
                events,
            }]),
            ..MemoryFacts::default()
        };
        let none = MemoryEvents::default();
        let killed = MemoryEvents { oom_kill: Some(1), ..none };
        let full = MemoryEvents { max: Some(7), ..none };
        assert_eq!(rules(at(50, full)), []);
        assert_eq!(rules(at(51, none)).len(), 1);
        assert_eq!(rules(at(10, killed)).len(), 1);
    }

    #[test]
    fn throttling_counts_only_while_it_was_looked_at() {
        let with = |first, second| MemoryFacts {
            throttled: Some((first, second)),
            ..MemoryFacts::default()
        };
        assert_eq!(rules(with(5, Some(5))), []);
        assert_eq!(rules(with(5, None)), []);
        assert_eq!(rules(with(5, Some(6))), [("cpu-throttled".to_owned(), Severity::Warning)]);
    }

    #[test]
    fn pressure_of_its_cgroup_is_a_warning() {
        let stall = PressureStall { avg10: 1234, avg60: 0, avg300: 0, total_us: 0 };
        let memory = Some(Pressure { some: Some(stall), full: None });
        let pressures = Pressures { memory, ..Pressures::default() };
        let facts = MemoryFacts { pressures, ..MemoryFacts::default() };
        let said = check(&Facts { memory: facts, ..Facts::default() });
        assert_eq!(said.findings[0].rule, "memory-pressure");
        assert_eq!(
            said.facts[0],
            "in the last 10 s tasks of its cgroup waited 12.34 % for memory".into()
        );
    }

    #[test]
    fn what_could_not_be_read_is_unseen() {
        assert_eq!(check(&Facts::default()).unseen.len(), 3);
    }
}
