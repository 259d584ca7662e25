//! Hands a session over to the next part of its file: everything that its report needs, as records.

use socktrace_common::Signal;

use super::{
    Aggregator,
    aggregator::{MOST_AT_ONCE, Watched},
};
use crate::event::{Carried, Delivered, Record, WatchedListener};

/// Rows in one record, so that a frame can hold it.
const ROWS: usize = 512;
/// The same of intervals, each of which can have very many rows.
const INTERVALS: usize = 8;

impl Aggregator {
    /// Records that bring a new aggregator to where this one is.
    pub fn carry(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self
            .named
            .iter()
            .map(|(inode, listener)| Record::Listener(*inode, listener.clone()))
            .collect();
        records.extend(self.stalls.iter().map(|stall| Record::Stall(Box::new(stall.clone()))));
        records.extend(self.diagnoses.all().map(|it| Record::Diagnosis(Box::new(it))));
        records.push(Record::Owners(self.owners.clone()));
        records.extend(self.unread.clone().map(Record::Unread));
        records.push(Record::Cgroups(self.cgroups.clone()));
        records.push(Record::Namespaces(self.namespaces.clone()));
        records.push(Record::Loss(self.loss));
        records.push(Record::Misses(self.misses.clone()));
        records.extend(self.runs.clone().map(Record::Runs));
        records.push(Record::Counters(Box::new(self.counters.clone())));
        records.extend(self.carried().into_iter().map(|it| Record::Carried(Box::new(it))));
        records
    }

    fn carried(&self) -> Vec<Carried> {
        let delivered =
            Signal::ALL.map(|signal| Delivered { signal, count: self.delivered[signal as usize] });
        let mut watched: Vec<WatchedListener> = self.watched.iter().map(watched_row).collect();
        watched.sort_by_key(|row| row.inode);
        let classes: Vec<_> = self.diagnoses.classes().collect();
        let timeline = self.timeline();
        let intervals = timeline.intervals.chunks(INTERVALS);
        let first = Carried {
            delivered: delivered.into(),
            stalls_left_out: self.stalls_left_out,
            diagnoses_left_out: self.diagnoses_left_out,
            left_out: self.left_out,
            ..Carried::default()
        };
        let mut all = vec![first];
        all.extend(
            watched
                .chunks(ROWS)
                .map(|rows| Carried { watched: rows.to_vec(), ..Carried::default() }),
        );
        all.extend(
            classes
                .chunks(ROWS)
                .map(|rows| Carried { classes: rows.to_vec(), ..Carried::default() }),
        );
        all.extend(
            intervals.map(|rows| Carried { intervals: rows.to_vec(), ..Carried::default() }),
        );
        all
    }

    pub(super) fn resume(&mut self, carried: Carried) {
        let Carried { delivered, watched, classes, intervals, .. } = carried;
        self.left_out = self.left_out.saturating_add(carried.left_out);
        self.stalls_left_out = self.stalls_left_out.saturating_add(carried.stalls_left_out);
        self.diagnoses_left_out =
            self.diagnoses_left_out.saturating_add(carried.diagnoses_left_out);
        for row in delivered {
            let sum = &mut self.delivered[row.signal as usize];
            *sum = sum.saturating_add(row.count);
        }
        for row in watched {
            if self.watched.len() >= MOST_AT_ONCE {
                self.left_out += 1;
                continue;
            }
            self.course
                .saw_queue(row.inode, if row.gone { 0 } else { row.last.queue.unwrap_or(0) });
            let WatchedListener { inode, last, peak, drops_at_start, gone } = row;
            self.watched.insert(inode, Watched { last, peak, drops_at_start, gone });
        }
        for row in classes {
            self.diagnoses.note_class(row.task, row.class);
        }
        self.course.resume(intervals);
    }
}

fn watched_row((inode, watched): (&u64, &Watched)) -> WatchedListener {
    let Watched { last, peak, drops_at_start, gone } = watched.clone();
    WatchedListener { inode: *inode, last, peak, drops_at_start, gone }
}
