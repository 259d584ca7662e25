//! Files that want to do harm: bombs, lengths and numbers out of all bounds, lines of any other form. What
//! can be read of them is, in bounded time and memory.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use socktrace_tests::harness::session::lines;

use super::{answer_to, golden, report_of, verdict};

const MIB: usize = 1 << 20;
/// What begins a frame (RFC 8878).
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A frame with its checksum.
fn frame(text: &[u8]) -> Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(3)?;
    compressor.include_checksum(true)?;
    Ok(compressor.compress(text)?)
}

/// A frame of so many times the same, without having it in memory.
fn long_frame(text: &[u8], times: usize) -> Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3)?;
    for _ in 0..times {
        std::io::Write::write_all(&mut encoder, text)?;
    }
    Ok(encoder.finish()?)
}

/// The header of a session.
fn header() -> Result<Value> {
    lines(&golden("v1-rich")?)?.into_iter().next().context("no line")
}

/// A session with these frames behind its header.
fn session(frames: &[Vec<u8>]) -> Result<Vec<u8>> {
    let header = frame(format!("{}\n", header()?).as_bytes())?;
    Ok([header, frames.concat()].concat())
}

fn text_of(lines: &[Value]) -> Vec<u8> {
    lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect()
}

/// A session with these lines.
fn session_of(lines: &[Value]) -> Result<Vec<u8>> {
    session(&[frame(&text_of(lines))?])
}

/// It is reported, and its report says that something is missing.
fn is_incomplete(what: &str, file: &[u8]) -> Result<()> {
    let report = report_of(file).with_context(|| what.to_owned())?;
    let report = report.with_context(|| format!("{what}: refused"))?;
    ensure!(verdict(&report) == "incomplete", "{what}: {}", verdict(&report));
    let text = answer_to(file, &[]).with_context(|| what.to_owned())?;
    ensure!(text.code() == Some(0), "{what}: {}", text.err());
    Ok(())
}

#[test]
fn a_frame_that_holds_far_too_much_is_not_unpacked() -> Result<()> {
    let bomb = long_frame(&vec![0; MIB], 256)?;
    ensure!(bomb.len() < MIB, "it is no bomb: {}", bomb.len());
    is_incomplete("a bomb behind the header", &session(std::slice::from_ref(&bomb))?)?;
    ensure!(report_of(&bomb)?.is_none(), "a bomb is taken for a session");
    Ok(())
}

#[test]
fn many_frames_that_each_hold_as_much_as_they_may_are_left_unread_in_the_end() -> Result<()> {
    let records = ["\0", "\n", "{}\n", "{\"x\":1}\n", "{\"owners\":[]}\n"];
    for text in records {
        let bomb = long_frame(text.as_bytes(), 16 * MIB / text.len())?;
        let many = vec![bomb; 200];
        is_incomplete(&format!("frames of {text:?}"), &session(&many)?)?;
    }
    Ok(())
}

#[test]
fn a_length_that_cannot_be_is_not_believed() -> Result<()> {
    // One segment, and a content size of eight bytes; then a window of the largest size that can be said.
    let long = [&MAGIC[..], &[0xe0], &[0xff; 8], &[1, 0, 0]].concat();
    let wide = [&MAGIC[..], &[0x00, 0xff], &[1, 0, 0]].concat();
    // A block of 2 MiB that is not there, and one that repeats a byte two million times.
    let short = [&MAGIC[..], &[0x20, 0x01], &[0xfd, 0xff, 0xff]].concat();
    let repeated = [&MAGIC[..], &[0x00, 0x58], &[0xfb, 0xff, 0xff, 0x41]].concat();
    for (what, broken) in [("long", long), ("wide", wide), ("short", short), ("same", repeated)] {
        is_incomplete(what, &session(&[broken.clone(), frame(b"{\"owners\":[]}\n")?])?)?;
        ensure!(report_of(&broken)?.is_none(), "{what}: taken for a session");
    }
    is_incomplete("beginnings only", &session(&[MAGIC.repeat(2 * MIB)])?)
}

#[test]
fn lines_out_of_all_bounds_are_no_records() -> Result<()> {
    let deep = format!("{{\"event\":{}1{}}}\n", "[".repeat(MIB), "]".repeat(MIB));
    let open = "{\"event\":".repeat(MIB);
    let long = format!("{{\"event\":\"{}\"}}\n", "x".repeat(15 * MIB));
    let digits = format!("{{\"loss\":{{\"undecodable\":{}}}}}\n", "9".repeat(MIB));
    for (what, line) in [("deep", deep), ("open", open), ("long", long), ("digits", digits)] {
        is_incomplete(what, &session(&[frame(line.as_bytes())?])?)?;
    }
    Ok(())
}

#[test]
fn a_name_that_is_very_long_is_a_name() -> Result<()> {
    let mut kept = lines(&golden("v1-rich")?)?;
    let event = kept.iter_mut().find(|line| line["event"]["who"].is_object()).context("event")?;
    event["event"]["who"]["comm"] = json!("\\\\".repeat(4 * MIB));
    let file = session_of(&kept[1..])?;
    ensure!(report_of(&file)?.is_some(), "refused");
    Ok(())
}

#[test]
fn values_of_other_types_are_no_records_and_the_others_are_read() -> Result<()> {
    let kept = lines(&golden("v1-rich")?)?;
    let wrong = [json!(null), json!(-1), json!(1e300), json!("x"), json!([[]]), json!({"": 0})];
    for (at, line) in kept.iter().enumerate().skip(1).step_by(23) {
        let kind = line.as_object().and_then(|line| line.keys().next()).context("a kind")?.clone();
        let lines: Vec<Value> = wrong.iter().map(|value| json!({ kind.clone(): value })).collect();
        let all = [&kept[1..at], &lines, &kept[at..]].concat();
        is_incomplete(&format!("{kind} of another type"), &session_of(&all)?)?;
    }
    Ok(())
}

