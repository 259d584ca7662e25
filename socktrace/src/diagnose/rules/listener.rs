//! Why a listener lost connections or let them wait: its backlog, who accepts, what holds that up.

use crate::{
    diagnose::{
        listener::ListenerCase,
        rule::{Cause, Outcome},
    },
    event::{
        Address, Certainty, Endpoint, Hold, OWNERS_LOOKED_AT, Owner, Phrase, Severity, Stall,
        StallChange, Waiting, name, phrase,
    },
};

use super::words::count;

/// A wait that points at the acceptor and not at a burst, nanoseconds.
const SLOW_NS: u64 = 100_000_000;
/// Owners that are named.
const NAMED: usize = 3;

/// `127.0.0.1:80 of nginx (pid 7)`
fn subject(case: &ListenerCase) -> Phrase {
    phrase![address(&case.local), " of ", owners(&case.owners)]
}

fn address(end: &Endpoint) -> Phrase {
    match &end.address {
        Some(Address::Inet(at)) => at.to_string().into(),
        Some(Address::Unix(path)) => name(path),
        None => "a listener".into(),
    }
}

fn owners(owners: &[Owner]) -> Phrase {
    let one = |owner: &Owner| phrase![name(&owner.comm), format!(" (pid {})", owner.pid)];
    let mut words = Phrase::default();
    for (index, owner) in owners.iter().take(NAMED).enumerate() {
        words = phrase![words, if index == 0 { "" } else { ", " }, one(owner)];
    }
    match owners.len() {
        0 => "an unknown owner".into(),
        more if more > NAMED => phrase![words, format!(" and {} more", more - NAMED)],
        _ => words,
    }
}

fn millis(ns: u64) -> String {
    format!("{:.1} ms", ns as f64 / 1e6)
}

fn backlog(case: &ListenerCase) -> String {
    let number = |known: Option<String>| known.unwrap_or_else(|| "unknown".to_owned());
    format!(
        "backlog {} asked for, {} in force, somaxconn {}, longest queue seen {}",
        number(case.requested.map(|it| it.to_string())),
        number(case.effective.map(|it| it.to_string())),
        number(case.somaxconn.map(|it| it.to_string())),
        number(case.peak.map(|it| it.to_string())),
    )
}

/// Whether somaxconn cut what `listen()` asked for.
fn is_capped(case: &ListenerCase) -> bool {
    let asked = case.requested.map(|asked| u32::try_from(asked).unwrap_or(u32::MAX));
    matches!((asked, case.effective, case.somaxconn), (Some(asked), Some(effective), Some(cap))
        if asked > effective && effective == cap)
}

/// What is known of how fast it accepts: slowly, quickly, or not at all seen.
fn is_slow(case: &ListenerCase) -> Option<bool> {
    if !case.stalls.is_empty() || case.accepted == Some(0) {
        return Some(true);
    }
    Some(case.median_ns? >= SLOW_NS)
}

/// Whether it accepted slowly when the queue was full, and not at some other time only.
fn was_slow_then(case: &ListenerCase) -> bool {
    worst_full(case).is_some()
        || (case.accepted == Some(0) && case.every_accept_seen)
        || case.median_ns.is_some_and(|median| median >= SLOW_NS)
}

/// For how long connections stood in a queue, and since when nobody has accepted.
pub(in crate::diagnose) fn stood(stall: &Stall) -> String {
    let over = stall.change == StallChange::Closed;
    let at_least = if stall.is_lower_bound { "at least " } else { "" };
    let waited = seconds(stall.oldest_ns());
    let oldest = if over { "waited for" } else { "has waited for" };
    // What ended it was an accept, mostly: it tells nothing of the time before.
    let accepted = match stall.accepted_ns {
        _ if over => String::new(),
        None => ", and nobody has accepted since the recording began".to_owned(),
        Some(at) if at <= stall.since_ns => {
            let since = stall.time_ns.saturating_sub(at);
            format!(", and nobody has accepted for {}", seconds(since))
        }
        Some(_) => ", and it accepts slowly".to_owned(),
    };
    let sleep = match (over, stall.blocked) {
        (_, 0) => String::new(),
        (true, more) => format!("; {} slept in connect()", count(more.into(), "client")),
        (false, 1) => "; 1 client sleeps in connect()".to_owned(),
        (false, more) => format!("; {more} clients sleep in connect()"),
    };
    format!("the oldest connection {oldest} {at_least}{waited}{accepted}{sleep}")
}

