//! Flags that several commands share, and their parsers.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use socktrace_common::{Signal, Tier};

use crate::{
    aggregate::{PathGlob, Selection},
    diagnose::parse_errno,
    listener::HolderFilter,
    probe::{Filters, Options, TierRequest},
    transport::Transport,
};

/// `--transport`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum TransportArg {
    /// The ring buffer where the kernel has it, else perf buffers
    Auto,
    /// A perf buffer per CPU
    Perf,
    /// One BPF ring buffer
    Ring,
}

/// Which processes and sockets to look at.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filters")]
pub(super) struct SocketArgs {
    /// Only these processes
    #[arg(short, long, value_name = "PID", value_delimiter = ',')]
    pid: Vec<u32>,
    /// Only processes of this name (comm, exactly)
    #[arg(short = 'n', long, value_name = "NAME")]
    comm: Option<String>,
    /// Only processes of this real user id
    #[arg(short, long, value_name = "UID")]
    uid: Option<u32>,
    /// Only these ports: of the listener, or of the destination of a connect
    #[arg(short = 'P', long, value_name = "PORT", value_delimiter = ',')]
    port: Vec<u16>,
    /// Only Unix sockets whose path matches (abstract names start with @)
    #[arg(long, value_name = "GLOB", value_parser = parse_glob)]
    path: Option<PathGlob>,
    /// Only IPv4
    #[arg(short = '4', long)]
    ipv4: bool,
    /// Only IPv6
    #[arg(short = '6', long)]
    ipv6: bool,
    /// Only Unix sockets
    #[arg(long)]
    unix: bool,
}

/// What to trace.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filters")]
pub(super) struct FilterArgs {
    #[command(flatten)]
    sockets: SocketArgs,
    /// Only these errnos, by name or number
    #[arg(short, long, value_name = "ERRNO", value_delimiter = ',', value_parser = parse_errno_arg)]
    errno: Vec<u32>,
}

/// How to trace.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[command(next_help_heading = "Tracing")]
pub(super) struct TraceArgs {
    /// Kind of hooks: auto, fentry, kprobe or tracepoint, for all signals or for one
    /// (accept=kprobe)
    #[arg(long, value_name = "[SIGNAL=]TIER", value_delimiter = ',', value_parser = parse_tier)]
    tier: Vec<TierArg>,
    /// How events travel from the kernel
    #[arg(long, value_name = "HOW", default_value = "auto")]
    transport: TransportArg,
    /// Kernel type information to use instead of the running kernel's own
    #[arg(long, value_name = "FILE")]
    btf: Option<PathBuf>,
    /// Size of the event buffer (of each CPU's with perf), rounded up to a power of two
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    buffer_bytes: Option<u32>,
    /// Accepts that waited at least this long are told one by one
    #[arg(long, value_name = "DURATION", default_value = "10ms", value_parser = parse_duration)]
    slow: Duration,
    /// Tell every accept one by one
    #[arg(long)]
    all: bool,
    /// Tell on stderr, in the end, how often the kernel skipped each hook
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Do not try the hooks once they are attached
    #[arg(long)]
    no_self_test: bool,
    /// Have the kernel time each run of a hook, and tell what runs took: costs some more for each
    #[arg(long)]
    probe_cost: bool,
    /// A connection that waits this long to be accepted is a stall of its listener
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    pub(super) stall: Duration,
}

/// One `--tier`: for a signal or for all, a tier or the best.
#[derive(Clone, Copy, Debug)]
struct TierArg {
    signal: Option<Signal>,
    tier: Option<Tier>,
}

const DEFAULT_RING_BYTES: u32 = 4 << 20;
const DEFAULT_PERF_BYTES: u32 = 1 << 20;

impl FilterArgs {
    /// For the kernel.
    pub(super) fn filters(&self, follow: bool) -> Filters {
        Filters {
            pids: self.sockets.pid.clone(),
            comm: self.sockets.kept_comm(),
            uid: self.sockets.uid,
            ports: self.sockets.port.clone(),
            errnos: self.errno.clone(),
            families: self.sockets.families().map(|(family, _)| family).collect(),
            follow,
        }
    }

    /// For user space, where the kernel has the same.
    pub(super) fn applied(&self, followed: bool) -> Selection {
        Selection { followed, in_kernel: true, ..self.selection() }
    }

    /// Whether it is names that they ask for.
    pub(super) const fn ask_for_names(&self) -> bool {
        self.sockets.comm.is_some() || self.sockets.path.is_some()
    }

    /// For user space alone.
    pub(super) fn selection(&self) -> Selection {
        Selection { errnos: self.errno.clone(), ..self.sockets.selection() }
    }
}

impl SocketArgs {
    /// What is asked of processes and addresses.
    pub(super) fn selection(&self) -> Selection {
        Selection {
            pids: self.pid.clone(),
            comm: self.kept_comm(),
            uid: self.uid,
            path: self.path.clone(),
            ports: self.port.clone(),
            families: self.families().map(|(_, name)| name.to_owned()).collect(),
            ..Selection::default()
        }
    }

