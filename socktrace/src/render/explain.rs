//! An explanation as text or JSON, and the list of topics.
//!
//! Owns the form; every word is in `diagnose::explain`, `diagnose::errno` and the table of rules.

use serde_json::{Value, json};

use super::json::SCHEMA_VERSION;
use crate::diagnose::explain::{Command, Explanation, KERNELS, Kind, Place, Topic};

/// Columns of a line.
const WIDTH: usize = 100;

/// Every topic in one line.
pub fn render_topics(topics: &[Topic]) -> String {
    let wide = topics.iter().map(|topic| topic.name.len()).max().unwrap_or(0);
    let of = |kind, title: &str| {
        let lines = topics.iter().filter(move |topic| topic.kind == kind);
        let line = |topic: &Topic| format!("  {:wide$}  {}\n", topic.name, topic.about);
        format!("{title}\n{}\n", lines.map(line).collect::<Vec<_>>().concat())
    };
    let parts = [
        of(Kind::Errno, "Errnos"),
        of(Kind::Incident, "Incidents"),
        of(Kind::Rule, "Rules"),
        "Next: socktrace explain TOPIC\n".to_owned(),
    ];
    parts.concat()
}

/// The same for programs.
pub fn topics_json(topics: &[Topic]) -> Value {
    let topic = |topic: &Topic| json!({"topic": topic.name, "kind": topic.kind.name(), "about": topic.about});
    json!({
        "schema_version": SCHEMA_VERSION,
        "topics": topics.iter().map(topic).collect::<Vec<_>>(),
    })
}

/// One topic; `demos` are the incidents of `socktrace demo` that show it.
pub fn render_explanation(told: &Explanation, demos: &[&str]) -> String {
    let number = told.number.map_or(String::new(), |number| format!(" ({number})"));
    let head = format!("{}{number}: {}", told.topic.name, told.topic.about);
    let also = (!told.also.is_empty()).then(|| format!("also called {}", told.also.join(", ")));
    let short = told.short.iter().map(|(of, known)| {
        item(of, &format!("{}. Next: {}. ({})", known.cause, known.fix, known.certainty.name()))
    });
    let cause = |rule: &crate::diagnose::Described| item(rule.name, rule.about);
    let causes = told.causes.iter().map(cause);
    let shown = demos.iter().map(|name| format!("  socktrace demo {name}\n"));
    let parts = [
        wrap(&head, 0),
        also.map_or(String::new(), |also| wrap(&also, 0)),
        section("In short", short),
        section("What the kernel does", told.places.iter().map(place)),
        section("What the program sees", sentences(told.sees)),
        section("TCP and Unix", sentences(told.differs)),
        section("Causes, in the order in which they are asked for", causes),
        section("Next commands", told.commands.iter().map(command)),
        section("See it happen", shown),
        format!("\nFor kernels {KERNELS}; docs/diagnosis.md says how causes are told apart.\n"),
    ];
    parts.concat()
}

/// The same for programs.
pub fn explanation_json(told: &Explanation, demos: &[&str]) -> Value {
    let short = |(of, known): &(&str, crate::diagnose::Cause)| {
        json!({
            "of": of,
            "cause": known.cause,
            "fix": known.fix,
            "certainty": known.certainty.name(),
        })
    };
    let place = |it: &Place| json!({"of": it.of, "where": it.at, "when": said(it.when)});
    let rule = |rule: &crate::diagnose::Described| json!({"rule": rule.name, "about": rule.about, "where": rule.source});
    let command = |it: &Command| json!({"command": it.line, "shows": it.shows});
    json!({
        "schema_version": SCHEMA_VERSION,
        "topic": told.topic.name,
        "kind": told.topic.kind.name(),
        "number": told.number,
        "also": told.also,
        "about": told.topic.about,
        "short": told.short.iter().map(short).collect::<Vec<_>>(),
        "kernel": told.places.iter().map(place).collect::<Vec<_>>(),
        "program": said(told.sees),
        "differs": said(told.differs),
        "causes": told.causes.iter().map(rule).collect::<Vec<_>>(),
        "errnos": told.errnos.iter().map(|errno| format!("{errno:?}")).collect::<Vec<_>>(),
        "commands": told.commands.iter().map(command).collect::<Vec<_>>(),
        "demos": demos,
        "kernels": KERNELS,
    })
}

/// Nothing is `null` in JSON.
fn said(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// A title and what stands below it; nothing where that is nothing.
fn section(title: &str, items: impl IntoIterator<Item = String>) -> String {
    let items: String = items.into_iter().collect();
    if items.is_empty() { items } else { format!("\n{title}\n{items}") }
}

fn sentences(text: &str) -> Option<String> {
    said(text).map(|text| wrap(text, 2))
}

fn place(place: &Place) -> String {
    item(&format!("{}: {}", place.of, place.at), place.when)
}

fn command(command: &Command) -> String {
    // As it is typed, however long.
    format!("  {}\n{}", command.line, wrap(command.shows, 6))
}

/// A line, and what is to be said of it below.
fn item(head: &str, text: &str) -> String {
    wrap(head, 2) + &wrap(text, 6)
}

/// Lines of at most [`WIDTH`] columns, all with the same indentation.
fn wrap(text: &str, indent: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if columns(line) + 1 + columns(word) <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{:indent$}{word}", "")),
        }
    }
    for line in &mut lines {
        line.push('\n');
    }
    lines.concat()
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::explain::{explain, topics};

    #[test]
    fn every_topic_has_its_line_and_no_line_of_an_explanation_is_too_long() {
        let all: Vec<Topic> = topics().collect();
        let list = render_topics(&all);
        for topic in all {
            assert!(list.contains(&format!("\n  {} ", topic.name)), "{}", topic.name);
            let told = explain(topic.name).unwrap_or_else(|| unreachable!("{}", topic.name));
            let text = render_explanation(&told, &[]);
            for line in text.lines() {
                let one_word = !line.trim().contains(' ');
                assert!(line.chars().count() <= WIDTH || one_word, "{}: {line}", topic.name);
            }
            let json = explanation_json(&told, &[]);
            assert_eq!(json["topic"], topic.name);
        }
    }

    #[test]
    fn an_errno_is_told_with_its_rules_and_its_demo() {
        let told = explain("EPROTOTYPE").unwrap_or_else(|| unreachable!("it is a topic"));
        let text = render_explanation(&told, &["wrong-type"]);
        for word in
            ["EPROTOTYPE (91)", "unix-wrong-type", "unix_find_bsd()", "socktrace demo wrong-type"]
        {
            assert!(text.contains(word), "{word}: {text}");
        }
    }

    #[test]
    fn words_are_kept_and_lines_are_indented() {
        assert_eq!(wrap("a b", 2), "  a b\n");
        assert_eq!(wrap("", 2), "");
        let long = wrap(&"word ".repeat(40), 6);
        assert!(long.lines().all(|line| line.starts_with("      word") && line.len() <= WIDTH));
        assert_eq!(long.split_whitespace().count(), 40);
    }
}