fn seconds(ns: u64) -> String {
    format!("{:.1} s", ns as f64 / 1e9)
}

/// The worst stall in which the queue was full.
fn worst_full(case: &ListenerCase) -> Option<&Stall> {
    worst(case).filter(|stall| case.effective.is_some_and(|limit| stall.pending_peak > limit))
}

/// Drops for want of room in the accept queue: which of the three limits to change.
fn full(case: &ListenerCase, lost: u64, what: &str, clients: &'static str) -> Outcome {
    if lost == 0 {
        return Outcome::Clear;
    }
    let stood = worst_full(case).map_or(String::new(), |stall| format!("; {}", stood(stall)));
    let slept = (case.slept.count != 0).then(|| {
        let longest = millis(case.slept.longest_ns);
        let others = count(case.slept.count, "client");
        format!("{others} waited for room in connect(), for up to {longest}").into()
    });
    let slow = is_slow(case);
    let waited = case.median_ns.zip(case.longest_ns).map_or(String::new(), |(median, longest)| {
        format!("; connections waited {} (median), {} (longest)", millis(median), millis(longest))
    });
    let why = match slow {
        Some(true) if case.accepted == Some(0) => "nobody accepted meanwhile",
        Some(true) => "it accepts more slowly than connections come",
        Some(false) => "it accepts quickly: bursts are longer than its queue",
        None => "how fast it accepts is not known",
    };
    let fix: Phrase = match (slow, is_capped(case)) {
        (Some(true), _) => {
            "accept faster (more workers, or what they wait for); a larger backlog only delays this"
                .into()
        }
        (Some(false), true) => {
            "raise net.core.somaxconn, which caps the backlog, and restart the server".into()
        }
        (Some(false), false) => "raise the backlog that the server passes to listen()".into(),
        (None, true) => "raise net.core.somaxconn, or accept faster".into(),
        (None, false) => "raise the backlog of listen(), or accept faster".into(),
    };
    Outcome::found(Cause {
        severity: Severity::Error,
        // That bursts are the reason is concluded from short waits.
        certainty: if was_slow_then(case) { Certainty::Measured } else { Certainty::Inferred },
        subject: subject(case),
        fact: format!("{} thrown away: {what} was full, and {why}{stood}", were(lost)).into(),
        consequence: clients.into(),
        fix,
        evidence: [format!("{}{waited}", backlog(case)).into()].into_iter().chain(slept).collect(),
    })
}

fn were(lost: u64) -> String {
    format!("{} {}", count(lost, "connection"), if lost == 1 { "was" } else { "were" })
}

pub(super) fn accept_queue_full(case: &ListenerCase) -> Outcome {
    let clients = "clients try again, and may time out";
    full(case, case.thrown.accept_queue_full, "its accept queue", clients)
}

pub(super) fn unix_backlog_full(case: &ListenerCase) -> Outcome {
    full(case, case.thrown.unix_backlog_full, "its backlog", "clients got EAGAIN")
}

/// Whether the accept queue was full at any time, by what it threw away and by the longest that was seen; `None`
/// where neither tells. A stall alone is no sign: one connection that waits fills no queue.
fn was_accept_queue_full(case: &ListenerCase) -> Option<bool> {
    if case.thrown.accept_queue_full > 0 {
        return Some(true);
    }
    let (longest, limit) = case.peak.zip(case.effective)?;
    Some(longest > limit)
}

pub(super) fn syn_queue_full(case: &ListenerCase) -> Outcome {
    let lost = case.thrown.syn_queue_full;
    if lost == 0 {
        return Outcome::Clear;
    }
    let (why, fix) = match was_accept_queue_full(case) {
        Some(true) => (
            "its accept queue was full, too, so requests are not taken over",
            "accept faster (more workers, or what they wait for); a larger backlog only delays this",
        ),
        Some(false) => (
            "its accept queue had room, so requests come that nobody completes (a SYN flood, or \
             clients whose way back is broken)",
            "turn net.ipv4.tcp_syncookies on, and see who sends the SYNs (ss -tn state syn-recv)",
        ),
        None => (
            "whether its accept queue had room is not known",
            "see which queue is full (ss -ltn: Recv-Q above Send-Q is the accept queue; ss -tn state \
             syn-recv has the SYN queue)",
        ),
    };
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Inferred,
        subject: subject(case),
        fact: format!("{} thrown away: its SYN queue was full; {why}", were(lost)).into(),
        consequence: "clients try again, and may time out".into(),
        fix: fix.into(),
        evidence: vec![backlog(case).into()],
    })
}

