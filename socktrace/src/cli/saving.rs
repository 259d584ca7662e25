//! Saves a session while it is recorded.
//!
//! Owns when it goes on in the other file, and what happens when it cannot be written: tracing goes on,
//! the file stays readable and says that it was cut short, and the command fails in the end.

use std::{
    io::{self, Write, stderr},
    path::PathBuf,
};

use super::{
    destination::{Destination, NewFile},
    failure::{Failure, in_words},
    output::shown,
    stream::Stdout,
};
use crate::{
    aggregate::Aggregator,
    event::{Counters, Record},
    session::{End, Header, Writer},
};

/// A session that is being written.
pub(super) struct Saving {
    writer: Writer<Target>,
    header: Header,
    /// Where it goes on when this file is full, and what is full.
    next: Option<(NewFile, u64)>,
    /// Where each of the last frames began.
    before: [u64; 2],
    /// Whether a record has come.
    is_begun: bool,
    /// Why nothing is written any more, and the error behind it.
    cut: Option<(String, io::Error)>,
}

/// What is written to.
enum Target {
    File(NewFile),
    Stream(Stdout),
    /// Takes so many bytes, then fails with this error for ever.
    #[cfg(test)]
    Refusing(usize, nix::errno::Errno),
}

impl Saving {
    /// Writes the header.
    pub(super) fn begin(to: Destination, header: Header) -> Result<Self, Failure> {
        let (target, next) = match to {
            Destination::Files { first, second } => (Target::File(first), second),
            Destination::Stream => (Target::Stream(Stdout::default()), None),
        };
        match Writer::new(target, &header) {
            Ok(writer) => {
                Ok(Self { writer, header, next, before: [0; 2], is_begun: false, cut: None })
            }
            Err((Target::File(file), source)) => {
                let path = shown(&file.path);
                file.abandon();
                if let Some((next, _)) = next {
                    next.abandon();
                }
                Err(Failure::Session { path, source })
            }
            Err((target, source)) => Err(Failure::Output { path: target.name(), source }),
        }
    }

    /// Writes a record, until writing fails.
    pub(super) fn record(&mut self, record: &Record, so_far: &Aggregator) {
        if self.cut.is_some() {
            return;
        }
        self.is_begun = true;
        let turned = self.turn_if_full(so_far);
        let written = self.writer.written();
        match turned.and_then(|()| self.writer.record(record, so_far.totals())) {
            Ok(()) if self.writer.written() != written => self.before = [self.before[1], written],
            Ok(()) => {}
            Err(error) => self.cut_short(error, so_far.totals().time_ns),
        }
    }

    /// Removes the files if nothing was recorded: tracing did not begin.
    pub(super) fn abandon(self) {
        if self.is_begun {
            return;
        }
        self.writer.into_out().abandon();
        if let Some((next, _)) = self.next {
            next.abandon();
        }
    }

    /// Goes on in the other file, which is emptied, with all that the report needs of what came before.
    fn turn_if_full(&mut self, so_far: &Aggregator) -> io::Result<()> {
        let written = self.writer.written();
        let Some((next, full)) = self.next.take_if(|(_, full)| written >= *full) else {
            return Ok(());
        };
        let header = Header { part: self.header.part + 1, ..self.header.clone() };
        let writer = next_part(next, &header, so_far)?;
        let carried = writer.written();
        let goes_on = End {
            duration_ns: so_far.totals().time_ns.saturating_sub(header.session.started_ns),
            cut: Some("the session goes on in the other of its two files".to_owned()),
            ..End::default()
        };
        // The older file is whole without it.
        let _ = self.writer.end(&goes_on);
        if let Target::File(file) = std::mem::replace(&mut self.writer, writer).into_out() {
            self.next = Some((file, full));
        }
        (self.header, self.before) = (header, [0, 0]);
        if carried >= full {
            let why = format!("--max-size is too small: the report alone takes {carried} bytes");
            return Err(io::Error::other(why));
        }
        Ok(())
    }

    fn cut_short(&mut self, error: io::Error, now_ns: u64) {
        let seconds = now_ns.saturating_sub(self.header.session.started_ns) as f64 / 1e9;
        let why = format!("{} (later than {seconds:.1} s after the start)", in_words(&error));
        // A closed pipe has a reader who has seen enough.
        if error.kind() != io::ErrorKind::BrokenPipe {
            let name = self.writer.out().name();
            // Nobody to tell where stderr is closed.
            let _ = writeln!(
                stderr(),
                "socktrace: the session is saved no further: {name}: {}; tracing goes on",
                in_words(&error)
            );
        }
        self.writer.discard();
        let written = self.writer.written();
        self.truncate(written);
        self.cut = Some((why, error));
    }

