//! The status line of a recording: how long, how much, and the worst so far, in one line that fits.

use std::{fmt::Write, time::Duration};

use unicode_width::UnicodeWidthChar;

use super::{cells::endpoint, escape::escape};
use crate::{diagnose::errno_name, event::Endpoint};

/// What a recording has seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// For how long it has gone on.
    pub elapsed: Duration,
    /// Events that passed the filters.
    pub events: u64,
    /// Events that were lost, as of the last reading of the totals.
    pub lost: u64,
    /// The worst of it.
    pub worst: Option<Worst>,
}

/// The worst that was seen; what is further down is worse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Worst {
    /// The longest wait of an accepted connection.
    Accept {
        /// Nanoseconds.
        wait_ns: u64,
        /// Who accepted, raw; empty where unknown.
        comm: Vec<u8>,
    },
    /// Connects or accepts failed: the last of them.
    Failure {
        /// The errno.
        errno: u32,
        /// Whereto; nothing for an accept.
        target: Endpoint,
    },
    /// Listeners threw connections away.
    Drops,
    /// A listener does not accept.
    Stall {
        /// How long its oldest connection had waited when that was last told, nanoseconds.
        oldest_ns: u64,
        /// The listener.
        local: Endpoint,
    },
}

/// The line, without an end of line, for a terminal of so many columns: the last one stays free, as
/// some terminals begin a new line after it.
pub fn render_line(status: &Status, columns: usize) -> String {
    let mut line = format!("{}, {} events", elapsed(status.elapsed), status.events);
    push(&mut line, format_args!(", {} lost", status.lost));
    if let Some(worst) = &status.worst {
        push(&mut line, format_args!("; {}", words(worst)));
    }
    cut(line, columns.saturating_sub(1))
}

fn words(worst: &Worst) -> String {
    match worst {
        Worst::Accept { wait_ns, comm } if comm.is_empty() => {
            format!("slowest accept {}", millis(*wait_ns))
        }
        Worst::Accept { wait_ns, comm } => {
            format!("slowest accept {} by {}", millis(*wait_ns), escape(comm))
        }
        Worst::Failure { errno, target } if target.address.is_none() => {
            format!("last failure {}", errno_name(*errno))
        }
        Worst::Failure { errno, target } => {
            format!("last failure {} at {}", errno_name(*errno), endpoint(target))
        }
        Worst::Drops => "connections were dropped".to_owned(),
        Worst::Stall { oldest_ns, local } => {
            format!("stalled for {:.1} s: {}", *oldest_ns as f64 / 1e9, endpoint(local))
        }
    }
}

fn millis(ns: u64) -> String {
    format!("{:.1} ms", ns as f64 / 1e6)
}

/// `7 s`, `1 min 05 s`, `2 h 03 min`
fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

/// The line, or as much of it as fits, with `…` for the rest.
fn cut(line: String, columns: usize) -> String {
    let width = |character: char| character.width().unwrap_or(0);
    if line.chars().map(width).sum::<usize>() <= columns {
        return line;
    }
    let mut room = columns.saturating_sub(1);
    let fits = |character: &char| match room.checked_sub(width(*character)) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    let mut kept: String = line.chars().take_while(fits).collect();
    if columns > 0 {
        kept.push('…');
    }
    kept
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    let _ = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Address;

    fn with(worst: Worst) -> Status {
        let elapsed = Duration::from_secs(65);
        Status { elapsed, events: 7, lost: 1, worst: Some(worst) }
    }

    fn unix(name: &[u8]) -> Endpoint {
        Endpoint { address: Some(Address::Unix(name.to_vec())), kind: None }
    }

    #[test]
    fn the_worst_is_told_in_few_words() {
        let line = |worst| render_line(&with(worst), 200);
        let accept = |comm: &[u8]| Worst::Accept { wait_ns: 12_345_678, comm: comm.to_vec() };
        let failure = |target| Worst::Failure { errno: 13, target };
        let stall = Worst::Stall { oldest_ns: 3_210_000_000, local: unix(b"\0app") };
        let begin = "1 min 05 s, 7 events, 1 lost; ";
        for (worst, words) in [
            (accept(b"nginx"), "slowest accept 12.3 ms by nginx"),
            (accept(b""), "slowest accept 12.3 ms"),
            (failure(unix(b"/run/a")), "last failure EACCES at /run/a"),
            (failure(Endpoint::default()), "last failure EACCES"),
            (Worst::Drops, "connections were dropped"),
            (stall, "stalled for 3.2 s: @app"),
        ] {
            assert_eq!(line(worst), format!("{begin}{words}"));
        }
        assert_eq!(render_line(&Status::default(), 200), "0 s, 0 events, 0 lost");
        assert_eq!(elapsed(Duration::from_mins(123)), "2 h 03 min");
    }

    #[test]
    fn no_terminal_is_too_narrow_and_no_name_too_wide() {
        let names: [&[u8]; 4] =
            [b"/run/app.sock", "日本語".as_bytes(), b"\xff\xff\xff", "a\u{301}b\u{301}".as_bytes()];
        for name in names {
            let status = with(Worst::Stall { oldest_ns: 1, local: unix(name) });
            let whole = render_line(&status, 500);
            for columns in 0..80 {
                let line = render_line(&status, columns);
                let width: usize = line.chars().map(|it| it.width().unwrap_or(0)).sum();
                assert!(width <= columns.saturating_sub(1), "{columns} columns: {line}");
                assert!(line == whole || line.ends_with('…') || columns <= 1, "{line}");
            }
        }
    }

    #[test]
    fn a_hostile_name_neither_moves_the_cursor_nor_ends_the_line() {
        let name = "\r\n\u{1b}[2J\u{9b}1A\u{202e}".as_bytes();
        for worst in [
            Worst::Stall { oldest_ns: 1, local: unix(name) },
            Worst::Accept { wait_ns: 1, comm: name.to_vec() },
        ] {
            let line = render_line(&with(worst), 200);
            assert!(!line.chars().any(|it| it.is_control() || it == '\u{202e}'), "{line:?}");
        }
    }
}
