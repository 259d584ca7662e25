//! The whole page: of a session in which nothing happened, and of one that is as hostile as can be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use socktrace_common::{DropReason, DropStage, Signal, Tier, histogram::bucket};

use super::{render_report, values::grouped};
use crate::{
    aggregate::{
        AcceptErrorRow, Completeness, ConnectFailureRow, DropRow, Drops, FindingRow, Interval,
        ListenerRow, NamespaceRow, ProcessRow, Session, SessionSignal, SignalStages, Snapshot,
        Timeline, Unattributed, Verdict, Waits,
    },
    event::{
        Address, Certainty, Endpoint, Finding, Misses, NetstatDelta, Owner, Severity, Stall,
        StallChange, WaitTotals, Waiting, name, phrase, word,
    },
    render::text::Cost,
};

/// What must never be seen as it is: markup, quotes that end an attribute, what moves or hides text.
const HOSTILE: &[u8] =
    "</td></script><script>x()</script>\"'&amp;\n\r\t\u{202e}\u{2066}\u{0}\x1b[31m".as_bytes();
const SECOND: u64 = 1_000_000_000;

fn empty() -> Snapshot {
    Snapshot {
        session: Session {
            started: UNIX_EPOCH + Duration::from_secs(1_773_237_731),
            started_ns: 0,
            host: "host".into(),
            kernel: "6.1.0".into(),
            command: Vec::new(),
            signals: Vec::new(),
            untested: None,
            somaxconn: None,
            netns: None,
        },
        duration: Duration::from_secs(10),
        completeness: Completeness {
            verdict: Verdict::Complete,
            reasons: Vec::new(),
            signals: Vec::new(),
            misses: Misses::default(),
        },
        processes: Vec::new(),
        listeners: Vec::new(),
        stalls: Vec::new(),
        stalls_left_out: 0,
        findings: Vec::new(),
        namespaces: Vec::new(),
        unread: None,
        timeline: Timeline::default(),
    }
}

/// The page of a session in which nothing happened.
pub(super) fn empty_page() -> String {
    render_report(&empty(), Cost::default())
}

fn text(hostile: &[u8]) -> String {
    String::from_utf8_lossy(hostile).into_owned()
}

fn unix() -> Endpoint {
    Endpoint { address: Some(Address::Unix([b"/run/", HOSTILE].concat())), kind: None }
}

fn owner() -> Owner {
    Owner {
        pid: 70_001,
        comm: HOSTILE.to_vec(),
        cgroup: Some([b"/", HOSTILE, b".service"].concat()),
    }
}

/// Numbers that stand for themselves: each is once in the snapshot.
fn waits(first: u64) -> Waits {
    let mut waits = Waits::default();
    waits.add(&totals(first));
    waits
}

fn totals(first: u64) -> WaitTotals {
    let ns = first * 1_000_003;
    let at = u16::try_from(bucket(ns)).expect("there are 624");
    WaitTotals {
        count: first + 5,
        waited: first,
        sum_ns: ns * first,
        max_ns: ns,
        buckets: BTreeMap::from([(at, first)]),
    }
}

fn finding(severity: Severity) -> Finding {
    let hostile = || name(HOSTILE);
    Finding {
        severity,
        certainty: Certainty::Inferred,
        rule: "a-rule".into(),
        subject: hostile(),
        fact: phrase!["is ", hostile()],
        consequence: hostile(),
        fix: phrase!["chmod g+w ", word(HOSTILE), ", or ask ", hostile()],
        evidence: vec![hostile(), phrase!["evidence 70002"]],
    }
}

fn interval(begin: u64, listener: u64) -> Interval {
    Interval {
        begin_ns: begin * SECOND,
        end_ns: (begin + 1) * SECOND,
        accepts: BTreeMap::from([(listener, totals(40))]),
        drops: BTreeMap::from([(listener, 3)]),
        connect_failures: BTreeMap::from([(13, 2)]),
        accept_errors: BTreeMap::from([(24, 1)]),
        queues: BTreeMap::from([(listener, 5)]),
    }
}

