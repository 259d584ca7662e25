//! Tests of the whole page: of a session in which nothing happened, and of one that is as hostile as can be.

mod markup;
mod sessions;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use self::{
    markup::parse,
    sessions::{empty, hostile, interval, listener, totals, waits},
};
use super::{render_report, values::grouped};
use crate::{aggregate::ProcessRow, render::Cost};

/// The page of a session in which nothing happened.
pub(super) fn empty_page() -> String {
    render_report(&empty(), Some(Cost::default()))
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
    let page = render_report(&hostile(), Some(Cost::default()));
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
    let told = parse(&render_report(&hostile(), Some(Cost::default()))).join(" ");
    let alone =
        [70_001..=70_002, 70_010..=70_013, 70_016..=70_017, 70_019..=70_020, 70_023..=70_023];
    let alone = alone.into_iter().chain([70_025..=70_028, 70_030..=70_032, 70_040..=70_045]);
    for n in alone.chain([70_050..=70_072]).flatten() {
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
    let page = render_report(&snapshot, Some(Cost::default()));
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
    let told = parse(&render_report(&snapshot, Some(Cost::default()))).join(" ");
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
    let none = render_report(&snapshot, Some(Cost::default()));
    assert!(parse(&none).join(" ").contains("The session has no length."));
    snapshot.session.started_ns = 5;
    snapshot.duration = Duration::MAX;
    snapshot.stalls[0].since_ns = u64::MAX;
    snapshot.timeline.intervals.reverse();
    snapshot.timeline.intervals[3].end_ns = u64::MAX;
    snapshot.timeline.intervals[4].drops = BTreeMap::from([(1, u64::MAX), (2, u64::MAX)]);
    snapshot.timeline.intervals[5].queues = BTreeMap::from([(1, u32::MAX)]);
    let page = render_report(&snapshot, Some(Cost::default()));
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
    let page = render_report(&snapshot, Some(Cost::default()));
    assert!(page.len() < 4_000_000, "{}", page.len());
}
