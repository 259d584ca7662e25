//! The status line on stderr while a recording goes on.
//!
//! Owns when there is one, how often it is drawn, and that it is gone before anything else is printed.
//! There is none where stderr is no terminal, or one that cannot clear a line (`TERM=dumb`); none with
//! CMD, whose own output goes to the same terminal; and it pauses while socktrace is in the
//! background.

use std::{
    ffi::OsStr,
    io::{IsTerminal, Write, stderr},
    time::{Duration, Instant},
};

use rustix::{
    process::getpgrp,
    termios::{tcgetpgrp, tcgetwinsize},
};

use socktrace_common::DropReason;

use crate::{
    event::{Body, EAGAIN, Endpoint, Event, Stall, StallChange},
    render::status::{Status, Worst, render_line},
};

/// Between two drawings.
const INTERVAL: Duration = Duration::from_millis(250);
/// Columns of a terminal that does not tell.
const COLUMNS: usize = 80;
/// Back to the line's start, and clear it.
const CLEAR: &[u8] = b"\r\x1b[K";

/// The status line, and what it tells. Cleared when dropped.
pub(super) struct Progress {
    begin: Instant,
    drawn: Option<Instant>,
    is_shown: bool,
    seen: Seen,
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    events: u64,
    slowest: Option<Worst>,
    failure: Option<(u32, Endpoint)>,
    has_drops: bool,
    /// Stalls that go on: the listener, how old when last told, its address.
    stalls: Vec<(u64, u64, Endpoint)>,
}

impl Progress {
    /// From now on; `None` where there is to be no line.
    pub(super) fn new(has_command: bool) -> Option<Self> {
        let term = std::env::var_os("TERM");
        is_wanted(stderr().is_terminal(), term.as_deref(), has_command).then(|| Self {
            begin: Instant::now(),
            drawn: None,
            is_shown: false,
            seen: Seen::default(),
        })
    }

    /// Takes one event in.
    pub(super) fn event(&mut self, event: &Event) {
        self.seen.event(event);
    }

    /// Takes one change of a stall in.
    pub(super) fn stall(&mut self, stall: &Stall) {
        self.seen.stall(stall);
    }

    /// Draws the line anew, if it is time to; `lost` as of the last reading of the totals.
    pub(super) fn tick(&mut self, now: Instant, lost: u64) {
        let is_due = self.drawn.is_none_or(|drawn| now.duration_since(drawn) >= INTERVAL);
        if !is_due {
            return;
        }
        self.drawn = Some(now);
        // A shell in the foreground has the terminal, and its own line there.
        if !tcgetpgrp(stderr()).is_ok_and(|foreground| foreground == getpgrp()) {
            self.is_shown = false;
            return;
        }
        let status = self.seen.status(now.duration_since(self.begin), lost);
        let columns = tcgetwinsize(stderr()).map_or(0, |size| usize::from(size.ws_col));
        let line = render_line(&status, if columns == 0 { COLUMNS } else { columns });
        // Nobody to tell where the terminal is gone.
        let _ = stderr().write_all(&[CLEAR, line.as_bytes()].concat());
        self.is_shown = true;
    }

    /// Takes the line away, before anything else is printed.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            let _ = stderr().write_all(CLEAR);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn is_wanted(is_terminal: bool, term: Option<&OsStr>, has_command: bool) -> bool {
    let can_clear = term.is_some_and(|term| !term.is_empty() && term != "dumb");
    is_terminal && can_clear && !has_command
}

impl Seen {
    fn event(&mut self, event: &Event) {
        self.events += 1;
        match &event.body {
            Body::Accept { wait_ns: Some(wait_ns), .. } => self.accept(*wait_ns, event),
            Body::AcceptError { errno, .. } if *errno != EAGAIN => {
                self.fail(*errno, &Endpoint::default());
            }
            Body::ConnectFailure { errno, target, .. } => self.fail(*errno, target),
            // Neither is a connection thrown away.
            Body::BacklogDrop {
                reason: DropReason::SyncookieSent | DropReason::Discarded, ..
            } => {}
            Body::BacklogDrop { .. } => self.has_drops = true,
            _ => {}
        }
    }

