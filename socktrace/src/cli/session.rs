//! What every tracing command does first: privileges, attaching, the session's header.

use std::{
    ffi::OsString,
    fmt::Write as _,
    os::unix::ffi::{OsStrExt, OsStringExt},
    time::{Duration, SystemTime},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use crate::{
    aggregate::{Aggregator, Selection, Session, SessionSignal, Snapshot},
    event::Source,
    evidence::{Investigator, Namespaces},
    host::Host,
    kernel::{Facts, drop_all_but_reading, has_lsm_programs, missing_privileges},
    listener::Lookout,
    live::LiveError,
    pipeline::{self, Sink},
    probe::{Attached, Options, SelfTest, Verdict, attach, facts},
    render::escape::escape,
    session::{Header, SCHEMA_VERSION},
    transport::monotonic_now_ns,
};

/// Inode of the initial pid namespace (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Attached and ready to record.
pub(super) struct Prepared {
    /// What is attached.
    pub(super) attached: Attached,
    /// What sees listeners, in every network namespace.
    pub(super) lookout: Lookout,
    /// Finds out causes.
    pub(super) investigator: Investigator,
    /// `uname -r`.
    release: String,
}

/// Fails before anything is attached if privileges are missing.
pub(super) fn check_privileges() -> Result<(), Failure> {
    let missing = missing_privileges();
    if !missing.is_empty() {
        return Err(Failure::Privileges(missing));
    }
    if in_own_pid_namespace() { Err(Failure::PidNamespace) } else { Ok(()) }
}

/// Whether this is another pid namespace than the initial one.
pub(super) fn in_own_pid_namespace() -> bool {
    // Without /proc there are other things to complain of, later.
    std::fs::read_link("/proc/self/ns/pid")
        .is_ok_and(|namespace| namespace.as_os_str() != INITIAL_PID_NAMESPACE)
}

/// Attaches, then gives up every capability that reading does not need.
pub(super) fn prepare(options: &Options) -> Result<Prepared, Failure> {
    check_privileges()?;
    let facts = facts(options)?;
    let attached = attach(&facts, options)?;
    // No other network namespace may be entered after this.
    let lookout = Lookout::new(Host::default()).with_windows();
    let namespaces = Namespaces::open(Host::default());
    let investigator = Investigator::new(Host::default(), namespaces, has_lsm_programs().ok());
    let Facts { preemption, release, tried, .. } = facts;
    // No other thread keeps what this one gives up.
    drop(tried);
    drop_all_but_reading(attached.is_skipped_while_reading(preemption)).map_err(|error| {
        Failure::System {
            what: "cannot give up privileges after attaching",
            source: std::io::Error::other(error.to_string()),
        }
    })?;
    Ok(Prepared { attached, lookout, investigator, release })
}

impl Prepared {
    /// The report's header.
    pub(super) fn session(&self, command: &[OsString]) -> Session {
        let host = Host::default();
        Session {
            started: SystemTime::now(),
            started_ns: monotonic_now_ns(),
            host: host_name(),
            kernel: self.release.clone(),
            command: command.iter().map(|arg| arg.clone().into_vec()).collect(),
            signals: self.attached.verdicts.iter().map(session_signal).collect(),
            untested: untested(&self.attached.self_test),
            somaxconn: host.read_somaxconn().ok(),
            netns: host.read_netns(std::process::id()).ok(),
        }
    }
}

/// The name of this host; empty where it has none.
pub(super) fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    escape(name.as_bytes()).into_owned()
}

/// The first line of a session file.
pub(super) fn header(session: Session, filters: Selection, interval: Duration) -> Header {
    Header {
        schema_version: SCHEMA_VERSION,
        socktrace_version: env!("CARGO_PKG_VERSION").to_owned(),
        interval_ns: u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX),
        part: 1,
        session,
        filters,
    }
}

/// On stderr, how often the kernel skipped each hook, and what its runs took where they were timed; and of each signal, for
/// what there was no room or no beginning.
pub(super) fn tell_programs(snapshot: &Snapshot) {
    let mut lines = String::new();
    for (name, missed) in &snapshot.completeness.misses.programs {
        let missed = missed.map_or("-".to_owned(), |missed| missed.to_string());
        let _ = write!(lines, "socktrace: {name} missed {missed}");
        let runs = snapshot.runs.as_ref().and_then(|runs| runs.0.get(name));
        if let Some(runs) = runs {
            let mean = runs.mean_ns().map_or("-".to_owned(), |mean| mean.to_string());
            let _ = write!(lines, ", ran {} times, {mean} ns each", runs.count);
        }
        lines.push('\n');
    }
    for row in &snapshot.completeness.signals {
        let _ = writeln!(
            lines,
            "socktrace: {} seen {}, beginnings missed {}, maps full: beginnings {}, totals {}, names {}",
            row.signal.name(),
            row.seen,
            row.unpaired,
            row.full_pending,
            row.full_tally,
            row.full_name,
        );
    }
    tell(&lines);
}

/// A line on stderr, with its newline.
pub(super) fn tell(line: &str) {
    // Nobody to tell where stderr is closed.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// Why the hooks were not tried.
pub(super) fn untested(self_test: &SelfTest) -> Option<String> {
    match self_test {
        SelfTest::Passed => None,
        SelfTest::NotMade(why) => Some(why.clone()),
    }
}

/// A verdict as the report's header shows it.
pub(super) fn session_signal(verdict: &Verdict) -> SessionSignal {
    let choice = verdict.choice.as_ref();
    SessionSignal {
        signal: verdict.signal,
        tier: choice.map(|choice| choice.tier),
        loses: choice.map(|choice| choice.loses.clone()).unwrap_or_default(),
        refused: verdict
            .refusals
            .iter()
            .map(|refusal| (refusal.tier, refusal.why.clone()))
            .collect(),
    }
}

/// A runtime of one thread, whose capabilities are those of the caller.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::System { what: "cannot start the event loop", source })
}

/// Runs the pipeline until `stop` or the sink ends it.
pub(super) async fn run<S: Source<Error = LiveError>, K: Sink, O>(
    live: &mut S,
    aggregator: &mut Aggregator,
    sink: &mut K,
    stop: impl Future<Output = O>,
) -> Result<Option<O>, Failure> {
    let stop = std::pin::pin!(stop);
    Ok(pipeline::run(live, aggregator, sink, stop).await?)
}

/// The signals that end a recording, caught from now on.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// What came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// Ctrl-C.
    Interrupt,
    /// A polite end.
    Terminate,
}

impl Signals {
    /// Catches them; to be called before anybody is told that tracing has begun.
    pub(super) fn catch() -> Result<Self, Failure> {
        let catch = |kind| {
            signal(kind).map_err(|source| Failure::System { what: "cannot catch signals", source })
        };
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Came {
        tokio::select! {
            _ = self.interrupt.recv() => Came::Interrupt,
            _ = self.terminate.recv() => Came::Terminate,
        }
    }
}

/// Sleeps for `duration`, or for ever.
pub(super) async fn elapsed(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// Tells on stderr that everything is attached.
pub(super) fn announce(verdicts: &[Verdict], hint: &str) {
    let mut tiers: Vec<&str> =
        verdicts.iter().filter_map(|verdict| Some(verdict.choice.as_ref()?.tier.name())).collect();
    tiers.dedup();
    if verdicts.iter().any(|verdict| verdict.choice.is_none()) {
        tiers.push("not every signal, see socktrace check");
    }
    // Nobody to tell where stderr is closed; tracing goes on.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("socktrace: attached (tier {}); {hint}\n", tiers.join(", ")).as_bytes(),
    );
}
