//! Events as lines of text: one line for each, in columns.
//!
//! Owns the columns, also of what other files tell in them. `watch --all` makes a line for each accept: of an
//! ordinary event, no part of it is put together elsewhere first.

use std::{
    borrow::Cow,
    fmt::{self, Display, Formatter, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use super::cells::{Millis, Shown, UNKNOWN, family, number};
use crate::{
    aggregate::{Aggregator, Drops},
    diagnose::errno_name,
    escape::escape,
    event::{Body, Endpoint, Event},
    transport::Clock,
};

/// Column heads; the address comes last because it may be long.
pub(super) fn header() -> String {
    format!(
        "{:<12} {:<15} {:>7} {:<15} {:>6} {:<5} {:<13} {:>9} {}",
        "TIME(UTC)", "SIGNAL", "PID", "COMM", "UID", "FAM", "RET", "WAIT(ms)", "ADDRESS"
    )
}

/// Cells of a line before its address.
pub(super) struct Columns<'a> {
    pub(super) time: SystemTime,
    pub(super) what: &'a str,
    pub(super) pid: Option<u32>,
    /// Raw.
    pub(super) comm: Option<&'a [u8]>,
    pub(super) uid: Option<u32>,
    pub(super) family: &'a str,
    pub(super) result: &'a str,
    pub(super) wait: &'a dyn Display,
}

impl Display for Columns<'_> {
    /// Ends with a blank.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        time_of_day(f, self.time)?;
        f.write_char(' ')?;
        left(f, self.what, 15)?;
        right(f, self.pid, 8)?;
        f.write_char(' ')?;
        left(f, &self.comm.map_or(Cow::Borrowed(UNKNOWN), escape), 15)?;
        right(f, self.uid, 7)?;
        f.write_char(' ')?;
        left(f, self.family, 5)?;
        f.write_char(' ')?;
        left(f, self.result, 13)?;
        write!(f, " {:>9} ", self.wait)
    }
}

/// `23:59:59.999`, cut off behind the millisecond.
fn time_of_day(f: &mut Formatter<'_>, time: SystemTime) -> fmt::Result {
    // A clock has no time before that.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs() % 86_400, since.subsec_millis());
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    write!(f, "{hours:02}:{minutes:02}:{:02}.{millis:03}", seconds % 60)
}

fn left(f: &mut Formatter<'_>, text: &str, width: usize) -> fmt::Result {
    const BLANKS: &str = "               ";
    f.write_str(text)?;
    f.write_str(BLANKS.get(text.chars().count()..width).unwrap_or(""))
}

fn right(f: &mut Formatter<'_>, number: Option<u32>, width: usize) -> fmt::Result {
    match number {
        Some(number) => write!(f, "{number:>width$}"),
        None => write!(f, "{UNKNOWN:>width$}"),
    }
}

/// Adds one event to `line`.
pub(super) fn write(line: &mut String, event: &Event, clock: &Clock, so_far: &Aggregator) {
    let local = |inode: &Option<u64>| inode.and_then(|inode| so_far.listener_address(inode));
    let (family, result, wait) = match &event.body {
        Body::Accept { listener, wait_ns, .. } => (of(local(listener)), None, *wait_ns),
        Body::AcceptError { listener, errno } => (of(local(listener)), Some(*errno), None),
        Body::ConnectFailure { errno, target, .. } => (family(target), Some(*errno), None),
        Body::ConnectBlocked { target, wait_ns, errno, .. } => {
            (family(target), *errno, Some(*wait_ns))
        }
        Body::BacklogDrop { listener, .. } => (of(local(listener)), None, None),
        Body::Listen { listener, .. } => (family(&listener.local), None, None),
    };
    let wait: &dyn Display = match &wait {
        Some(ns) => &Millis(*ns),
        None => &UNKNOWN,
    };
    let actor = event.actor.as_ref();
    let columns = Columns {
        time: clock.wall(event.time_ns),
        what: event.body.signal().name(),
        pid: actor.map(|actor| actor.key.tgid),
        comm: actor.map(|actor| actor.task.comm.as_slice()),
        uid: actor.map(|actor| actor.task.uid),
        family,
        result: &result.map_or(Cow::Borrowed(UNKNOWN), |errno| errno_name(errno).into()),
        wait,
    };
    // A string takes everything.
    let _ = write!(line, "{columns}");
    let _ = write_address(line, &event.body, local);
}

fn of(local: Option<&Endpoint>) -> &'static str {
    local.map_or(UNKNOWN, family)
}

/// Where it happened, and what else there is to say.
fn write_address<'a>(
    line: &mut String,
    body: &Body,
    local: impl Fn(&Option<u64>) -> Option<&'a Endpoint>,
) -> fmt::Result {
    let local = |inode| Shown(local(inode).and_then(|local| local.address.as_ref()));
    match body {
        Body::Accept { listener, peer, .. } => {
            write!(line, "{}", local(listener))?;
            from(line, peer)
        }
        Body::AcceptError { listener, .. } => write!(line, "{}", local(listener)),
        Body::ConnectFailure { target, .. } | Body::ConnectBlocked { target, .. } => {
            write!(line, "{}", Shown(target.address.as_ref()))
        }
        Body::BacklogDrop { listener, reason, queue, limit, peer, .. } => {
            let (local, reason) = (local(listener), Drops::Tcp(*reason).name());
            write!(line, "{local} {reason} {}/{}", number(*queue), number(*limit))?;
            from(line, peer)
        }
        Body::Listen { listener, .. } => {
            let (requested, effective) = (number(listener.requested), number(listener.effective));
            let local = Shown(listener.local.address.as_ref());
            write!(line, "{local} backlog {requested}/{effective}")
        }
    }
}

fn from(line: &mut String, peer: &Endpoint) -> fmt::Result {
    match &peer.address {
        Some(peer) => write!(line, " from {}", Shown(Some(peer))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn columns(time: Duration, comm: Option<&[u8]>, wait: &dyn Display) -> String {
        Columns {
            time: UNIX_EPOCH + time,
            what: "accept",
            pid: comm.map(|_| 4_242),
            comm,
            uid: None,
            family: "unix",
            result: UNKNOWN,
            wait,
        }
        .to_string()
    }

    #[test]
    fn cells_stand_below_their_heads_whatever_is_in_them() {
        let time = Duration::from_millis(86_400_000 + 3_723_004);
        let known = columns(time, Some("wéb".as_bytes()), &Millis(1_234_567));
        assert_eq!(
            known,
            "01:02:03.004 accept             4242 wéb                  - unix  -                 1.235 "
        );
        let unknown = columns(Duration::ZERO, None, &UNKNOWN);
        assert_eq!(
            unknown,
            "00:00:00.000 accept                - -                    - unix  -                     - "
        );
        let heads = header();
        let before = heads.strip_suffix("ADDRESS").expect("the last head");
        assert!([known, unknown].iter().all(|it| it.chars().count() == before.chars().count()));
    }

    #[test]
    fn what_is_too_long_for_its_column_is_not_cut() {
        let line = columns(Duration::ZERO, Some(b"sixteen\x1bbytes"), &Millis(123_456_789_000_000));
        assert!(line.contains(" sixteen\\x1bbytes      - "), "{line}");
        assert!(line.ends_with(" 123456789.000 "), "{line}");
    }
}
