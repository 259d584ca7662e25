//! A saved session, held against the report that was made when it was recorded, and against its schema.
//!
//! Everything here comes from outside of socktrace: the file is unpacked and its lines are judged by
//! other libraries.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail, ensure};
use jsonschema::Validator;
use serde_json::Value;

use super::process::Running;
use super::run::{run, socktrace};

/// Of a long session, so many lines are judged at its beginning and at its end.
const JUDGED: [usize; 2] = [300, 50];

static SCHEMA: OnceLock<std::result::Result<Validator, String>> = OnceLock::new();

/// The report of the session is the one that was printed live, byte for byte, and every line is
/// as the schema says.
///
/// # Errors
/// What is not so.
pub fn is_as_recorded(file: &Path, live: &[u8]) -> Result<()> {
    let mut command = socktrace(&["report", "--json"])?;
    let again = Running::start(command.arg(file))?.finish()?;
    ensure!(again.code() == Some(0), "the saved session cannot be read: {}", again.told());
    if again.stdout != live {
        bail!("the saved session reads otherwise: {}", first_difference(live, &again.stdout));
    }
    let packed = std::fs::read(file).with_context(|| file.display().to_string())?;
    follows_schema(&lines(&packed)?)
}

/// The lines of a session file.
///
/// # Errors
/// When it is cut or damaged.
pub fn lines(packed: &[u8]) -> Result<Vec<Value>> {
    let text = zstd::decode_all(packed).context("no zstd frames with their checksums")?;
    let text = str::from_utf8(&text).context("lines in UTF-8")?;
    let line = |line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"));
    text.lines().map(line).collect()
}

/// The first line of a session file, which may be cut behind it.
///
/// # Errors
/// When there is none.
pub fn header(packed: &[u8]) -> Result<Value> {
    let mut first = String::new();
    let mut text = BufReader::new(zstd::Decoder::new(packed).context("no zstd frames")?);
    text.read_line(&mut first).context("the first line")?;
    let line: Value = serde_json::from_str(&first).context("the header")?;
    line.get("session").cloned().context("the first line is no header")
}

/// The kind of a line: the name of its only member.
pub fn kind(line: &Value) -> Option<&str> {
    let members = line.as_object().filter(|members| members.len() == 1)?;
    members.keys().next().map(String::as_str)
}

/// # Errors
/// The first lines that are not as `socktrace report --schema` says.
fn follows_schema(lines: &[Value]) -> Result<()> {
    let schema = SCHEMA.get_or_init(|| compile().map_err(|error| format!("{error:#}")));
    let schema = schema.as_ref().map_err(|error| anyhow!("{error}"))?;
    let mut problems = Vec::new();
    for (at, line) in judged(lines) {
        if let Err(error) = schema.validate(line) {
            problems.push(format!("line {}: {}: {error}", at + 1, error.instance_path()));
        }
    }
    ensure!(problems.is_empty(), "lines against the schema:\n{}", problems.join("\n"));
    Ok(())
}

fn compile() -> Result<Validator> {
    let printed = run(&["report", "--schema"])?;
    let schema = serde_json::from_slice(&printed.stdout).with_context(|| printed.told())?;
    jsonschema::validator_for(&schema).map_err(|error| anyhow!("no JSON Schema: {error}"))
}

/// The first and the last lines, and the first of each kind.
fn judged(lines: &[Value]) -> impl Iterator<Item = (usize, &Value)> {
    let [first, last] = JUDGED;
    let mut kinds = BTreeSet::new();
    let end = lines.len().saturating_sub(last);
    let chosen = move |(at, line): &(usize, &Value)| {
        kinds.insert(kind(line).map(str::to_owned)) || *at < first || *at >= end
    };
    lines.iter().enumerate().filter(chosen)
}

/// The first line in which two texts differ.
fn first_difference(live: &[u8], again: &[u8]) -> String {
    let (live, again) = (String::from_utf8_lossy(live), String::from_utf8_lossy(again));
    let pairs = live.lines().zip(again.lines()).enumerate();
    let different = pairs.into_iter().find(|(_, (live, again))| live != again);
    different.map_or_else(
        || format!("{} bytes live, {} from the file", live.len(), again.len()),
        |(at, (live, again))| format!("line {}: live {live}, from the file {again}", at + 1),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_long_session_both_ends_and_each_kind_are_judged() {
        let mut lines = vec![json!({"event": 1}); 1000];
        lines[700] = json!({"loss": 1});
        lines[701] = json!({"loss": 2});
        let chosen: Vec<usize> = judged(&lines).map(|(at, _)| at).collect();
        assert_eq!(chosen.len(), 300 + 1 + 50);
        assert_eq!(chosen[300..302], [700, 950]);
    }

    #[test]
    fn a_difference_is_told_by_its_line() {
        let told = first_difference(b"{\n \"a\": 1\n}", b"{\n \"a\": 2\n}");
        assert_eq!(told, "line 2: live  \"a\": 1, from the file  \"a\": 2");
    }

    #[test]
    fn a_file_that_is_cut_or_damaged_has_no_lines() -> Result<()> {
        let whole = zstd::encode_all(&b"{\"end\":{}}\n"[..], 3)?;
        assert_eq!(lines(&whole)?, [json!({"end": {}})]);
        assert!(lines(&whole[..whole.len() - 1]).is_err());
        Ok(())
    }
}