    /// What is asked of the processes that hold a listener.
    pub(super) fn holders(&self) -> HolderFilter {
        HolderFilter { pids: self.pid.clone(), comm: self.kept_comm(), uid: self.uid }
    }

    /// The kernel keeps 15 bytes of a name.
    fn kept_comm(&self) -> Option<Vec<u8>> {
        self.comm.as_ref().map(|comm| comm.bytes().take(15).collect())
    }

    fn families(&self) -> impl Iterator<Item = (u16, &'static str)> {
        let all = [(self.unix, (1, "unix")), (self.ipv4, (2, "inet")), (self.ipv6, (10, "inet6"))];
        all.into_iter().filter(|(set, _)| *set).map(|(_, family)| family)
    }
}

impl TraceArgs {
    /// For the probe layer.
    pub(super) fn options(&self, filters: Filters) -> Options {
        let mut tiers = TierRequest::default();
        for arg in &self.tier {
            match arg.signal {
                Some(signal) => tiers.set(signal, arg.tier),
                None => tiers = TierRequest::all(arg.tier),
            }
        }
        let transport = match self.transport {
            // Every kernel since 5.8 has ring buffers, and the programs need 5.10.
            TransportArg::Auto | TransportArg::Ring => Transport::Ring,
            TransportArg::Perf => Transport::Perf,
        };
        let default_bytes = match transport {
            Transport::Ring => DEFAULT_RING_BYTES,
            Transport::Perf => DEFAULT_PERF_BYTES,
        };
        let slow_ns = u64::try_from(self.slow.as_nanos()).unwrap_or(u64::MAX);
        Options {
            tiers,
            transport,
            btf: self.btf.clone(),
            buffer_bytes: buffer_size(self.buffer_bytes.unwrap_or(default_bytes)),
            slow_ns: if self.all { 0 } else { slow_ns.max(1) },
            filters,
            self_test: !self.no_self_test,
            timed: self.probe_cost,
        }
    }
}

/// The kernel takes powers of two of at least a page.
fn buffer_size(bytes: u32) -> u32 {
    let page = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
    bytes.max(page).next_power_of_two()
}

/// `10ms`, `30s`, `1m30s`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write it like 10ms, 30s or 1m30s"))
}

/// The least that a session may be given: two files, each with all that its report needs.
const LEAST_SIZE: u64 = 1 << 20;

/// `100M`, `2G`: powers of 1024.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'M')) => (&text[..at], 20),
        Some((at, 'G')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| "write it like 100M or 2G".to_owned())?;
    match number.checked_mul(1 << shift) {
        None => Err("that is more than there can be".to_owned()),
        Some(bytes) if bytes < LEAST_SIZE => Err("it is at least 1M".to_owned()),
        Some(bytes) => Ok(bytes),
    }
}

fn parse_errno_arg(text: &str) -> Result<u32, String> {
    parse_errno(text).ok_or_else(|| {
        "there is no such errno; write its name or number, like EACCES or 13 (see errno(3))".into()
    })
}

fn parse_glob(text: &str) -> Result<PathGlob, String> {
    PathGlob::parse(text).map_err(|error| error.to_string())
}

fn parse_tier(text: &str) -> Result<TierArg, String> {
    let (signal, tier) = match text.split_once('=') {
        Some((signal, tier)) => (Some(parse_signal(signal)?), tier),
        None => (None, text),
    };
    if tier == "auto" {
        return Ok(TierArg { signal, tier: None });
    }
    match Tier::ALL.into_iter().find(|known| known.name() == tier) {
        Some(tier) => Ok(TierArg { signal, tier: Some(tier) }),
        None => Err(format!(
            "there is no tier '{tier}'; there are auto, {}",
            Tier::ALL.map(Tier::name).join(", ")
        )),
    }
}

fn parse_signal(text: &str) -> Result<Signal, String> {
    Signal::ALL.into_iter().find(|known| known.name() == text).ok_or_else(|| {
        format!(
            "there is no signal '{text}'; there are {}",
            Signal::ALL.map(Signal::name).join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_for_one_signal_leaves_the_others() {
        let arg = parse_tier("accept=kprobe").expect("it is one");
        assert_eq!((arg.signal, arg.tier), (Some(Signal::Accept), Some(Tier::Kprobe)));
        assert!(parse_tier("auto").is_ok_and(|arg| arg.tier.is_none()));
    }

    #[test]
    fn a_size_has_a_unit_and_a_least() {
        assert_eq!(parse_size("100M"), Ok(100 << 20));
        assert_eq!(parse_size("2G"), Ok(2 << 30));
        assert_eq!(parse_size("2097152"), Ok(2 << 20));
        for bad in ["", "M", "1K", "-1M", "1T", "99999999999G", "1M1"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_buffer_is_a_power_of_two_of_at_least_a_page() {
        assert_eq!(buffer_size(1), 4096);
        assert_eq!(buffer_size(5000), 8192);
    }
}