pub(super) fn syncookies(case: &ListenerCase) -> Outcome {
    let sent = case.thrown.syncookies;
    if sent == 0 {
        return Outcome::Clear;
    }
    Outcome::found(Cause {
        severity: Severity::Warning,
        certainty: Certainty::Measured,
        subject: subject(case),
        fact: format!(
            "{} answered with a syncookie, as its SYN queue was full or \
                       net.ipv4.tcp_syncookies is 2",
            requests(sent)
        )
        .into(),
        consequence: "such connections do without some TCP options".into(),
        fix:
            "see who sends the SYNs (ss -tn state syn-recv); against bursts raise the backlog and \
              net.ipv4.tcp_max_syn_backlog"
                .into(),
        evidence: vec![backlog(case).into()],
    })
}

fn requests(number: u64) -> String {
    format!("{} {}", count(number, "request"), if number == 1 { "was" } else { "were" })
}

pub(super) fn thrown_otherwise(case: &ListenerCase) -> Outcome {
    let (other, unknown) = (case.thrown.other, case.thrown.unknown);
    if other + unknown == 0 {
        return Outcome::Clear;
    }
    let lost = were(other + unknown);
    let reserves = case.memory.reserve_drops.unwrap_or(0);
    let tcp = (other != 0).then(|| tcp_memory(case)).flatten();
    let short = if tcp.is_some() { "; TCP was short of memory meanwhile" } else { "" };
    let (certainty, why, fix) = if other == 0 {
        let fix = "look at nstat -az TcpExtListenDrops TcpExtListenOverflows TcpExtTCPReqQFullDrop";
        (Certainty::Unknown, ", for a reason that this tier cannot tell".to_owned(), fix)
    } else if reserves != 0 {
        let why = format!(
            ", and not for want of room: the host had no free memory for them, as {} that came into its \
             last reserves {} discarded, too",
            count(reserves, "packet"),
            if reserves == 1 { "was" } else { "were" },
        );
        let fix = "find what uses the memory (free -m, /proc/pressure/memory); against bursts raise \
                   vm.min_free_kbytes";
        (Certainty::Inferred, why, fix)
    } else {
        let why = format!(", and not for want of room: {}", candidates(case));
        let fix =
            "see dmesg for failed allocations and denials, ip route get CLIENT for the way back";
        (Certainty::Unknown, why, fix)
    };
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty,
        subject: subject(case),
        fact: format!("{lost} thrown away{why}{short}").into(),
        consequence: "clients try again, and may time out".into(),
        fix: fix.into(),
        evidence: [backlog(case).into()].into_iter().chain(tcp).collect(),
    })
}

/// What is left where the kernel says only that it was not for want of room.
fn candidates(case: &ListenerCase) -> String {
    let mut all = vec!["no memory for the connection", "no route back to the client"];
    // The others are asked at the first packet.
    if case.thrown.other > case.thrown.other_at_ack {
        all.push("a security module");
        match case.syncookies {
            Some(0) => all.push(
                "less than a quarter of net.ipv4.tcp_max_syn_backlog left (net.ipv4.tcp_syncookies is 0)",
            ),
            Some(_) => {}
            None => all.push(
                "where net.ipv4.tcp_syncookies is 0, less than a quarter of net.ipv4.tcp_max_syn_backlog left",
            ),
        }
    }
    let last = all.pop().unwrap_or_default();
    format!("{}, or {last}", all.join(", "))
}

