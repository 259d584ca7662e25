//! The recording itself: attaches, runs CMD, takes everything in, and waits for what ends it.

use std::{
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tokio::{process::Child, runtime::Runtime};

use super::{
    super::{
        child,
        destination::Destination,
        failure::Failure,
        output::redactor,
        saving::Saving,
        session::{self, Came, Signals},
        tape::Tape,
    },
    Record,
};
use crate::{
    aggregate::{Aggregator, Snapshot},
    host::Host,
    live::{Live, LiveError},
    redact::Redacted,
    transport::Descendants,
};

/// A session's outcome.
pub(in super::super) struct Recorded {
    /// The report.
    pub(in super::super) snapshot: Snapshot,
    /// Whether the session could be saved, if it was to be.
    pub(super) saved: Result<(), Failure>,
    /// How CMD ended, if it did.
    pub(in super::super) status: Option<ExitStatus>,
    /// CMD, if it goes on.
    pub(super) running: Option<Running>,
}

/// CMD beyond the end of the recording, with what it is waited for.
pub(super) struct Running {
    child: Child,
    interrupts: u32,
    signals: Signals,
    runtime: Runtime,
}

/// Why recording stops.
enum Stop {
    Interrupted,
    Elapsed,
    Ended(ExitStatus),
}

impl Record {
    /// Attaches, runs CMD, and takes everything in.
    pub(super) fn record(&self, to: Option<Destination>) -> Result<Recorded, Failure> {
        let follow = !self.command.is_empty() && !self.system_wide;
        let filters = self.filters.filters(follow);
        let selection = self.filters.applied(follow);
        let options = self.trace.options(filters);
        let mut redactor = self.redact.then(redactor).transpose()?;
        let runtime = session::runtime()?;
        let prepared = match session::prepare(&options) {
            Ok(prepared) => prepared,
            Err(failure) => {
                to.into_iter().for_each(Destination::abandon);
                return Err(failure);
            }
        };
        let session = prepared.session(&self.command);
        let session = match &mut redactor {
            Some(redactor) => redactor.session(session),
            None => session,
        };
        let header = session::header(session.clone(), selection.clone(), self.interval);
        let saving = to.map(|to| Saving::begin(to, header)).transpose()?;
        let mut tape = Tape::new(saving, self.stop_after);
        let mut aggregator = Aggregator::new(session, selection);
        let traced = runtime.block_on(async {
            let signals = Signals::catch()?;
            let session::Prepared { attached, lookout, investigator, .. } = prepared;
            let descendants = follow.then(|| Descendants::of(&attached.ebpf)).transpose();
            let descendants = descendants.map_err(LiveError::from)?;
            let live =
                Live::new(attached, lookout, investigator, Host::default(), self.trace.stall)?;
            let mut live = live.with_checkpoints(self.interval);
            live.select_listeners(&options.filters)?;
            if self.command.is_empty() {
                session::announce(live.verdicts(), "Ctrl-C ends it");
            }
            let mut live = Redacted::new(live, redactor);
            let descendants = descendants.as_ref();
            self.trace(&mut live, &mut aggregator, &mut tape, signals, descendants).await
        });
        let (traced, going_on) = match traced {
            Ok(traced) => traced,
            Err(failure) => {
                tape.abandon();
                return Err(failure);
            }
        };
        let running = going_on.map(|(child, interrupts, signals)| Running {
            child,
            interrupts,
            signals,
            runtime,
        });
        Ok(Recorded { running, ..traced })
    }

    /// Runs CMD, if there is one, and records until something ends it. CMD, if it goes on, comes with
    /// how often it was interrupted.
    async fn trace(
        &self,
        live: &mut Redacted<Live>,
        aggregator: &mut Aggregator,
        tape: &mut Tape,
        mut signals: Signals,
        descendants: Option<&Descendants>,
    ) -> Result<(Recorded, Option<(Child, u32, Signals)>), Failure> {
        let begin = Instant::now();
        let mut child = if self.command.is_empty() {
            None
        } else {
            Some(child::spawn(&self.command, self.user.as_ref(), self.keep_privileges)?)
        };
        tape.begin(child.is_some());
        let mut duration = None;
        let mut interrupts = 0;
        let stop = async {
            let stop =
                wait_for_end(child.as_mut(), &mut signals, &mut interrupts, self.duration).await;
            duration = Some(begin.elapsed());
            if let (Stop::Ended(_), Some(descendants)) = (&stop, descendants) {
                session::tell(&child::note_descendants(descendants).unwrap_or_default());
            }
            stop
        };
        let ran = session::run(live, aggregator, tape, stop).await;
        let duration = duration.unwrap_or_else(|| begin.elapsed());
        let broken = ran.as_ref().err().map(ToString::to_string);
        let saved = tape.finish(aggregator, duration, broken);
        let snapshot = aggregator.snapshot(duration);
        let recorded = Recorded { snapshot, saved, status: None, running: None };
        match (ran, child) {
            (Ok(Some(Stop::Ended(status))), _) => {
                Ok((Recorded { status: Some(status), ..recorded }, None))
            }
            (Ok(_), Some(child)) => Ok((recorded, Some((child, interrupts, signals)))),
            (Ok(_), None) => Ok((recorded, None)),
            // Recording broke off: CMD goes on, and is waited for.
            (Err(failure), child) => {
                if let Some(child) = child {
                    wait_or_leave(child, &mut signals, interrupts).await;
                }
                Err(failure)
            }
        }
    }
}

impl Running {
    /// Waits for CMD, with the report out already.
    pub(super) fn wait(mut self) -> Option<ExitStatus> {
        if let Some(pid) = self.child.id() {
            let how = if self.interrupts < 2 { "the third Ctrl-C leaves" } else { "Ctrl-C leaves" };
            session::tell(&format!(
                "socktrace: recording has ended, and CMD (pid {pid}) goes on; socktrace ends with it, \
                 {how} it alone\n"
            ));
        }
        let wait = wait_or_leave(self.child, &mut self.signals, self.interrupts);
        self.runtime.block_on(wait)
    }
}

/// Waits for CMD once recording is over. The first Ctrl-C is CMD's here, too; the third leaves.
async fn wait_or_leave(
    mut child: Child,
    signals: &mut Signals,
    mut interrupts: u32,
) -> Option<ExitStatus> {
    loop {
        tokio::select! {
            status = child.wait() => return status.ok(),
            came = signals.next() => match came {
                Came::Interrupt if interrupts >= 2 => {
                    return Some(ExitStatus::from_raw(libc::SIGINT));
                }
                Came::Interrupt => interrupts += 1,
                Came::Terminate => child::pass_on(child.id(), Signal::SIGTERM),
            },
        }
    }
}

/// Waits for what ends a recording. With CMD, the first Ctrl-C is CMD's (the terminal has sent it
/// to both), the second ends the recording; without, the first one does.
async fn wait_for_end(
    mut child: Option<&mut Child>,
    signals: &mut Signals,
    interrupts: &mut u32,
    duration: Option<Duration>,
) -> Stop {
    let pid = child.as_ref().and_then(|child| child.id());
    let mut elapsed = std::pin::pin!(session::elapsed(duration));
    loop {
        let ended = async {
            match &mut child {
                Some(child) => child.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            status = ended => return status.map_or(Stop::Interrupted, Stop::Ended),
            () = &mut elapsed => return Stop::Elapsed,
            came = signals.next() => match came {
                Came::Terminate if pid.is_some() => child::pass_on(pid, Signal::SIGTERM),
                Came::Terminate => return Stop::Interrupted,
                Came::Interrupt => {
                    *interrupts += 1;
                    if pid.is_none() || *interrupts >= 2 {
                        return Stop::Interrupted;
                    }
                }
            },
        }
    }
}