fn listener(inode: u64) -> ListenerRow {
    ListenerRow {
        inode,
        local: unix(),
        netns: Some(70_010),
        owners: vec![owner()],
        listened_by: Some(owner()),
        last_acceptor: Some(owner()),
        requested: Some(70_011),
        effective: Some(70_012),
        somaxconn: Some(70_013),
        pending_oldest_ns: Some(70_014_015_000),
        queue_now: Some(70_016),
        queue_peak: Some(70_017),
        accept: waits(70_018),
        backlog_drops: vec![DropRow {
            reason: Drops::Tcp(DropReason::AcceptQueueFull),
            stage: Some(DropStage::Syn),
            count: 70_019,
        }],
    }
}

fn process() -> ProcessRow {
    let found: Option<Arc<[Finding]>> = Some(vec![finding(Severity::Error)].into());
    ProcessRow {
        pid: Some(70_020),
        start_time_ns: Some(70_021_022_000_000),
        comm: Some(HOSTILE.to_vec()),
        uid: Some(70_023),
        cgroup: owner().cgroup,
        accept: waits(70_024),
        accept_errors: vec![AcceptErrorRow {
            errno: 24,
            listener: Some(unix()),
            count: 70_025,
            findings: found.clone(),
        }],
        accept_would_block: 70_026,
        connect_failures: vec![ConnectFailureRow {
            target: unix(),
            errno: 13,
            uid: 70_027,
            count: 70_028,
            findings: found,
        }],
        connect_blocked: vec![(unix(), waits(70_029))],
        backlog_drops: vec![(
            unix(),
            DropRow { reason: Drops::UnixBacklogFull, stage: None, count: 70_030 },
        )],
    }
}

fn stall() -> Stall {
    Stall {
        time_ns: 9 * SECOND,
        listener: 70_040,
        local: unix(),
        netns: None,
        selected: true,
        change: StallChange::Still,
        since_ns: 2 * SECOND,
        is_lower_bound: true,
        pending: 70_041,
        pending_peak: 70_042,
        blocked: 70_043,
        accepted_ns: Some(SECOND),
        owners: vec![owner()],
        hold: None,
        acceptor: Some(text(HOSTILE)),
        clients: vec![Waiting {
            pid: Some(70_044),
            comm: Some(HOSTILE.to_vec()),
            address: None,
            count: 70_045,
        }],
    }
}

fn hostile() -> Snapshot {
    let stages = SignalStages {
        signal: Signal::Accept,
        seen: 70_050,
        filtered: 70_051,
        below_threshold: 70_052,
        sampled_out: 70_053,
        delivered: 70_054,
        lost_buffer: 70_055,
        lost_decode: 70_056,
        unpaired: 70_057,
        full_tally: 70_058,
        full_pending: 70_059,
        full_name: 70_060,
    };
    let counted =
        NetstatDelta { overflows: 70_061, drops: 70_062, syn_queue: 70_063, cookies: 70_064 };
    let rest = Unattributed { drops: 70_065, cookies: 70_066 };
    let mut snapshot = empty();
    snapshot.session.host = text(HOSTILE);
    snapshot.session.kernel = text(HOSTILE);
    snapshot.session.command = vec![HOSTILE.to_vec()];
    snapshot.session.untested = Some(text(HOSTILE));
    snapshot.session.signals = vec![SessionSignal {
        signal: Signal::Accept,
        tier: Some(Tier::Kprobe),
        loses: vec![text(HOSTILE)],
        refused: vec![(Tier::Fentry, text(HOSTILE))],
    }];
    snapshot.completeness = Completeness {
        verdict: Verdict::Unknown,
        reasons: vec![text(HOSTILE)],
        signals: vec![stages],
        misses: Misses {
            programs: BTreeMap::from([(text(HOSTILE), Some(70_067)), ("none".into(), None)]),
            unseen: BTreeMap::new(),
        },
    };
    snapshot.processes = vec![process(), ProcessRow::default()];
    snapshot.listeners = vec![listener(70_040), ListenerRow::default()];
    snapshot.stalls = vec![stall()];
    snapshot.findings = [Severity::Error, Severity::Warning, Severity::Info]
        .map(|severity| FindingRow {
            finding: finding(severity),
            count: 70_068,
            listener: Some(70_040),
            goes_on: true,
            pids: BTreeSet::from([70_069]),
        })
        .to_vec();
    snapshot.namespaces = vec![NamespaceRow {
        netns: 70_070,
        own: true,
        counted: Some(counted),
        unattributed: Some(rest),
    }];
    snapshot.timeline.intervals = (0..10).map(|n| interval(n, 70_040)).collect();
    snapshot
}

