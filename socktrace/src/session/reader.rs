//! Reads a session: a [`Source`] like live tracing. Nobody vouches for the file.
//!
//! Owns what a file without a header or of a newer version is answered with, and the account of what is
//! damaged. Everything that can be read is.

use std::{fmt, io::Read};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use thiserror::Error;

use super::{
    format::{End, Header, KINDS, Line, SCHEMA_VERSION, cgroup_paths, owners},
    frames::Frames,
    plain::is_plain,
    possible,
};
use crate::event::{Damage, Record, Source, Stages};

/// Where a file holds more than this many bytes, they must not be more than so many times the file's.
const BOMB: (u64, u64) = (32 << 20, 500);
/// Lines that are taken in at once: the records of so many are in memory together.
const LINES: usize = 4096;
/// So many lines are no records of anything that was ever a session.
const MAX_MALFORMED: u64 = 200_000;

/// Why a file is no session.
#[derive(Debug, Error)]
pub enum ReadError {
    /// From the system.
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// Nothing at all.
    #[error("it is empty: the tracer ended before it wrote anything")]
    Empty,
    /// No frame, or no header in the first.
    #[error("it is no session of socktrace: it does not begin with one (see socktrace record)")]
    NoSession,
    /// A newer major version.
    #[error(
        "its format is version {0}, and this socktrace reads up to version {SCHEMA_VERSION}; read it with \
         a newer socktrace"
    )]
    Newer(u32),
}

/// A session file.
pub struct Reader<R> {
    frames: Frames<R>,
    header: Header,
    frame: Vec<u8>,
    /// Where in `frame` the next line begins.
    at: usize,
    end: Option<End>,
    damage: Damage,
    unknown_kinds: u64,
    stages: Stages,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    pub fn open(from: R) -> Result<Self, ReadError> {
        let mut frames = Frames::new(from)?;
        let Some(frame) = frames.first()? else {
            return Err(if frames.lost == 0 { ReadError::Empty } else { ReadError::NoSession });
        };
        let (line, rest) = split_line(&frame);
        if !is_plain(line) {
            return Err(ReadError::NoSession);
        }
        let header = read_header(line)?;
        Ok(Self {
            at: frame.len() - rest.len(),
            frame,
            damage: Damage { last_ns: header.session.started_ns, ..Damage::default() },
            frames,
            header,
            end: None,
            unknown_kinds: 0,
            stages: Stages::default(),
        })
    }

    /// How it was recorded.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// How it ended; `None` before the last line was read, or where it is missing.
    pub const fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Lines of kinds that this version does not know.
    pub const fn unknown_kinds(&self) -> u64 {
        self.unknown_kinds
    }

    /// When the last record was made, monotonic nanoseconds.
    pub const fn last_ns(&self) -> u64 {
        self.damage.last_ns
    }

    /// Whether there is a line to take; the next frame is read if need be.
    fn has_lines(&mut self) -> Result<bool, ReadError> {
        self.damage.cut = self.why_not_on().map(Into::into);
        while self.damage.cut.is_none() && self.at == self.frame.len() {
            let Some(frame) = self.frames.next()? else { return Ok(false) };
            (self.frame, self.at) = (frame, 0);
        }
        Ok(self.damage.cut.is_none())
    }