    /// Writes the end. An error is that of the session: the file says so itself, if there is room.
    pub(super) fn finish(
        mut self,
        so_far: &Aggregator,
        end: &End,
    ) -> Result<Option<PathBuf>, Failure> {
        let cut = self.cut.as_ref().map(|(why, _)| why.clone());
        let end = End { cut: cut.or_else(|| end.cut.clone()), ..end.clone() };
        if let Err(error) = self.writer.finish(so_far.totals(), &end) {
            self.end_without_totals(&end, error);
        }
        // Nothing is in the other file before the first turn.
        if let Some((other, _)) = self.next.filter(|_| self.header.part == 1) {
            other.abandon();
        }
        let path = self.writer.out().name();
        if let Some((_, source)) = self.cut {
            return Err(Failure::Output { path, source });
        }
        match self.writer.into_out() {
            Target::Stream(_) => Ok(None),
            #[cfg(test)]
            Target::Refusing(..) => Ok(None),
            Target::File(file) => {
                file.finish().map(Some).map_err(|source| Failure::Output { path, source })
            }
        }
    }

    /// The last line alone, if need be in the place of the last frames.
    fn end_without_totals(&mut self, end: &End, error: io::Error) {
        if self.cut.is_none() {
            self.cut_short(error, self.header.session.started_ns.saturating_add(end.duration_ns));
        }
        let end = End { cut: self.cut.as_ref().map(|(why, _)| why.clone()), ..end.clone() };
        for length in [self.writer.written(), self.before[1], self.before[0]] {
            self.writer.discard();
            // Without its header it would be no session.
            if length == 0 {
                return;
            }
            self.truncate(length);
            if self.writer.end(&end).is_ok() {
                return;
            }
        }
    }

    /// Nothing of a frame is left that was not written whole.
    fn truncate(&mut self, length: u64) {
        if let Target::File(file) = self.writer.out() {
            // What is left otherwise is no whole frame: readers know that.
            let _ = file.truncate(length);
        }
    }
}

/// The beginning of a part: what came before. Where that cannot be written, there is no such part.
fn next_part(
    mut file: NewFile,
    header: &Header,
    so_far: &Aggregator,
) -> io::Result<Writer<Target>> {
    file.truncate(0)?;
    let begun = Writer::new(Target::File(file), header);
    let (target, error) = match begun {
        Err(failed) => failed,
        Ok(mut writer) => match carry(so_far, &mut writer) {
            Ok(()) => return Ok(writer),
            Err(error) => (writer.into_out(), error),
        },
    };
    target.abandon();
    Err(error)
}

fn carry(so_far: &Aggregator, to: &mut Writer<Target>) -> io::Result<()> {
    for record in so_far.carry() {
        to.record(&record, &Counters::default())?;
    }
    to.flush()
}

impl Target {
    fn abandon(self) {
        if let Self::File(file) = self {
            file.abandon();
        }
    }

    fn name(&self) -> String {
        match self {
            Self::File(file) => shown(&file.path),
            Self::Stream(_) => "stdout".to_owned(),
            #[cfg(test)]
            Self::Refusing(..) => "refusing".to_owned(),
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(to) => to.file.write(bytes),
            Self::Stream(to) => to.write(bytes),
            #[cfg(test)]
            Self::Refusing(0, errno) => Err((*errno).into()),
            #[cfg(test)]
            Self::Refusing(room, _) => {
                let taken = bytes.len().min(*room);
                *room -= taken;
                Ok(taken)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;
    use crate::{
        aggregate::{Selection, Snapshot},
        event::Counters,
        session::SCHEMA_VERSION,
    };

    /// A session of an hour into what has room for its beginning, and what becomes of it.
    fn cut_by(errno: Errno) -> (String, Failure) {
        let session = Snapshot::of_nothing().session;
        let header = Header {
            schema_version: SCHEMA_VERSION,
            socktrace_version: "0.1.0".into(),
            interval_ns: 1,
            part: 1,
            session: session.clone(),
            filters: Selection::default(),
        };
        let writer = Writer::new(Target::Refusing(2000, errno), &header).ok().expect("a beginning");
        let (before, is_begun, next) = ([0; 2], false, None);
        let mut saving = Saving { writer, header, next, before, is_begun, cut: None };
        let mut so_far = Aggregator::new(session, Selection::default());
        for second in 1..=3600_u64 {
            let counters = Counters { time_ns: second * 1_000_000_000, ..Counters::default() };
            let record = Record::Counters(Box::new(counters));
            saving.record(&record, &so_far);
            so_far.apply(record);
        }
        assert_eq!(so_far.totals().time_ns, 3_600_000_000_000, "tracing goes on");
        let (why, _) = saving.cut.as_ref().expect("there was no room");
        let why = why.clone();
        (why, saving.finish(&so_far, &End::default()).expect_err("it was cut"))
    }

    /// A real quota is not tried: few kernels have one for a filesystem that a test could mount.
    #[test]
    fn whatever_ends_the_room_cuts_the_session_and_names_itself() {
        for errno in [Errno::ENOSPC, Errno::EDQUOT, Errno::EFBIG, Errno::EIO, Errno::EROFS] {
            let (why, failure) = cut_by(errno);
            let name = format!("({errno:?})");
            assert!(why.contains(&name) && why.contains("s after the start"), "{why}");
            let told = failure.to_string();
            assert!(told.contains(&name) && told.contains("refusing"), "{told}");
            assert!(matches!(failure, Failure::Output { .. }), "{told}");
        }
    }
}
