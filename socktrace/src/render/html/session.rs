//! The head of the page: what was recorded, where, when, and the numbers that matter most.

use std::time::Duration;

use socktrace_common::Signal;

use super::values::{UNKNOWN, count, duration, grouped, own_words, time, time_for_people, wait};
use crate::{
    aggregate::{Session, SessionSignal, Snapshot},
    event::StallChange,
    render::escape::escape,
};

/// Characters of a command line that are shown.
const COMMAND: usize = 2_000;

/// What the head says of a session.
pub(super) struct Head {
    pub(super) host: String,
    pub(super) kernel: String,
    pub(super) started: String,
    pub(super) started_for_programs: String,
    pub(super) duration: String,
    /// `None` where the whole host was recorded.
    pub(super) command: Option<String>,
    pub(super) tiers: String,
    pub(super) somaxconn: String,
    pub(super) netns: String,
    pub(super) untested: Option<String>,
}

/// One number of the strip below.
pub(super) struct Figure {
    pub(super) value: String,
    pub(super) label: &'static str,
    pub(super) detail: String,
    /// How it is coloured: `bad`, `none` or plain.
    pub(super) class: &'static str,
}

pub(super) fn head(snapshot: &Snapshot) -> Head {
    let session = &snapshot.session;
    let number = |n: Option<u64>| n.map_or_else(|| UNKNOWN.to_owned(), |n| n.to_string());
    Head {
        host: own_words(&session.host),
        kernel: own_words(&session.kernel),
        started: time_for_people(session.started),
        started_for_programs: time(session.started),
        duration: duration(snapshot.duration),
        command: command(&session.command),
        tiers: tiers(session),
        somaxconn: number(session.somaxconn.map(u64::from)),
        netns: number(session.netns),
        untested: session.untested.as_deref().map(own_words),
    }
}

/// To be read: what has blanks stands in quotes.
fn command(words: &[Vec<u8>]) -> Option<String> {
    let mut told = String::new();
    for (index, word) in words.iter().enumerate() {
        let word = escape(word);
        if told.len() + word.len() > COMMAND {
            let more = words.len() - index;
            return Some(format!("{told} … and {}", count(more as u64, "more argument")));
        }
        if index > 0 {
            told.push(' ');
        }
        let is_one = !word.is_empty() && !word.contains(char::is_whitespace);
        told.push_str(&if is_one { word } else { format!("'{word}'").into() });
    }
    (!words.is_empty()).then_some(told)
}

/// The tier of most signals, and those that have another.
fn tiers(session: &Session) -> String {
    let name = |row: &SessionSignal| row.tier.map_or("not traced", |tier| tier.name());
    let names: Vec<&str> = session.signals.iter().map(name).collect();
    let often = |name: &&&str| names.iter().filter(|other| other == name).count();
    let Some(most) = names.iter().rev().max_by_key(often) else { return UNKNOWN.to_owned() };
    let others = session.signals.iter().filter(|row| name(row) != *most);
    let others = others.map(|row| format!("{} {}", row.signal.name(), name(row)));
    let others: Vec<String> = others.collect();
    if others.is_empty() { (*most).to_owned() } else { format!("{most}; {}", others.join(", ")) }
}

pub(super) fn figures(snapshot: &Snapshot) -> Vec<Figure> {
    let session = &snapshot.session;
    let processes = &snapshot.processes;
    let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::saturating_add);
    let accepted = sum(&mut snapshot.listeners.iter().map(|row| row.accept.count()));
    let failures = processes.iter().flat_map(|row| &row.connect_failures);
    let errors = processes.iter().flat_map(|row| &row.accept_errors);
    let blocked = processes.iter().flat_map(|row| &row.connect_blocked);
    let drops = snapshot.listeners.iter().flat_map(|row| &row.backlog_drops);
    let drops = drops.filter(|drop| drop.reason.is_drop());
    let bad = |n: u64, signal: Signal, label| counted(n, session.tier(signal).is_some(), label);
    vec![
        Figure {
            class: if accepted == 0 { "none" } else { "" },
            detail: longest(snapshot),
            ..bad(accepted, Signal::Accept, "connections accepted")
        },
        bad(sum(&mut failures.map(|row| row.count)), Signal::ConnectFailure, "connects failed"),
        bad(sum(&mut drops.map(|row| row.count)), Signal::BacklogDrop, "connections dropped"),
        stalls(snapshot),
        bad(sum(&mut errors.map(|row| row.count)), Signal::AcceptError, "accepts failed"),
        bad(sum(&mut blocked.map(|row| row.1.count())), Signal::ConnectBlocked, "connects blocked"),
    ]
}

/// A signal that was not traced has no number.
fn counted(n: u64, traced: bool, label: &'static str) -> Figure {
    let (value, detail) = if traced || n > 0 {
        (grouped(n), String::new())
    } else {
        (UNKNOWN.to_owned(), "not traced".to_owned())
    };
    Figure { value, label, detail, class: if n == 0 { "none" } else { "bad" } }
}

fn longest(snapshot: &Snapshot) -> String {
    let waits = snapshot.listeners.iter().filter(|row| row.accept.any());
    let longest = waits.map(|row| row.accept.max_ns()).max();
    longest.map_or(String::new(), |ns| format!("longest wait {}", wait(ns)))
}

fn stalls(snapshot: &Snapshot) -> Figure {
    let all = (snapshot.stalls.len() as u64).saturating_add(snapshot.stalls_left_out);
    let lengths = snapshot.stalls.iter().map(|it| it.time_ns.saturating_sub(it.since_ns));
    let longest = lengths.max().map(|ns| format!("longest {}", duration(Duration::from_nanos(ns))));
    let open = snapshot.stalls.iter().filter(|it| it.change != StallChange::Closed).count();
    let open = (open > 0).then(|| format!("{open} went on at the end"));
    let detail: Vec<String> = longest.into_iter().chain(open).collect();
    Figure { detail: detail.join(", "), ..counted(all, true, "stalls") }
}
