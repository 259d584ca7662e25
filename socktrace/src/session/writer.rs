//! Writes a session: lines into frames, each compressed and checked by itself.

use std::io::{self, Write};

use serde::Serialize;
use zstd::bulk::Compressor;

use super::{
    format::{End, Header, NamedListener, SeenListeners, cgroup_rows, holders},
    plain::make_plain,
    totals::Totals,
};
use crate::event::{Counters, Record};

/// What zstd calls its default: a faster one is not much faster, and a better one much slower.
const LEVEL: i32 = 3;
/// A frame that is larger is written, whether the interval is over or not.
const FRAME: usize = 1 << 20;

/// Writes to `out`: nothing of a frame, or all of it, unless `out` fails.
pub struct Writer<W> {
    out: W,
    compressor: Compressor<'static>,
    /// Lines of the frame that is not written yet.
    lines: Vec<u8>,
    /// Bytes written, in whole frames.
    written: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the header; where that fails, `out` is given back.
    pub fn new(out: W, header: &Header) -> Result<Self, (W, io::Error)> {
        let compressor = match compressor() {
            Ok(compressor) => compressor,
            Err(error) => return Err((out, error)),
        };
        let mut writer = Self { out, compressor, lines: Vec::new(), written: 0 };
        match writer.line("session", header).and_then(|()| writer.flush()) {
            Ok(()) => Ok(writer),
            Err(error) => Err((writer.out, error)),
        }
    }

    /// Writes one record; of totals, what is new against `before`. Totals end a frame.
    pub fn record(&mut self, record: &Record, before: &Counters) -> io::Result<()> {
        match record {
            Record::Event(event) => self.line("event", event)?,
            Record::Listener(inode, listener) => {
                let listener = listener.clone();
                self.line("listener", &NamedListener { inode: *inode, listener })?;
            }
            Record::Counters(counters) => {
                self.lines("totals", &Totals::changed(counters, before).pieces())?;
                self.flush()?;
            }
            Record::Stall(stall) => self.line("stall", stall)?,
            Record::Diagnosis(diagnosis) => self.line("diagnosis", diagnosis)?,
            Record::Sightings(seen) => self.lines("sightings", &SeenListeners::lines(seen))?,
            Record::Owners(owners) => self.lines("owners", &holders(owners))?,
            Record::Unread(unread) => self.line("unread", unread)?,
            Record::Cgroups(paths) => self.lines("cgroups", &cgroup_rows(paths))?,
            Record::Namespaces(namespaces) => self.line("namespaces", namespaces)?,
            Record::Loss(loss) => self.line("loss", loss)?,
            Record::Misses(misses) => self.line("misses", misses)?,
            Record::Runs(runs) => self.line("runs", runs)?,
            Record::Carried(carried) => self.line("carried", carried)?,
            // Of a file that was read: this one has not got it.
            Record::Damage(_) => {}
        }
        Ok(())
    }

    /// Writes all totals again, so that they survive damage before them, and the last line.
    pub fn finish(&mut self, totals: &Counters, end: &End) -> io::Result<()> {
        self.lines("totals", &Totals::changed(totals, &Counters::default()).pieces())?;
        self.end(end)
    }

    /// Writes the last line alone.
    pub fn end(&mut self, end: &End) -> io::Result<()> {
        self.line("end", end)?;
        self.flush()
    }

    /// Forgets the lines that are not written.
    pub fn discard(&mut self) {
        self.lines.clear();
    }

    /// Bytes written, in whole frames.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// What it wrote to; lines that are not written are forgotten.
    pub fn into_out(self) -> W {
        self.out
    }

    /// Where it writes to.
    pub const fn out(&mut self) -> &mut W {
        &mut self.out
    }

    fn line(&mut self, kind: &str, body: &impl Serialize) -> io::Result<()> {
        self.lines.extend(b"{\"");
        self.lines.extend(kind.as_bytes());
        self.lines.extend(b"\":");
        let begin = self.lines.len();
        serde_json::to_writer(&mut self.lines, body)?;
        make_plain(&mut self.lines[begin..]);
        self.lines.extend(b"}\n");
        if self.lines.len() >= FRAME { self.flush() } else { Ok(()) }
    }

    fn lines(&mut self, kind: &str, bodies: &[impl Serialize]) -> io::Result<()> {
        bodies.iter().try_for_each(|body| self.line(kind, body))
    }

    /// Writes the frame that is begun.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let frame = self.compressor.compress(&self.lines)?;
        self.lines.clear();
        self.out.write_all(&frame)?;
        self.out.flush()?;
        self.written += frame.len() as u64;
        Ok(())
    }
}

/// For frames that tell their length, and have a checksum.
fn compressor() -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.include_contentsize(true)?;
    Ok(compressor)
}
