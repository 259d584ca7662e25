//! Texts that are conditions, and texts that are none.

use std::time::Duration;

use super::*;

fn problem(text: &str) -> (usize, Problem) {
    let error = Condition::parse(text).expect_err(text);
    assert_eq!(error.expression, text);
    (error.column, error.problem)
}

#[test]
fn a_value_in_quotes_is_read_as_reports_print_it() {
    let mut snapshot = Snapshot::of_nothing();
    let names: [&[u8]; 5] = [b"a,b}\"", b"\x1b\xff", b"@path", b"\0at", "ü\u{202e}".as_bytes()];
    for (errno, name) in (1..).zip(names) {
        let row = ProcessRow {
            comm: Some(name.to_vec()),
            connect_failures: vec![failure(unix(name), errno, 0, 1)],
            ..ProcessRow::default()
        };
        snapshot.processes.push(row);
    }
    for (text, errno) in [
        (r#"connect_failures{comm="a,b}\""}>0"#, 1),
        (r#"connect_failures{target="a,b}\""}>0"#, 1),
        (r#"connect_failures{target="\x1b\xff"}>0"#, 2),
        (r#"connect_failures{target="\x40path"}>0"#, 3),
        (r#"connect_failures{target="@at"}>0"#, 4),
        (r#"connect_failures{target="ü\u{202e}"}>0"#, 5),
    ] {
        let found = met(text, &snapshot).expect("it is met");
        assert_eq!(found.most.and_then(|(whose, _)| whose.errno), Some(errno), "{text}");
    }
}

#[test]
fn a_text_that_is_no_condition_is_refused_where_it_goes_wrong() {
    type Expected = fn(&Problem) -> bool;
    let cases: [(&str, usize, Expected); 24] = [
        ("", 1, |it| matches!(it, Problem::Metric(name) if name.is_empty())),
        (" acepts>0", 2, |it| matches!(it, Problem::Metric(name) if name == "acepts")),
        ("accepts", 8, |it| *it == Problem::Operator),
        ("accepts=5", 8, |it| *it == Problem::Operator),
        ("accepts>", 9, |it| matches!(it, Problem::Limit { .. })),
        ("accepts>-1", 9, |it| matches!(it, Problem::Limit { .. })),
        ("accepts>5ms", 9, |it| matches!(it, Problem::Limit { .. })),
        ("accepts>0 0", 9, |it| matches!(it, Problem::Limit { .. })),
        ("accepts>99999999999999999999", 9, |it| matches!(it, Problem::Limit { .. })),
        ("accept_wait_p99>50", 17, |it| matches!(it, Problem::Limit { .. })),
        ("accept_wait_p99>9999999999999d", 17, |it| matches!(it, Problem::Limit { .. })),
        ("queue_fill>80", 12, |it| matches!(it, Problem::Limit { .. })),
        ("queue_fill>8.005%", 12, |it| matches!(it, Problem::Limit { .. })),
        ("accepts{errno=EACCES}>0", 9, |it| matches!(it, Problem::Key { .. })),
        ("events_lost{pid=1}>0", 13, |it| matches!(it, Problem::Key { .. })),
        ("accepts{pid=1,listener=[::]:1}>0", 8, |it| matches!(it, Problem::Together { .. })),
        ("accepts{pid=1,pid=2}>0", 15, |it| *it == Problem::Twice("pid")),
        ("accepts{pid}>0", 12, |it| matches!(it, Problem::NoValue(key) if key == "pid")),
        ("accepts{pid=web}>0", 13, |it| matches!(it, Problem::Value { key: Key::Pid, .. })),
        ("accepts{comm=0123456789abcdef}>0", 14, |it| matches!(it, Problem::Value { .. })),
        ("accepts{listener=0.0.0.0.80}>0", 18, |it| matches!(it, Problem::Value { .. })),
        ("accepts{pid=1>0", 13, |it| matches!(it, Problem::Value { .. })),
        ("accepts{comm=\"ü>0", 14, |it| *it == Problem::OpenQuote),
        ("accepts{comm=\"ü\\q\"}>0", 16, |it| *it == Problem::Escape),
    ];
    for (text, column, expected) in cases {
        let (at, found) = problem(text);
        assert!(expected(&found), "{text}: {found:?}");
        assert_eq!(at, column, "{text}: {found}");
    }
    assert_eq!(problem("accepts{comm=\"a\" pid=1}>0"), (18, Problem::OpenBrace));
}

#[test]
fn a_refusal_says_what_there_is() {
    let told = |text: &str| Condition::parse(text).expect_err(text).to_string();
    assert!(told("x>0").contains("connect_failures, connects_abandoned"), "{}", told("x>0"));
    let keys = told("accepts{errno=1}>0");
    assert!(keys.ends_with("it takes pid, comm, uid or listener"), "{keys}");
    assert!(told("events_lost{pid=1}>0").ends_with("it takes none"));
    assert!(told("\u{1b}[2J\u{202e}>0").chars().all(|c| c.is_ascii_graphic() || c == ' '));
}

#[test]
fn every_metric_has_a_name_of_its_own_and_can_be_measured() {
    for metric in METRICS {
        let limit = match metric.unit {
            Unit::Count => "0",
            Unit::Duration => "0ms",
            Unit::Percent => "0%",
        };
        let condition = Condition::parse(&format!("{}>={limit}", metric.name)).expect(metric.name);
        assert_eq!(condition.metric.name, metric.name);
        assert!(matches!(condition.check(&busy()), Outcome::Met(_)), "{}", metric.name);
    }
}

#[test]
fn random_texts_are_refused_or_read_but_never_panic() {
    const PIECES: [&str; 28] = [
        "accepts",
        "accept_wait_p99",
        "queue_fill",
        "stalls",
        "findings",
        "{",
        "}",
        ",",
        "=",
        "\"",
        "\\",
        "\\x",
        "\\u{",
        "comm",
        "listener",
        "errno",
        "@",
        "/a",
        "::1",
        ">",
        "<=",
        "!",
        " ",
        "9",
        "18446744073709551616",
        "ms",
        "%",
        "ü",
    ];
    const CONDITIONS: [&str; 4] = [
        "connect_failures{comm=\"ü\\x40\",errno=EACCES}>0",
        "accept_wait_p99 {listener=[::]:80} <= 1m30s",
        "queue_fill>=99.5%",
        "stalls{pid=1}!=7",
    ];
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).expect("31 bits")
    };
    let (busy, mut read) = (busy(), 0);
    for _ in 0..200_000 {
        let mut text: String = (0..next() % 12).map(|_| PIECES[next() % PIECES.len()]).collect();
        if next() % 2 == 0 {
            // One that is a condition, with a piece too many or with its end cut off.
            CONDITIONS[next() % CONDITIONS.len()].clone_into(&mut text);
            let at = text.floor_char_boundary(next() % (text.len() + 1));
            match next() % 3 {
                0 => text.truncate(at),
                1 => text.insert_str(at, PIECES[next() % PIECES.len()]),
                _ => {}
            }
        }
        if let Ok(condition) = Condition::parse(&text) {
            read += 1;
            assert!(Condition::parse(condition.text()).is_ok(), "{text}");
            let _ = condition.check(&busy);
        } else {
            let error = Condition::parse(&text).expect_err("it was one").to_string();
            assert!(error.starts_with("column "), "{error}");
        }
    }
    assert!(read > 10_000, "only {read} were conditions");
}

#[test]
fn a_minute_is_sixty_seconds() {
    let condition = Condition::parse("stall_max>1m30s").expect("a condition");
    assert_eq!(u128::from(condition.limit), Duration::from_secs(90).as_nanos());
}
