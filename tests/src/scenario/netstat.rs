//! The kernel's own counters of dropped connections: `/proc/self/net/netstat`.
//!
//! They belong to the network namespace, not to a listener.

use anyhow::{Context, Result, bail};

use super::clock::sleep_ms;
use super::record::Netstat;

/// How long nothing may change before the counters count as being at rest.
const REST_MS: u64 = 300;

/// Reads the counters as they are now.
///
/// # Errors
/// When the file cannot be read or lacks a counter.
pub fn read() -> Result<Netstat> {
    let path = "/proc/self/net/netstat";
    let text = std::fs::read_to_string(path).context(path)?;
    parse(&text).context(path)
}

/// Waits until the counters did not change for 300 ms, and returns them.
///
/// # Errors
/// When they cannot be read, or still change after 12 s.
pub fn at_rest() -> Result<Netstat> {
    let mut last = read()?;
    for _ in 0..40 {
        sleep_ms(REST_MS);
        let now = read()?;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
    bail!("the drop counters of /proc/self/net/netstat do not come to rest")
}

/// Picks the counters out of the text: a line of names, then a line of values, per group.
fn parse(text: &str) -> Result<Netstat> {
    let mut group = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let names = group.next().context("no TcpExt line")?.split_whitespace();
    let values = group.next().context("no second TcpExt line")?.split_whitespace();
    let pairs: Vec<(&str, &str)> = names.zip(values).collect();
    let counter = |wanted: &str| -> Result<u64> {
        let found = pairs.iter().find(|(name, _)| *name == wanted);
        let (_, value) = found.with_context(|| format!("no counter {wanted}"))?;
        value.parse().with_context(|| format!("{wanted} is `{value}`"))
    };
    Ok(Netstat {
        listen_overflows: counter("ListenOverflows")?,
        listen_drops: counter("ListenDrops")?,
        reqq_full_drop: counter("TCPReqQFullDrop")?,
        reqq_full_do_cookies: counter("TCPReqQFullDoCookies")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name_whatever_their_order() -> Result<()> {
        let text = "TcpExt: A ListenDrops ListenOverflows TCPReqQFullDoCookies TCPReqQFullDrop\n\
                    TcpExt: 1 2 3 4 5\nIpExt: InNoRoutes\nIpExt: 9\n";
        let found = parse(text)?;
        assert_eq!(found.listen_drops, 2);
        assert_eq!(found.listen_overflows, 3);
        assert_eq!(found.reqq_full_do_cookies, 4);
        assert_eq!(found.reqq_full_drop, 5);
        Ok(())
    }

    #[test]
    fn a_missing_counter_is_an_error_and_not_zero() {
        assert!(parse("TcpExt: ListenDrops\nTcpExt: 2\n").is_err());
    }
}