/// Balanced tags with quoted attributes, and no character that cannot be seen. Returns the texts and the
/// attributes' values, as a browser takes them.
fn parse(page: &str) -> Vec<String> {
    let (head, rest) = page.split_once("<script>").expect("a script");
    let (_, rest) = rest.split_once("</script>").expect("its end");
    let mut found = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut rest = [head, rest].concat();
    // CSS is no markup.
    let style = rest.split_once("<style>").zip(rest.split_once("</style>"));
    rest = style.map(|((before, _), (_, after))| [before, after].concat()).expect("a style");
    let mut rest = rest.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    while let Some((text, tag)) = rest.split_once('<') {
        found.push(unescaped(text));
        let (tag, after) = tag.split_once('>').expect("a tag ends");
        rest = after;
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(
                open.pop().as_deref(),
                Some(closed),
                "after {}",
                &text[text.len().min(40)..]
            );
            continue;
        }
        let name = tag.split([' ', '/']).next().expect("a name");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "<{tag}>");
        let mut attributes = tag[name.len()..].trim_end_matches('/');
        while let Some((name, value)) = attributes.split_once("=\"") {
            assert!(name.trim().chars().all(|c| c.is_ascii_alphabetic() || c == '-'), "<{tag}>");
            let (value, more) = value.split_once('"').expect("a value ends");
            found.push(unescaped(value));
            attributes = more;
        }
        assert_eq!(attributes.trim(), "", "<{tag}>");
        if !tag.ends_with('/') && !["meta", "br"].contains(&name) {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty(), "{open:?} never end");
    found.push(unescaped(rest));
    found
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, entity)) = rest.split_once('&') {
        plain.push_str(before);
        let (entity, after) =
            entity.split_once(';').unwrap_or_else(|| panic!("a bare & in {text:?}"));
        let number = entity.strip_prefix('#').and_then(|number| number.parse().ok());
        plain.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            _ => number.and_then(char::from_u32).unwrap_or_else(|| panic!("&{entity};")),
        });
        rest = after;
    }
    plain + rest
}

#[test]
fn a_session_in_which_nothing_happened_says_so() {
    let page = empty_page();
    let told = parse(&page).join(" ");
    for words in [
        "No problem was seen",
        "complete",
        "No connect failed.",
        "the whole host",
        "No drop in the course",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!page.contains("<svg"), "there is nothing to draw");
}

#[test]
fn hostile_names_are_text_and_never_markup() {
    let page = render_report(&hostile(), Cost::default());
    let told = parse(&page);
    assert_eq!(page.matches("<script").count(), 1, "the page's own");
    assert_eq!(page.matches("</script").count(), 1, "the page's own");
    let hidden = |c: char| c.is_control() && c != '\n' || "\u{202e}\u{2066}".contains(c);
    assert_eq!(page.find(hidden), None, "{:?}", page.chars().find(|c| hidden(*c)));
    // Told, all the same: escaped for people, then for the browser.
    let names = told.iter().filter(|text| text.contains("</td></script><script>x()</script>"));
    assert!(names.count() > 40, "{told:?}");
    let escaped = "\"'&amp;\\n\\r\\t\\u{202e}\\u{2066}\\x00\\x1b[31m";
    assert!(told.iter().any(|text| text.contains(escaped)), "{told:?}");
}

