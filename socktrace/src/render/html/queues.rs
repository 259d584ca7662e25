//! How many connections waited in each accept queue, over time, below its limit.

use super::{
    chart::{Chart, Key, Panel, Pen, Shape, linear_ticks, put_time_axis, round_up},
    roster::{Listener, Roster},
    time_axis::{Column, TimeAxis},
    values::{UNKNOWN, count, known},
};
use crate::aggregate::Snapshot;

const HEIGHT: u32 = 84;
/// A queue that stays this many times below its limit is drawn without it, so that it can be seen.
const FAR: u32 = 12;

pub(super) fn chart(snapshot: &Snapshot, axis: TimeAxis, roster: &Roster) -> Chart {
    let columns = axis.columns(&snapshot.timeline.intervals);
    let limit = |inode: u64| {
        snapshot.listeners.iter().find(|row| row.inode == inode).and_then(|row| row.effective)
    };
    let panels = roster
        .shown
        .iter()
        .filter_map(|listener| panel(listener, limit(listener.inode), &columns, axis));
    let mut panels: Vec<Panel> = panels.collect();
    put_time_axis(&mut panels, axis.ticks());
    let (mut keys, mut notes) = (Vec::new(), Vec::new());
    let empty = roster.shown.len() - panels.len();
    if panels.is_empty() {
        notes.push("No connection was seen in an accept queue.".to_owned());
    } else {
        let key = |class: &str, label: &str| Key {
            class: class.to_owned(),
            label: label.to_owned(),
            value: String::new(),
        };
        keys = vec![key("queue", "longest queue seen"), key("limit", "limit")];
        if empty > 0 {
            let more = count(empty as u64, "more listener");
            notes.push(format!("No connection was seen queued at {more}."));
        }
        notes.extend(roster.rest());
    }
    Chart {
        id: "queues-over-time",
        title: "Accept queues",
        about: "Connections that were ready and not yet accepted, per listener. Seen now and then, not \
                counted: a shorter peak may have been missed, and a gap is a queue that was empty or \
                not looked at."
            .to_owned(),
        panels,
        keys,
        notes,
    }
}

/// `None` where the queue was always seen empty.
fn panel(
    listener: &Listener,
    limit: Option<u32>,
    columns: &[Column<'_>],
    axis: TimeAxis,
) -> Option<Panel> {
    let longest = |column: &Column<'_>| {
        column.intervals().filter_map(|it| it.queues.get(&listener.inode)).max().copied()
    };
    let seen: Vec<(Column<'_>, u32)> =
        columns.iter().filter_map(|column| Some((*column, longest(column)?))).collect();
    let peak = seen.iter().map(|(_, queue)| *queue).max()?;
    let is_near = |limit: &u32| *limit / FAR <= peak;
    let near = limit.filter(is_near);
    let top = round_up(f64::from(near.map_or(peak, |limit| limit.max(peak))).max(1.0) * 1.05);
    let y = |queue: u32| (1.0 - f64::from(queue) / top) * f64::from(HEIGHT);
    let mut pen = Pen::default();
    for (column, queue) in &seen {
        let (left, right) = (axis.x(column.begin_ns()), axis.x(column.end_ns()));
        pen.rect(left, y(*queue), right, f64::from(HEIGHT));
    }
    let mut shapes = vec![pen.shape("fill queue")];
    if let Some(limit) = near {
        let mut pen = Pen::default();
        pen.line(0.0, y(limit), super::chart::WIDTH, y(limit));
        shapes.push(pen.shape("line limit"));
    }
    shapes.extend(seen.iter().map(|(column, queue)| told(*column, *queue, axis)));
    let above = if limit.is_some() && near.is_none() { " (above the plot)" } else { "" };
    let limit = limit.map_or_else(|| UNKNOWN.to_owned(), |limit| known(Some(limit)));
    let sum = format!("peak {peak}, limit {limit}{above}");
    Some(Panel {
        title: listener.name.clone(),
        label: format!("Accept queue of {} over time: {sum}", listener.name),
        sum,
        height: HEIGHT,
        shapes,
        x: Vec::new(),
        y: linear_ticks(top, ""),
    })
}

fn told(column: Column<'_>, queue: u32, axis: TimeAxis) -> Shape {
    let mut pen = Pen::default();
    pen.rect(axis.x(column.begin_ns()), 0.0, axis.x(column.end_ns()), f64::from(HEIGHT));
    let (begin, end) = (axis.time_of_day(column.begin_ns()), axis.time_of_day(column.end_ns()));
    let title = format!("{begin} – {end}\n{queue} queued");
    Shape { class: "hit".to_owned(), path: pen.path(), title: Some(title) }
}
