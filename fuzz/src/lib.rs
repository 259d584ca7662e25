//! What is done with a session that nobody vouches for: it is read, added up and printed in every format.

use std::pin::pin;
use std::time::Duration;

use socktrace::aggregate::Aggregator;
use socktrace::pipeline::{self, StopAfter};
use socktrace::render::{json, text};
use socktrace::session::Reader;

/// Reads a file to its end and prints its report; what is no session is left.
pub fn report(file: &[u8]) {
    let Ok(mut reader) = Reader::open(file) else { return };
    let header = reader.header().clone();
    let mut aggregator = Aggregator::new(header.session, header.filters);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let stop = pin!(std::future::pending::<()>());
    let mut sink = StopAfter::new(None);
    let run = pipeline::run(&mut reader, &mut aggregator, &mut sink, stop);
    if runtime.block_on(run).is_err() {
        return;
    }
    let duration = reader.end().map_or(reader.last_ns(), |end| end.duration_ns);
    let snapshot = aggregator.snapshot(Duration::from_nanos(duration));
    let printed = [text::render_report(&snapshot, None), json::render_report(&snapshot).to_string()];
    for c in printed.iter().flat_map(|text| text.chars()) {
        assert!(matches!(c, '\n' | '\t') || !c.is_control(), "{c:?} reaches the terminal");
    }
}