/// That TCP was short of memory. It throws no request away for that, so it is no cause, but a sign of one.
fn tcp_memory(case: &ListenerCase) -> Option<Phrase> {
    let memory = &case.memory;
    let times = |number: Option<u64>| number.filter(|number| *number != 0);
    let above = memory.tcp_pages.zip(memory.tcp_pressure).filter(|(now, mark)| now >= mark);
    let said: Vec<String> = [
        times(memory.pressures).map(|it| {
            format!("came above the pressure mark of net.ipv4.tcp_mem {}", count(it, "time"))
        }),
        times(memory.aborts).map(|it| format!("aborted {}", count(it, "connection"))),
        above.map(|(now, mark)| format!("held {now} pages in the end, pressure mark {mark}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!said.is_empty()).then(|| format!("TCP {}", said.join(", ")).into())
}

pub(super) fn closed(case: &ListenerCase) -> Outcome {
    let lost = case.thrown.closed;
    if lost == 0 {
        return Outcome::Clear;
    }
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Measured,
        subject: subject(case),
        fact: format!(
            "it was closed with {} in its queue that nobody had accepted",
            count(lost, "connection")
        )
        .into(),
        consequence: "their clients got a reset".into(),
        fix: "accept what is queued before closing, or hand the listener over".into(),
        evidence: Vec::new(),
    })
}

/// The stall that lasted longest, one that goes on before one that is over.
fn worst(case: &ListenerCase) -> Option<&Stall> {
    let goes_on = |stall: &Stall| stall.change != StallChange::Closed;
    case.stalls.iter().max_by_key(|stall| (goes_on(stall), stall.oldest_ns()))
}

/// A stall of which the owner's own state says why.
fn held(case: &ListenerCase, by: &[Hold], fix: &'static str) -> Outcome {
    let Some(stall) = worst(case) else { return Outcome::Clear };
    if !stall.hold.is_some_and(|hold| by.contains(&hold)) {
        return Outcome::Clear;
    }
    // Of more owners, only some were looked at.
    let all = stall.owners.len() <= OWNERS_LOOKED_AT && !stall.seen_in_part;
    told(case, stall, fix, if all { Certainty::Measured } else { Certainty::Inferred })
}

/// `2 connections wait and 1 more sleeps in connect(), as the queue is full`
fn waiting_and_asleep(over: bool, waiting: u32, asleep: u32) -> String {
    let waits = match (over, waiting) {
        (true, _) => "waited",
        (false, 1) => "waits",
        (false, _) => "wait",
    };
    let queued = format!("{} {waits}", count(waiting.into(), "connection"));
    let sleeps = match (over, asleep) {
        (true, _) => "slept in connect(), as the queue was full",
        (false, 1) => "sleeps in connect(), as the queue is full",
        (false, _) => "sleep in connect(), as the queue is full",
    };
    match (waiting, asleep) {
        (_, 0) => queued,
        (0, _) => format!("{} {sleeps}", count(asleep.into(), "client")),
        _ => format!("{queued} and {asleep} more {sleeps}"),
    }
}

fn told(case: &ListenerCase, stall: &Stall, fix: &'static str, certainty: Certainty) -> Outcome {
    let over = stall.change == StallChange::Closed;
    // Somebody was accepted while the oldest waited: it does accept.
    let slowly = stall.accepted_ns.is_some_and(|at| at > stall.since_ns);
    let did = match (over, slowly) {
        (true, _) => "it did not accept in time",
        (false, true) => "it accepts too slowly",
        (false, false) => "it does not accept",
    };
    let waiting = if over { stall.pending_peak } else { stall.pending };
    let who_waits = waiting_and_asleep(over, waiting, stall.blocked);
    let state = stall.acceptor.as_ref().map(|state| format!("; its owner is {state}"));
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty,
        subject: subject(case),
        fact: phrase![
            format!(
                "{did}: {who_waits}, the oldest for {}{:.1} s",
                if stall.is_lower_bound { "at least " } else { "" },
                stall.oldest_ns() as f64 / 1e9,
            ),
            clients(&stall.clients),
            state.unwrap_or_default(),
        ],
        consequence: Phrase::default(),
        fix: fix.into(),
        evidence: vec![backlog(case).into()],
    })
}