    /// Why the rest is not read, if it is not to be.
    const fn why_not_on(&self) -> Option<&'static str> {
        if self.is_bomb() {
            return Some("the rest holds far too much for its size, and was not read");
        }
        if self.damage.malformed >= MAX_MALFORMED {
            return Some("too many lines are no records; the rest was not read");
        }
        None
    }

    fn take_lines(&mut self, into: &mut Vec<Record>) {
        let frame = std::mem::take(&mut self.frame);
        for _ in 0..LINES {
            let (line, behind) = split_line(&frame[self.at..]);
            self.at = frame.len() - behind.len();
            self.take_text(line, into);
            if self.at == frame.len() {
                break;
            }
        }
        self.frame = frame;
    }

    fn take_text(&mut self, line: &[u8], into: &mut Vec<Record>) {
        // Cheaper than the error of a kind that there is not.
        let is_known = plain_kind(line).is_none_or(is_kind);
        let read = if is_known && is_plain(line) {
            serde_json::from_slice::<Line>(line).ok()
        } else {
            None
        };
        match read {
            Some(line) => self.take_line(line, into),
            None if is_unknown_kind(line) => self.unknown_kinds += 1,
            None => self.damage.malformed += 1,
        }
    }

    fn take_line(&mut self, line: Line, into: &mut Vec<Record>) {
        let record = match line {
            Line::Event(event) => {
                self.note_time(event.time_ns);
                Record::Event(event)
            }
            Line::Listener(named) => Record::Listener(named.inode, named.listener),
            Line::Totals(totals) => {
                let counters = totals.into_counters(&self.stages);
                if !possible::are_totals(&counters) {
                    self.damage.malformed += 1;
                    return;
                }
                self.note_time(counters.time_ns);
                self.stages = counters.stages;
                Record::Counters(Box::new(counters))
            }
            Line::Stall(stall) => Record::Stall(stall),
            Line::Diagnosis(diagnosis) => Record::Diagnosis(diagnosis),
            Line::Sightings(seen) => Record::Sightings(seen.into()),
            Line::Owners(rows) => Record::Owners(owners(rows)),
            Line::Unread(unread) => Record::Unread(unread),
            Line::Cgroups(rows) => Record::Cgroups(cgroup_paths(rows)),
            Line::Namespaces(rows) if possible::are_namespaces(&rows) => Record::Namespaces(rows),
            Line::End(end) => {
                self.end = Some(end);
                return;
            }
            Line::Carried(carried) if possible::is_carried(&carried) => Record::Carried(carried),
            Line::Loss(loss) if possible::is_loss(&loss) => Record::Loss(loss),
            Line::Misses(misses) if possible::are_misses(&misses) => Record::Misses(misses),
            Line::Runs(runs) if possible::are_runs(&runs) => Record::Runs(runs),
            // Numbers that cannot be; and another session, put behind this one.
            Line::Carried(_)
            | Line::Loss(_)
            | Line::Misses(_)
            | Line::Namespaces(_)
            | Line::Runs(_)
            | Line::Session(_) => {
                self.damage.malformed += 1;
                return;
            }
        };
        into.push(record);
    }

    const fn note_time(&mut self, time_ns: u64) {
        if time_ns > self.damage.last_ns {
            self.damage.last_ns = time_ns;
        }
    }

    /// Whether it holds more than anybody would have recorded.
    const fn is_bomb(&self) -> bool {
        let (free, times) = BOMB;
        let held = self.frames.uncompressed;
        held > free && held / times > self.frames.compressed
    }
}

impl<R: Read> Source for Reader<R> {
    type Error = ReadError;

    async fn read(&mut self, into: &mut Vec<Record>) -> Result<bool, ReadError> {
        let more = self.has_lines()?;
        if more {
            self.take_lines(into);
        }
        Ok(more)
    }

    fn finish(&mut self, into: &mut Vec<Record>) -> Result<(), ReadError> {
        let mut damage = self.damage.clone();
        damage.lost_bytes = self.frames.lost;
        damage.unfinished = self.end.is_none();
        if self.frames.gave_up() {
            damage.cut = Some("the rest is too damaged, and was not read".into());
        }
        damage.cut = damage.cut.or_else(|| self.end.as_ref()?.cut.clone());
        if damage != (Damage { last_ns: damage.last_ns, ..Damage::default() }) {
            into.push(Record::Damage(damage));
        }
        Ok(())
    }
}

/// The first line, and what is behind it.
fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[]),
    }
}

/// What a header of any version has.
#[derive(Deserialize)]
struct AnyHeader {
    session: AnyVersion,
}

#[derive(Deserialize)]
struct AnyVersion {
    schema_version: u32,
}

fn read_header(line: &[u8]) -> Result<Header, ReadError> {
    if let Ok(Line::Session(header)) = serde_json::from_slice(line) {
        return match header.schema_version {
            0 => Err(ReadError::NoSession),
            version if version > SCHEMA_VERSION => Err(ReadError::Newer(version)),
            _ => Ok(*header),
        };
    }
    match serde_json::from_slice::<AnyHeader>(line) {
        Ok(any) if any.session.schema_version > SCHEMA_VERSION => {
            Err(ReadError::Newer(any.session.schema_version))
        }
        _ => Err(ReadError::NoSession),
    }
}

/// The kind of a line that is written as the writer writes it.
fn plain_kind(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(b"{\"")?.split(|byte| *byte == b'"').next()
}

fn is_kind(name: &[u8]) -> bool {
    KINDS.iter().any(|kind| kind.as_bytes() == name)
}

/// Whether a line has the form of one, of a kind that a newer socktrace writes.
fn is_unknown_kind(line: &[u8]) -> bool {
    let Ok(OnlyMember(kind)) = serde_json::from_slice(line) else { return false };
    !is_kind(kind.as_bytes())
}

/// The name of an object's only member.
struct OnlyMember(String);

impl<'de> Deserialize<'de> for OnlyMember {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(OnlyMemberVisitor)
    }
}

struct OnlyMemberVisitor;

impl<'de> Visitor<'de> for OnlyMemberVisitor {
    type Value = OnlyMember;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object with one member")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OnlyMember, A::Error> {
        let first = map.next_entry::<String, IgnoredAny>()?;
        let second = map.next_entry::<IgnoredAny, IgnoredAny>()?;
        match (first, second) {
            (Some((kind, _)), None) => Ok(OnlyMember(kind)),
            _ => Err(A::Error::custom("not one member")),
        }
    }
}
