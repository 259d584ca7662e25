//! When connections waited too long: a bar for each stall, a row per listener.

use std::time::Duration;

use super::{
    chart::{Chart, Key, Panel, Pen, Shape, WIDTH, put_time_axis},
    roster::{Listener, Roster},
    time_axis::TimeAxis,
    values::{count, duration, own_words},
};
use crate::{
    aggregate::Snapshot,
    event::{Stall, StallChange},
};

const HEIGHT: u32 = 18;
/// A bar is at least this wide, or nobody would see it.
const NARROWEST: f64 = 2.0;

pub(super) fn chart(snapshot: &Snapshot, axis: TimeAxis, roster: &Roster) -> Chart {
    let panels = roster.shown.iter().filter_map(|listener| panel(listener, snapshot, axis));
    let mut panels: Vec<Panel> = panels.collect();
    put_time_axis(&mut panels, axis.ticks());
    let mut notes = Vec::new();
    let mut keys = Vec::new();
    if panels.is_empty() {
        notes.push("No connection waited long enough for a stall.".to_owned());
    } else {
        let key = |class: &str, label: &str| Key {
            class: format!("stall {class}"),
            label: label.to_owned(),
            value: String::new(),
        };
        keys = vec![key("", "ended"), key("open", "went on at the end")];
        let drawn = |stall: &&Stall| roster.shown.iter().any(|it| it.inode == stall.listener);
        let not_drawn = snapshot.stalls.iter().filter(|stall| !drawn(stall)).count();
        if not_drawn > 0 {
            notes.push(format!("and {} of other listeners", count(not_drawn as u64, "stall")));
        }
    }
    if snapshot.stalls_left_out > 0 {
        notes.push(format!(
            "and {} that were too many to keep",
            count(snapshot.stalls_left_out, "stall")
        ));
    }
    Chart {
        id: "stalls-over-time",
        title: "Stalls",
        about:
            "Times in which a connection waited for too long, in the accept queue or (Unix) for room in it, \
                from when it came."
                .to_owned(),
        panels,
        keys,
        notes,
    }
}

/// Whether connections still waited when it was last looked at.
pub(super) fn goes_on(stall: &Stall) -> bool {
    stall.change != StallChange::Closed
}

/// For how long the oldest connection waited: `≥` where it may have been longer.
pub(super) fn length(stall: &Stall) -> String {
    let ns = stall.oldest_ns();
    let bound = if stall.is_lower_bound { "≥ " } else { "" };
    format!("{bound}{}", duration(Duration::from_nanos(ns)))
}

fn panel(listener: &Listener, snapshot: &Snapshot, axis: TimeAxis) -> Option<Panel> {
    let own = snapshot.stalls.iter().filter(|stall| stall.listener == listener.inode);
    let own: Vec<&Stall> = own.collect();
    let longest = own.iter().max_by_key(|stall| stall.time_ns.saturating_sub(stall.since_ns))?;
    let open = own.iter().filter(|stall| goes_on(stall)).count();
    let still = if open > 0 { ", still waiting at the end" } else { "" };
    let sum = format!("{}, longest {}{still}", count(own.len() as u64, "stall"), length(longest));
    Some(Panel {
        title: listener.name.clone(),
        label: format!("Stalls of {} over time: {sum}", listener.name),
        sum,
        height: HEIGHT,
        shapes: own.iter().map(|stall| bar(stall, axis)).collect(),
        ..Panel::default()
    })
}

fn bar(stall: &Stall, axis: TimeAxis) -> Shape {
    let is_open = goes_on(stall);
    let left = axis.x(stall.since_ns).min(WIDTH - NARROWEST);
    let right = if is_open { WIDTH } else { axis.x(stall.time_ns) };
    let mut pen = Pen::default();
    // Not by its colour alone.
    let inset = if is_open { 0.0 } else { 4.0 };
    pen.rect(left, inset, right.max(left + NARROWEST), f64::from(HEIGHT) - inset);
    let since = axis.time(stall.since_ns);
    let until = if is_open { "went on at the end".to_owned() } else { axis.time(stall.time_ns) };
    let held =
        stall.acceptor.as_ref().map_or(String::new(), |held| format!("\n{}", own_words(held)));
    let title = format!(
        "{since} – {until}\n{} for the oldest, {} waiting at most{held}",
        length(stall),
        stall.pending_peak
    );
    let class = if is_open { "stall open" } else { "stall" };
    Shape { class: class.to_owned(), path: pen.path(), title: Some(title) }
}
