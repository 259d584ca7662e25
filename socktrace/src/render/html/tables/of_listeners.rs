//! What happened to listeners: all of them, drops, stalls, and what their namespaces counted.

use socktrace_common::Signal;

use super::{Table, all_waits, empty, name, number, text};
use crate::{
    aggregate::{ListenerRow, NamespaceRow, Snapshot},
    event::{Stall, Waiting},
    render::{
        cells::{few, millis},
        escape::escape,
        html::{
            stall_bars::{goes_on, length},
            time_axis::wall,
            values::{UNKNOWN, bytes, endpoint, family, known, own_words, owner, owners},
        },
        json::common_unit,
    },
};

pub(in crate::render::html) fn listeners(snapshot: &Snapshot) -> Table {
    let table = empty(
        "listeners",
        "Listeners",
        "Waits are from when a connection was ready until it was accepted.",
        "Nothing happened to any listener.",
    );
    let columns = [
        name("Listener"),
        text("Family"),
        name("Owners"),
        number("Drops"),
        number("Accepted"),
        number("p50 (ms)"),
        number("p90 (ms)"),
        number("p99 (ms)"),
        number("p99.9 (ms)"),
        number("max (ms)"),
        number("sum (ms)"),
        number("Unknown waits"),
        number("Queue now"),
        number("Queue peak"),
        number("Limit"),
        number("Asked for"),
        number("somaxconn"),
        number("Oldest waits (ms)"),
        name("Unit"),
        name("listen() by"),
        name("Last accept() by"),
        number("Namespace"),
        number("Inode"),
    ];
    let other = |signal| snapshot.completeness.other(signal);
    let counts = [(3, other(Signal::BacklogDrop)), (4, other(Signal::Accept))];
    table.with(columns, snapshot.listeners.iter().map(listener)).and_other(counts, 0)
}

fn listener(row: &ListenerRow) -> [String; 23] {
    let drops = row.backlog_drops.iter().filter(|drop| drop.reason.is_drop());
    let [p50, p90, p99, p999, max, sum] = all_waits(&row.accept);
    [
        endpoint(&row.local),
        family(&row.local),
        owners(&row.owners),
        drops.map(|drop| drop.count).fold(0, u64::saturating_add).to_string(),
        row.accept.count().to_string(),
        p50,
        p90,
        p99,
        p999,
        max,
        sum,
        row.accept.unknown().to_string(),
        known(row.queue_now),
        known(row.queue_peak),
        known(row.effective),
        known(row.requested),
        known(row.somaxconn),
        known(row.pending_oldest_ns.map(millis)),
        bytes(common_unit(&row.owners)),
        known(row.listened_by.as_ref().map(owner)),
        known(row.last_acceptor.as_ref().map(owner)),
        known(row.netns),
        known((row.inode != 0).then_some(row.inode)),
    ]
}

pub(in crate::render::html) fn drops(snapshot: &Snapshot) -> Table {
    let table = empty(
        "drops",
        "Drops",
        "syncookie_sent and discarded throw no connection away.",
        "No listener threw a connection away.",
    );
    let columns = [
        number("Count"),
        name("Reason"),
        name("Stage"),
        name("Listener"),
        name("Owners"),
        number("Inode"),
    ];
    let rows = snapshot.listeners.iter().flat_map(|row| {
        row.backlog_drops.iter().map(move |drop| {
            [
                drop.count.to_string(),
                drop.reason.name().to_owned(),
                known(drop.stage_name()),
                endpoint(&row.local),
                owners(&row.owners),
                known((row.inode != 0).then_some(row.inode)),
            ]
        })
    });
    let other = snapshot.completeness.other(Signal::BacklogDrop);
    table.with(columns, rows).and_other([(0, other)], 3)
}

pub(in crate::render::html) fn stalls(snapshot: &Snapshot) -> Table {
    let table = empty("stalls", "Stalls", "", "No connection waited long enough for a stall.");
    let columns = [
        name("Listener"),
        name("Since (UTC)"),
        name("Until (UTC)"),
        number("Oldest (ms)"),
        text("How long"),
        number("Waiting"),
        number("Waiting at most"),
        number("Blocked"),
        number("Last accept (ms before)"),
        text("What the owner did"),
        name("Owners"),
        name("Clients"),
        number("Inode"),
    ];
    table.with(columns, snapshot.stalls.iter().map(|row| stall(row, snapshot)))
}

fn stall(row: &Stall, snapshot: &Snapshot) -> [String; 13] {
    let session = &snapshot.session;
    let time = |ns: u64| wall(session.started, session.started_ns, ns);
    let before = row.accepted_ns.map(|at| millis(row.time_ns.saturating_sub(at)));
    let clients = few(row.clients.iter().map(client), row.clients.len());
    [
        endpoint(&row.local),
        time(row.since_ns),
        if goes_on(row) { "went on at the end".to_owned() } else { time(row.time_ns) },
        millis(row.oldest_ns()),
        length(row),
        row.pending.to_string(),
        row.pending_peak.to_string(),
        row.blocked.to_string(),
        known(before),
        known(row.acceptor.as_deref().map(own_words)),
        owners(&row.owners),
        if row.clients.is_empty() { UNKNOWN.to_owned() } else { clients },
        row.listener.to_string(),
    ]
}

/// `3 × curl(12)`
fn client(client: &Waiting) -> String {
    let comm = client.comm.as_deref().map(escape);
    let who = match (client.pid, client.address) {
        (Some(pid), _) => format!("{}({pid})", comm.as_deref().unwrap_or(UNKNOWN)),
        (None, Some(address)) => address.to_string(),
        (None, None) => "unknown".to_owned(),
    };
    format!("{} × {who}", client.count)
}

pub(in crate::render::html) fn namespaces(snapshot: &Snapshot) -> Table {
    let table = empty(
        "namespaces",
        "Network namespaces",
        "What the kernel itself counted meanwhile, and how much of it belongs to no listener known here.",
        "No network namespace was looked at.",
    );
    let columns = [
        number("Namespace"),
        text("Own"),
        number("ListenOverflows"),
        number("ListenDrops"),
        number("TCPReqQFullDrop"),
        number("TCPReqQFullDoCookies"),
        number("Drops of no listener"),
        number("Syncookies of no listener"),
        number("Drops while read"),
        number("Syncookies while read"),
    ];
    table.with(columns, snapshot.namespaces.iter().map(namespace))
}

fn namespace(row: &NamespaceRow) -> [String; 10] {
    [
        row.netns.to_string(),
        if row.own { "yes" } else { "no" }.to_owned(),
        known(row.counted.map(|it| it.overflows)),
        known(row.counted.map(|it| it.drops)),
        known(row.counted.map(|it| it.syn_queue)),
        known(row.counted.map(|it| it.cookies)),
        known(row.unattributed.map(|it| it.drops)),
        known(row.unattributed.map(|it| it.cookies)),
        row.while_read.drops.to_string(),
        row.while_read.cookies.to_string(),
    ]
}