/// `, from curl (pid 7) ×3, 10.0.0.1`
fn clients(clients: &[Waiting]) -> Phrase {
    let mut words = Phrase::default();
    for (index, client) in clients.iter().take(NAMED).enumerate() {
        let who = match (client.pid, client.address) {
            (Some(pid), _) => {
                let comm = client.comm.as_deref().map_or_else(|| "a process".into(), name);
                phrase![comm, format!(" (pid {pid})")]
            }
            (None, Some(address)) => address.to_string().into(),
            (None, None) => "unknown clients".into(),
        };
        let times = if client.count > 1 { format!(" ×{}", client.count) } else { String::new() };
        words = phrase![words, if index == 0 { ", from " } else { ", " }, who, times];
    }
    match clients.len().saturating_sub(NAMED) {
        0 => words,
        more => phrase![words, format!(" and {more} more")],
    }
}

pub(super) fn owner_stopped(case: &ListenerCase) -> Outcome {
    held(case, &[Hold::Stopped], "let it go on (kill -CONT), and find who stopped it")
}

pub(super) fn owner_frozen(case: &ListenerCase) -> Outcome {
    held(case, &[Hold::Frozen], "thaw its cgroup (cgroup.freeze), and find who froze it")
}

pub(super) fn owner_out_of_descriptors(case: &ListenerCase) -> Outcome {
    let fix = "raise its limit (ulimit -n, LimitNOFILE=), or find what it does not close";
    held(case, &[Hold::NoDescriptors], fix)
}

pub(super) fn owner_throttled(case: &ListenerCase) -> Outcome {
    held(case, &[Hold::Throttled], "raise its CPU quota (cpu.max, CPUQuota=)")
}

pub(super) fn owner_short_of_memory(case: &ListenerCase) -> Outcome {
    let fix = "raise memory.high and memory.max (MemoryHigh=, MemoryMax=), or net.ipv4.tcp_mem, or let it use \
               less";
    held(case, &[Hold::ShortOfMemory], fix)
}

pub(super) fn owner_busy(case: &ListenerCase) -> Outcome {
    held(case, &[Hold::Running], "look at what it computes (perf top -p)")
}

pub(super) fn owner_asleep(case: &ListenerCase) -> Outcome {
    held(case, &[Hold::Asleep], "look at what its threads wait for instead of accept()")
}

/// What nobody accepts from who did not make it: each process that holds it got it from another.
pub(super) fn never_accepted(case: &ListenerCase) -> Outcome {
    let (Some(by), Some(stall)) = (&case.listened_by, worst(case)) else { return Outcome::Clear };
    // Stalls tell of every accept, whoever made it.
    let never = case.accepted.unwrap_or(0) == 0
        && case.stalls.iter().all(|stall| stall.accepted_ns.is_none());
    let heirs = stall.owners.as_slice();
    let is_sure = case.every_accept_seen && !stall.seen_in_part;
    if !never || heirs.is_empty() || heirs.iter().any(|heir| heir.pid == by.pid) {
        return Outcome::Clear;
    }
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: if is_sure { Certainty::Measured } else { Certainty::Inferred },
        subject: subject(case),
        fact: phrase![
            format!("nobody has accepted since listen(): pid {} called it", by.pid),
            " and holds the listener no more; ",
            owners(heirs),
            ", who inherited it or was passed it, does",
        ],
        consequence: "connections wait until their clients give up".into(),
        fix: "let the heir accept, or close the descriptor in it (SOCK_CLOEXEC)".into(),
        evidence: vec![backlog(case).into()],
    })
}

pub(super) fn stalled(case: &ListenerCase) -> Outcome {
    match worst(case) {
        Some(stall) if stall.hold.is_none() => {
            let fix = "see who holds the listener, and what that process does";
            told(case, stall, fix, Certainty::Unknown)
        }
        _ => Outcome::Clear,
    }
}

pub(super) fn slow(case: &ListenerCase) -> Outcome {
    let (Some(longest), Some(median)) = (case.longest_ns, case.median_ns) else {
        return Outcome::Clear;
    };
    if longest < SLOW_NS || !case.stalls.is_empty() {
        return Outcome::Clear;
    }
    Outcome::found(Cause {
        severity: Severity::Warning,
        certainty: Certainty::Measured,
        subject: subject(case),
        fact: format!(
            "it accepted late: a connection waited up to {} in its queue (median {} of {})",
            millis(longest),
            millis(median),
            case.accepted.unwrap_or(0),
        )
        .into(),
        consequence: Phrase::default(),
        fix: "look at what its threads do instead of accept()".into(),
        evidence: vec![backlog(case).into()],
    })
}