#[test]
fn every_number_of_the_tables_is_in_the_page() {
    let told = parse(&render_report(&hostile(), Cost::default())).join(" ");
    let alone =
        [70_001..=70_002, 70_010..=70_013, 70_016..=70_017, 70_019..=70_020, 70_023..=70_023];
    let alone = alone.into_iter().chain([70_025..=70_028, 70_030..=70_030, 70_040..=70_045]);
    for n in alone.chain([70_050..=70_070]).flatten() {
        let is_told = told.contains(&n.to_string()) || told.contains(&grouped(n));
        assert!(is_told, "{n} is missing");
    }
    for told_as in ["70014.015", "70021.022"] {
        assert!(told.contains(told_as), "{told_as} is missing");
    }
    for waits in [70_018, 70_024, 70_029].map(waits) {
        let ms = crate::render::cells::millis;
        for value in [
            waits.count().to_string(),
            ms(waits.max_ns()),
            ms(waits.sum_ns()),
            ms(waits.permille_ns(500)),
        ] {
            assert!(told.contains(&value), "{value} is missing");
        }
    }
}

#[test]
fn what_is_unknown_is_a_dash_and_what_was_not_traced_has_no_number() {
    let mut snapshot = empty();
    snapshot.processes = vec![ProcessRow::default()];
    let page = render_report(&snapshot, Cost::default());
    assert!(
        page.contains(r#"<td class="n">–</td><td class="m">–</td><td class="n">–</td>"#),
        "{page}"
    );
    assert!(page.contains("<b>–</b> <span>not traced</span>"), "{page}");
}

#[test]
fn what_is_too_much_is_counted() {
    let mut snapshot = hostile();
    snapshot.processes =
        (0..207).map(|pid| ProcessRow { pid: Some(pid), ..ProcessRow::default() }).collect();
    snapshot.listeners = (1..=15).map(listener).collect();
    snapshot.findings = vec![snapshot.findings[0].clone(); 63];
    snapshot.timeline.intervals = (0..10).map(|n| interval(n, n + 1)).collect();
    for interval in &mut snapshot.timeline.intervals {
        interval.connect_failures = (1..=11).map(|errno| (errno, u64::from(errno))).collect();
    }
    let told = parse(&render_report(&snapshot, Cost::default())).join(" ");
    for words in [
        "and 7 more rows",
        "and 4 more listeners are not drawn",
        "and 3 more findings",
        "and 4 more errnos",
        "and 3 more listeners",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn numbers_that_make_no_sense_do_no_harm() {
    let mut snapshot = hostile();
    snapshot.session.started = SystemTime::UNIX_EPOCH - Duration::from_secs(9);
    snapshot.session.started_ns = u64::MAX;
    let none = render_report(&snapshot, Cost::default());
    assert!(parse(&none).join(" ").contains("The session has no length."));
    snapshot.session.started_ns = 5;
    snapshot.duration = Duration::MAX;
    snapshot.stalls[0].since_ns = u64::MAX;
    snapshot.timeline.intervals.reverse();
    snapshot.timeline.intervals[3].end_ns = u64::MAX;
    snapshot.timeline.intervals[4].drops = BTreeMap::from([(1, u64::MAX), (2, u64::MAX)]);
    snapshot.timeline.intervals[5].queues = BTreeMap::from([(1, u32::MAX)]);
    let page = render_report(&snapshot, Cost::default());
    let numbers = "MLhvz0123456789.- ";
    let paths = page.split(" d=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let paths: Vec<&str> = paths.collect();
    assert!(paths.len() > 20, "{page}");
    assert!(paths.iter().all(|path| path.chars().all(|c| numbers.contains(c))), "{paths:?}");
    parse(&page);
}

#[test]
fn a_page_stays_small_however_long_the_session_was() {
    let mut snapshot = hostile();
    snapshot.listeners = (1..=100).map(listener).collect();
    let all = |begin| {
        let mut all = interval(begin, 1);
        for listener in 1..=100 {
            all.accepts.insert(listener, totals(1 + begin * listener % 977));
            all.drops.insert(listener, begin);
            all.queues.insert(listener, 9);
        }
        all
    };
    snapshot.timeline.intervals = (0..512).map(all).collect();
    snapshot.duration = Duration::from_secs(512);
    let page = render_report(&snapshot, Cost::default());
    assert!(page.len() < 4_000_000, "{}", page.len());
}
