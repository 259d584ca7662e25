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
};
use crate::event::{Damage, Record, Source, Stages};

/// Where a file holds more than this many bytes, they must not be more than so many times the file's.
const BOMB: (u64, u64) = (256 << 20, 2000);

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
    /// Records of the first frame behind the header.
    first: Vec<u8>,
    end: Option<End>,
    damage: Damage,
    unknown_kinds: u64,
    stages: Stages,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    pub fn open(from: R) -> Result<Self, ReadError> {
        let mut frames = Frames::new(from)?;
        let Some(first) = frames.next()? else {
            return Err(if frames.lost == 0 { ReadError::Empty } else { ReadError::NoSession });
        };
        let (line, rest) = split_line(&first);
        let header = read_header(line)?;
        Ok(Self {
            first: rest.to_vec(),
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

    fn take_frame(&mut self, frame: &[u8], into: &mut Vec<Record>) {
        let mut rest = frame;
        while !rest.is_empty() {
            let (line, behind) = split_line(rest);
            rest = behind;
            match serde_json::from_slice::<Line>(line) {
                Ok(line) => self.take_line(line, into),
                Err(_) if is_unknown_kind(line) => self.unknown_kinds += 1,
                Err(_) => self.damage.malformed += 1,
            }
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
                self.note_time(totals.time_ns());
                let counters = totals.into_counters(&self.stages);
                self.stages = counters.stages;
                Record::Counters(Box::new(counters))
            }
            Line::Stall(stall) => Record::Stall(stall),
            Line::Diagnosis(diagnosis) => Record::Diagnosis(diagnosis),
            Line::Sightings(seen) => Record::Sightings(seen.into()),
            Line::Owners(rows) => Record::Owners(owners(rows)),
            Line::Unread(unread) => Record::Unread(unread),
            Line::Cgroups(rows) => Record::Cgroups(cgroup_paths(rows)),
            Line::Namespaces(namespaces) => Record::Namespaces(namespaces),
            Line::Loss(loss) => Record::Loss(loss),
            Line::Misses(misses) => Record::Misses(misses),
            Line::Carried(carried) => Record::Carried(carried),
            Line::End(end) => {
                self.end = Some(end);
                return;
            }
            // Of another session, put behind this one.
            Line::Session(_) => {
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
        let first = std::mem::take(&mut self.first);
        if !first.is_empty() {
            self.take_frame(&first, into);
            return Ok(true);
        }
        if self.is_bomb() {
            self.damage.cut =
                Some("the rest holds far too much for its size, and was not read".into());
            return Ok(false);
        }
        match self.frames.next()? {
            None => Ok(false),
            Some(frame) => {
                self.take_frame(&frame, into);
                Ok(true)
            }
        }
    }

    fn finish(&mut self, into: &mut Vec<Record>) -> Result<(), ReadError> {
        let mut damage = self.damage.clone();
        damage.lost_bytes = self.frames.lost;
        damage.unfinished = self.end.is_none();
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

/// Whether a line has the form of one, of a kind that a newer socktrace writes.
fn is_unknown_kind(line: &[u8]) -> bool {
    let Ok(OnlyMember(kind)) = serde_json::from_slice(line) else { return false };
    !KINDS.contains(&kind.as_str())
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
