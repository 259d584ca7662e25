//! A source whose records are redacted before anybody sees them.

use super::Redactor;
use crate::event::{Record, Source};

/// `source`, redacted; as it is without a redactor.
pub struct Redacted<S> {
    source: S,
    redactor: Option<Redactor>,
}

impl<S> Redacted<S> {
    /// What comes out of `source` goes through `redactor`, if there is one.
    pub const fn new(source: S, redactor: Option<Redactor>) -> Self {
        Self { source, redactor }
    }

    /// What is behind it.
    pub const fn inner(&self) -> &S {
        &self.source
    }

    fn redact(&mut self, records: &mut Vec<Record>, first: usize) {
        if let Some(redactor) = &mut self.redactor {
            let new: Vec<Record> = records.drain(first..).map(|it| redactor.record(it)).collect();
            records.extend(new);
        }
    }
}

impl<S: Source> Source for Redacted<S> {
    type Error = S::Error;

    async fn read(&mut self, into: &mut Vec<Record>) -> Result<bool, S::Error> {
        let first = into.len();
        let more = self.source.read(into).await;
        self.redact(into, first);
        more
    }

    fn finish(&mut self, into: &mut Vec<Record>) -> Result<(), S::Error> {
        let first = into.len();
        let finished = self.source.finish(into);
        self.redact(into, first);
        finished
    }
}