/// Every number of a value, as the largest that there is.
fn extreme(value: &mut Value) {
    match value {
        Value::Number(_) => *value = json!(u64::MAX),
        Value::Array(all) => all.iter_mut().for_each(extreme),
        Value::Object(all) => all.values_mut().for_each(extreme),
        _ => {}
    }
}

#[test]
fn numbers_as_large_as_can_be_are_no_reason_to_panic() -> Result<()> {
    let kept = lines(&golden("v1-rich")?)?;
    let mut all = kept.clone();
    all[1..].iter_mut().for_each(extreme);
    let file = session_of(&[&all[1..], &all[1..]].concat())?;
    ensure!(report_of(&file)?.is_some(), "refused");
    for format in ["text", "perfetto"] {
        let finished = answer_to(&file, &["--format", format])?;
        ensure!(finished.code() == Some(0), "{}", finished.told());
    }
    let mut header = kept[0].clone();
    header["session"]["started_ns"] = json!(u64::MAX);
    header["session"]["interval_ns"] = json!(u64::MAX);
    let file = [frame(format!("{header}\n").as_bytes())?, session_of(&kept[1..])?].concat();
    ensure!(report_of(&file)?.is_some(), "refused");
    Ok(())
}

/// More totals than any map of the kernel side has.
const ROWS: u64 = 32_768;

/// Totals of so many processes.
fn many_rows(time_ns: u64, count: u64) -> String {
    let list = |first: u64, row: &dyn Fn(u64) -> String| -> String {
        (first..first + 512).map(row).collect::<Vec<_>>().join(",")
    };
    let task = |of: u64| format!(r#"{{"start_ns":{of},"pid":{of}}}"#);
    let line = |first: u64| {
        let errors = list(first, &|of| {
            format!(r#"{{"task":{},"inode":{of},"errno":"EMFILE","count":1}}"#, task(of))
        });
        let names = list(first, &|of| {
            let name = r#"{"comm":"x","uid":0,"gid":0,"cgroup":0}"#;
            format!(r#"{{"task":{},"name":{name}}}"#, task(of))
        });
        let totals = format!(r#""accept_errors":[{errors}],"tasks":[{names}]"#);
        format!("{{\"totals\":{{\"time_ns\":{time_ns},{totals}}}}}\n")
    };
    (1..count).step_by(512).map(line).collect()
}

#[test]
fn very_many_totals_of_very_many_rows_are_read_in_time() -> Result<()> {
    let start = 50_000_000_000_000;
    let text = many_rows(start, ROWS);
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        ensure!(line["totals"]["tasks"].as_array().is_some_and(|rows| rows.len() == 512), "{line}");
    }
    let rows = frame(text.as_bytes())?;
    let whole = report_of(&session(std::slice::from_ref(&rows))?)?.context("refused")?;
    let shown = whole["processes"].as_array().map_or(0, Vec::len);
    ensure!(shown == 16_384, "{shown} processes");
    // Each tells nothing but that time goes on, or that nothing is there any more.
    let kinds: [&[&str]; 3] = [
        &["{\"totals\":{\"time_ns\":TIME}}\n"],
        &["{\"sightings\":{\"time_ns\":TIME,\"gone\":[1]}}\n"],
        &[
            "{\"carried\":{\"delivered\":[],\"watched\":[],\"classes\":[],\"intervals\":[],\"stalls_left_out\":0}}\n",
            "{\"sightings\":{\"time_ns\":TIME}}\n",
            "{\"totals\":{\"time_ns\":TIME}}\n",
        ],
    ];
    for kind in kinds {
        let times = (start..start + 200_000).map(|time| time.to_string());
        let lines = times.zip(kind.iter().cycle()).map(|(time, line)| line.replace("TIME", &time));
        let lines: String = lines.collect();
        let file = session(&[rows.clone(), frame(lines.as_bytes())?])?;
        let report = report_of(&file).with_context(|| format!("{kind:?}"))?;
        ensure!(report.is_some(), "{kind:?}: refused");
    }
    Ok(())
}

#[test]
fn a_newer_version_is_refused_by_its_number() -> Result<()> {
    for version in [2, 77] {
        let line = json!({"session": {"schema_version": version, "anything": [1]}});
        let finished = answer_to(&frame(line.to_string().as_bytes())?, &[])?;
        ensure!(finished.code() == Some(2), "{}", finished.told());
        for word in [&format!("version {version}"), "newer socktrace"] {
            ensure!(finished.err().contains(word), "no `{word}`: {}", finished.told());
        }
    }
    Ok(())
}

#[test]
fn kinds_and_fields_that_are_not_known_are_skipped_and_counted() -> Result<()> {
    let mut kept = lines(&golden("v1-rich")?)?;
    for line in &mut kept {
        for body in line.as_object_mut().into_iter().flat_map(|line| line.values_mut()) {
            if let Some(fields) = body.as_object_mut() {
                fields.insert("later".to_owned(), json!({"any": [1, null]}));
            }
        }
    }
    let later = [json!({"later": [1]}), json!({"much_later": null})];
    let header = frame(format!("{}\n", kept[0]).as_bytes())?;
    let file = [header, frame(&text_of(&later))?, frame(&text_of(&kept[1..]))?].concat();
    let finished = answer_to(&file, &["--json"])?;
    ensure!(finished.err().contains("2 lines are of kinds"), "{}", finished.err());
    let intact = answer_to(&golden("v1-rich")?, &["--json"])?;
    ensure!(finished.stdout == intact.stdout, "they change the report");
    Ok(())
}
