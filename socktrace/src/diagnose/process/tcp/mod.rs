//! The step `tcp`: its connections by state and by how each gets on.
//!
//! What is wrong with them is found in `faults`.

pub(super) mod faults;

use std::collections::BTreeMap;

use super::{
    Facts, TcpConnection,
    sockets::{UNLISTED, note_unlisted},
    table::note_findings,
    words::{count, few, knows_all, len, processes, short_time, size, time},
};
use crate::{
    diagnose::{Check, rule::Step},
    event::{Phrase, phrase},
    host::sock_diag::{TcpInfo, TcpSocket, TcpState},
};

pub(super) fn check(facts: &Facts) -> Check {
    let mut check = Check::new("tcp", "its TCP connections");
    let all = &facts.sockets.tcp;
    check.facts.extend(by_state(all, knows_all(facts) && facts.sockets.unlisted.tcp == 0));
    let mut lines: Vec<&TcpConnection> = all.iter().collect();
    lines.sort_by_key(|it| std::cmp::Reverse(weight(it.seen.last())));
    check.facts.extend(few(lines.iter().map(|it| line(it))));
    note_findings(&mut check, facts, Step::Tcp);
    note_unlisted(&mut check, facts, facts.sockets.unlisted.tcp);
    if facts.sockets.unlisted.tcp != 0 {
        let more = count(facts.sockets.unlisted.tcp, "TCP socket");
        check.unseen.push(phrase![more, UNLISTED]);
    }
    check
}

const fn state(of: TcpState) -> &'static str {
    match of {
        TcpState::Established => "ESTABLISHED",
        TcpState::SynSent => "SYN-SENT",
        TcpState::SynReceived => "SYN-RECV",
        TcpState::FinWait1 => "FIN-WAIT-1",
        TcpState::FinWait2 => "FIN-WAIT-2",
        TcpState::TimeWait => "TIME-WAIT",
        TcpState::Close => "not connected",
        TcpState::CloseWait => "CLOSE-WAIT",
        TcpState::LastAck => "LAST-ACK",
        TcpState::Listen => "LISTEN",
        TcpState::Closing => "CLOSING",
        TcpState::Other(_) => "in an unknown state",
    }
}

/// None only where it is `known` that there are none.
fn by_state(all: &[TcpConnection], known: bool) -> Option<Phrase> {
    if all.is_empty() {
        return known.then(|| "it has no TCP socket but listeners".into());
    }
    let mut states: BTreeMap<TcpState, usize> = BTreeMap::new();
    for it in all {
        *states.entry(it.seen.last().state).or_default() += 1;
    }
    let each: Vec<String> =
        states.iter().map(|(of, number)| format!("{number} {}", state(*of))).collect();
    Some(format!("it has {}: {}", count(len(all), "TCP socket"), each.join(", ")).into())
}

/// Bytes that wait to be read. The peer's FIN takes a place in the queue (`inet_csk_diag_fill()`).
fn waiting(of: &TcpSocket) -> u32 {
    let has_fin = matches!(of.state, TcpState::CloseWait | TcpState::LastAck | TcpState::Closing);
    of.receive_queue.saturating_sub(u32::from(has_fin))
}

fn info(of: &TcpSocket) -> TcpInfo {
    of.info.unwrap_or_default()
}

/// What is worth to be listed first.
fn weight(of: &TcpSocket) -> (u8, bool, u64) {
    let queued = u64::from(waiting(of)) + u64::from(of.send_queue);
    (info(of).retransmits, of.state == TcpState::SynSent, queued)
}

fn ends(of: &TcpConnection) -> Phrase {
    let socket = of.seen.last();
    let to = match socket.remote.port() {
        0 => String::new(),
        _ => format!(" → {}", socket.remote),
    };
    let who = (!of.holders.is_empty()).then(|| phrase![" of ", processes(&of.holders)]);
    phrase![socket.local.to_string(), to, who]
}

fn line(of: &TcpConnection) -> Phrase {
    let socket = of.seen.last();
    let amount = |what: &str, bytes: u32, grown: Option<u64>| match (bytes, grown) {
        (0, _) => String::new(),
        (_, None) => format!(", {} {what}", size(bytes.into())),
        (_, Some(grown)) => {
            format!(", {} {what} and growing (by {})", size(bytes.into()), size(grown))
        }
    };
    phrase![
        ends(of),
        format!(" {}", state(socket.state)),
        amount("received and not read", waiting(socket), of.seen.growth(waiting)),
        amount("not acknowledged", socket.send_queue, of.seen.growth(|it| it.send_queue)),
        socket.info.as_ref().map_or(String::new(), progress),
    ]
}

fn progress(of: &TcpInfo) -> String {
    let timeouts = (of.retransmits != 0).then(|| {
        let next = time(u64::from(of.rto_us) / 1000);
        format!(", {} in a row (the next after {next})", count(of.retransmits, "timeout"))
    });
    let again = (of.total_retrans != 0)
        .then(|| format!(", {} sent again in all", count(of.total_retrans, "segment")));
    let trip = (of.rtt_us != 0).then(|| format!(", round trip {}", short_time(of.rtt_us)));
    [timeouts, again, trip].into_iter().flatten().collect()
}
