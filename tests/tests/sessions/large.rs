//! A session of very many events: it is read as it comes, and not kept.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use socktrace_tests::harness::measured::measured;
use socktrace_tests::harness::run::socktrace;
use socktrace_tests::harness::session::{header, kind, lines};

use super::golden;

const EVENTS: u64 = 1_000_000;
/// What the writer puts into a frame, about.
const FRAME: usize = 1 << 20;
/// Frames that differ.
const DIFFERENT: u64 = 8;
/// What is promised is 2 s on an idle machine (`docs/journal/session-reader.md`); others may be slower.
const MOST_TIME: Duration = Duration::from_secs(20);
const MOST_BYTES: u64 = 200 << 20;

/// A frame of events like those of a real session, and how many they are.
fn frame(events: &[Value], of: u64) -> Result<(Vec<u8>, u64)> {
    let (mut text, mut count) = (Vec::new(), 0);
    let mut event = events.iter().cycle();
    while text.len() < FRAME {
        let mut line = event.next().context("an event")?.clone();
        count += 1;
        line["event"]["time_ns"] = json!(50_000_000_000_000 + of * 1_000_000_000 + count * 997);
        text.extend(format!("{line}\n").into_bytes());
    }
    let mut compressor = zstd::bulk::Compressor::new(1)?;
    compressor.include_checksum(true)?;
    Ok((compressor.compress(&text)?, count))
}

/// A session of at least so many events.
fn session(least: u64) -> Result<(Vec<u8>, u64)> {
    let rich = golden("v1-rich")?;
    let kept = lines(&rich)?;
    let events: Vec<Value> =
        kept.iter().filter(|line| kind(line) == Some("event")).cloned().collect();
    let first = format!("{}\n", json!({ "session": header(&rich)? }));
    let mut file = zstd::bulk::compress(first.as_bytes(), 1)?;
    let frames: Vec<(Vec<u8>, u64)> =
        (0..DIFFERENT).map(|of| frame(&events, of)).collect::<Result<_>>()?;
    let mut all = 0;
    for (frame, count) in frames.iter().cycle() {
        if all >= least {
            break;
        }
        file.extend(frame);
        all += count;
    }
    Ok((file, all))
}

#[test]
fn a_million_events_are_read_in_seconds_and_not_kept() -> Result<()> {
    let (file, events) = session(EVENTS)?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("session");
    std::fs::write(&path, &file)?;
    println!("{events} events in {} bytes", file.len());
    drop(file);
    for args in [&[][..], &["--json"], &["-e", "EACCES"]] {
        let mut command = socktrace(&["report"])?;
        let ended = measured(command.args(args).arg(&path), Stdio::null())?;
        let (took, peak) = (ended.took, ended.peak_bytes);
        println!("report {}: {took:.2?}, {} MiB", args.join(" "), peak >> 20);
        ensure!(ended.finished.code() == Some(0), "{args:?}: {}", ended.finished.err());
        ensure!(took <= MOST_TIME, "{args:?}: {took:?}");
        ensure!(peak <= MOST_BYTES, "{args:?}: {} MiB", peak >> 20);
    }
    Ok(())
}

#[test]
fn what_is_measured_of_a_program_is_its_own() -> Result<()> {
    let large = vec![1u8; 300 << 20];
    let mut shell = Command::new("/bin/sh");
    let ended = measured(shell.args(["-c", "cat; echo b >&2; exit 3"]), Stdio::null())?;
    let (finished, peak) = (ended.finished, ended.peak_bytes);
    ensure!((finished.code(), finished.err().as_str()) == (Some(3), "b\n"), "{}", finished.told());
    ensure!((100_000..large.len() as u64 / 10).contains(&peak), "{peak} bytes");
    let killed = measured(Command::new("/bin/sh").args(["-c", "kill -9 $$"]), Stdio::null())?;
    ensure!(killed.finished.signal() == Some(9), "{}", killed.finished.told());
    Ok(())
}