    fn accept(&mut self, wait: u64, event: &Event) {
        let known = match &self.slowest {
            Some(Worst::Accept { wait_ns, .. }) => *wait_ns,
            _ => 0,
        };
        if wait > known {
            let comm = event.actor.as_ref().map(|actor| actor.task.comm.clone());
            let comm = comm.unwrap_or_default();
            self.slowest = Some(Worst::Accept { wait_ns: wait, comm });
        }
    }

    fn fail(&mut self, errno: u32, target: &Endpoint) {
        self.failure = Some((errno, target.clone()));
    }

    fn stall(&mut self, stall: &Stall) {
        self.stalls.retain(|(listener, ..)| *listener != stall.listener);
        if stall.change != StallChange::Closed {
            let age = stall.oldest_ns();
            self.stalls.push((stall.listener, age, stall.local.clone()));
        }
    }

    fn status(&self, elapsed: Duration, lost: u64) -> Status {
        Status { elapsed, events: self.events, lost, worst: self.worst() }
    }

    /// What goes on before what is over, and what is lost before what is late.
    fn worst(&self) -> Option<Worst> {
        let oldest = self.stalls.iter().max_by_key(|(_, age, _)| *age);
        let stall =
            oldest.map(|(_, age, local)| Worst::Stall { oldest_ns: *age, local: local.clone() });
        let drops = self.has_drops.then_some(Worst::Drops);
        let failure = self.failure.clone().map(|(errno, target)| Worst::Failure { errno, target });
        stall.or(drops).or(failure).or_else(|| self.slowest.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(body: Body) -> Event {
        Event { time_ns: 0, actor: None, body }
    }

    fn accept(wait_ns: u64) -> Event {
        let (listener, peer) = (None, Endpoint::default());
        event(Body::Accept { listener, wait_ns: Some(wait_ns), peer })
    }

    fn failure(errno: u32) -> Event {
        event(Body::ConnectFailure { errno, target: Endpoint::default(), credentials: None })
    }

    fn stall(listener: u64, age: u64, change: StallChange) -> Stall {
        Stall { time_ns: age, change, selected: false, ..Stall::of_listener(listener) }
    }

    #[test]
    fn there_is_a_line_only_on_a_terminal_that_can_clear_it_and_is_nobody_elses() {
        let term = |name| Some(OsStr::new(name));
        assert!(is_wanted(true, term("xterm"), false));
        for (is_terminal, term, has_command) in [
            (false, term("xterm"), false),
            (true, term("dumb"), false),
            (true, term(""), false),
            (true, None, false),
            (true, term("xterm"), true),
        ] {
            assert!(!is_wanted(is_terminal, term, has_command));
        }
    }

    #[test]
    fn the_worst_goes_from_late_to_failed_to_lost_to_stalled_and_back() {
        let mut seen = Seen::default();
        assert_eq!(seen.worst(), None);
        for late in [accept(7), accept(5)] {
            seen.event(&late);
        }
        assert!(matches!(seen.worst(), Some(Worst::Accept { wait_ns: 7, .. })));
        let poll = event(Body::AcceptError { listener: None, errno: EAGAIN });
        for tried in [poll, failure(13), failure(111)] {
            seen.event(&tried);
        }
        assert!(matches!(seen.worst(), Some(Worst::Failure { errno: 111, .. })));
        seen.event(&event(Body::BacklogDrop {
            listener: None,
            reason: DropReason::Other,
            stage: None,
            queue: Some(1),
            limit: Some(1),
            peer: Endpoint::default(),
        }));
        assert_eq!(seen.worst(), Some(Worst::Drops));
        for told in [stall(1, 9, StallChange::Opened), stall(2, 5, StallChange::Opened)] {
            seen.stall(&told);
        }
        assert!(matches!(seen.worst(), Some(Worst::Stall { oldest_ns: 9, .. })));
        seen.stall(&stall(1, 20, StallChange::Closed));
        assert!(matches!(seen.worst(), Some(Worst::Stall { oldest_ns: 5, .. })));
        seen.stall(&stall(2, 20, StallChange::Closed));
        assert_eq!(seen.worst(), Some(Worst::Drops));
        assert_eq!(seen.events, 6);
    }
}
