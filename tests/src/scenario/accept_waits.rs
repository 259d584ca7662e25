//! Accepts whose time in the queue is known: bounds that hold however the machine schedules.
//!
//! A connection lies in the queue from some moment between "`connect()` called" and "seen queued"
//! until some moment within the `accept()` call. So the true wait is at least from "seen queued" to
//! "`accept()` called", and at most from "`connect()` called" to "`accept()` returned".

use anyhow::{Context, Result};
use nix::sys::socket::{SockFlag, SockType};

use super::clock::{now_ns, sleep_ms};
use super::listener::{accepts, wait_queued};
use super::record::Accepts;
use super::socket::{Listener, accept};

/// Connects and accepts once for each of `waits_ms`, leaving the connection queued for so long.
///
/// # Errors
/// When a call fails.
pub fn measure(
    name: &str,
    listener: &Listener,
    kind: SockType,
    waits_ms: &[u64],
) -> Result<Accepts> {
    let mut record = accepts(name, listener, 0)?;
    for wait in waits_ms {
        let (lower, upper) = one(listener, kind, *wait)?;
        record.lower_ns.push(lower);
        record.upper_ns.push(upper);
        record.count += 1;
    }
    Ok(record)
}

/// Connects `waits_ms.len()` times, then accepts all of them in turn, sleeping before each.
///
/// # Errors
/// When a call fails.
pub fn measure_batch(
    name: &str,
    listener: &Listener,
    kind: SockType,
    waits_ms: &[u64],
) -> Result<Accepts> {
    let mut record = accepts(name, listener, 0)?;
    let mut clients = Vec::new();
    for _ in waits_ms {
        let socket = listener.at.socket(kind, SockFlag::empty())?;
        let called = now_ns()?;
        listener.at.connect(&socket).context("connect")?;
        clients.push((socket, called, now_ns()?));
        sleep_ms(1);
    }
    for ((_socket, called, queued), wait) in clients.iter().zip(waits_ms) {
        let (asked, returned) = accept_after(listener, *wait)?;
        record.lower_ns.push(asked - queued);
        record.upper_ns.push(returned - called);
        record.count += 1;
    }
    Ok(record)
}

fn one(listener: &Listener, kind: SockType, wait_ms: u64) -> Result<(u64, u64)> {
    let socket = listener.at.socket(kind, SockFlag::empty())?;
    let called = now_ns()?;
    listener.at.connect(&socket).context("connect")?;
    if listener.family != "unix" {
        // A TCP client can be back before its last ACK has reached the listener.
        wait_queued(listener, 1)?;
    }
    let queued = now_ns()?;
    let (asked, returned) = accept_after(listener, wait_ms)?;
    Ok((asked - queued, returned - called))
}

/// Sleeps, accepts, and says when `accept()` was called and when it was back.
fn accept_after(listener: &Listener, wait_ms: u64) -> Result<(u64, u64)> {
    sleep_ms(wait_ms);
    let asked = now_ns()?;
    accept(listener, SockFlag::empty()).context("accept")?;
    Ok((asked, now_ns()?))
}
