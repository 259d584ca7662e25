//! Sessions that were written once read the same for ever: the numbers, names and identities beside them,
//! to which fields may be added. How sentences are worded is not compared.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{GOLDEN, answer_to, golden, kept, report_of};

/// What is expected and not found, each with its place.
fn lacking(expected: &Value, found: &Value, place: &str, problems: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (name, value) in expected {
                let found = found.get(name).unwrap_or(&Value::Null);
                lacking(value, found, &format!("{place}.{name}"), problems);
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (at, (expected, found)) in expected.iter().zip(found).enumerate() {
                lacking(expected, found, &format!("{place}[{at}]"), problems);
            }
        }
        _ if expected == found => {}
        _ => problems.push(format!("{place}: {found}, not {expected}")),
    }
}

#[test]
fn sessions_of_every_version_read_as_they_did() -> Result<()> {
    for name in GOLDEN {
        let path = kept(&format!("{name}.json"));
        let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let expected: Value = serde_json::from_slice(&text)?;
        let found = report_of(&golden(name)?)?.context("refused")?;
        let mut problems = Vec::new();
        lacking(&expected, &found, name, &mut problems);
        ensure!(problems.is_empty(), "{} differences:\n{}", problems.len(), problems.join("\n"));
    }
    Ok(())
}

#[test]
fn a_difference_of_a_value_or_of_a_length_is_found_and_an_added_field_is_none() {
    let expected = serde_json::json!({"a": [1, {"b": null}]});
    let count = |found: Value| {
        let mut problems = Vec::new();
        lacking(&expected, &found, "", &mut problems);
        problems.len()
    };
    assert_eq!(count(serde_json::json!({"a": [1, {"b": null, "c": 1}], "d": 2})), 0);
    assert_eq!(count(serde_json::json!({"a": [2, {"b": 1}]})), 2);
    assert_eq!(count(serde_json::json!({"a": [1]})), 1);
}

#[test]
fn nothing_that_a_session_says_moves_a_terminal() -> Result<()> {
    for name in GOLDEN {
        for format in ["text", "json", "perfetto"] {
            let finished = answer_to(&golden(name)?, &["--format", format])?;
            ensure!(finished.code() == Some(0), "{name}: {}", finished.told());
            for (stream, bytes) in [("stdout", &finished.stdout), ("stderr", &finished.stderr)] {
                let text = str::from_utf8(bytes).with_context(|| format!("{name}: {stream}"))?;
                let bad = text.chars().find(|c| moves(*c));
                ensure!(bad.is_none(), "{name} as {format}: {bad:?} on {stream}");
            }
        }
    }
    Ok(())
}

/// Control characters and those that turn the direction of writing.
fn moves(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() && c != '\n' || turns
}
