//! One value of the page each: escaped, with its unit, `–` where it is unknown.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{
    event::{Endpoint, Owner},
    render::{
        cells::{self, few},
        escape::escape,
    },
};

/// What is not known.
pub(super) const UNKNOWN: &str = "–";

/// The last second that RFC 3339 can write.
const LAST_SECOND: u64 = 253_402_300_799;

pub(super) fn known(value: Option<impl ToString>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |value| value.to_string())
}

/// Words of socktrace itself, which may have come out of a file.
pub(super) fn own_words(words: &str) -> String {
    escape(words.as_bytes()).into_owned()
}

/// Bytes of a traced program.
pub(super) fn bytes(value: Option<&[u8]>) -> String {
    known(value.map(escape))
}

pub(super) fn endpoint(end: &Endpoint) -> String {
    known(end.address.as_ref().map(|_| cells::endpoint(end)))
}

pub(super) fn family(end: &Endpoint) -> String {
    known(end.address.as_ref().map(crate::event::Address::family))
}

/// `nginx(12)`
pub(super) fn owner(owner: &Owner) -> String {
    format!("{}({})", escape(&owner.comm), owner.pid)
}

/// The first few of them.
pub(super) fn owners(owners: &[Owner]) -> String {
    let all = few(owners.iter().map(owner), owners.len());
    if owners.is_empty() { UNKNOWN.to_owned() } else { all }
}

/// `12,345`
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 drop`, `1,200 drops`
pub(super) fn count(n: u64, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(n))
}

/// A wait in three digits and the unit that fits.
pub(super) fn wait(ns: u64) -> String {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "µs")];
    let ns_f = ns as f64;
    let unit = units.into_iter().find(|(size, _)| ns_f >= *size * 0.9995);
    let Some((size, name)) = unit else { return format!("{ns} ns") };
    let value = ns_f / size;
    match value {
        v if v < 9.995 => format!("{v:.2} {name}"),
        v if v < 99.95 => format!("{v:.1} {name}"),
        v => format!("{v:.0} {name}"),
    }
}

/// How long something took, for people: `2 min 03 s`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => wait(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `2026-03-11T14:02:11.250Z`; a time that RFC 3339 cannot write is the nearest that it can.
pub(super) fn time(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let told = UNIX_EPOCH + since.min(Duration::from_secs(LAST_SECOND));
    humantime::format_rfc3339_millis(told).to_string()
}

/// The same for people: `2026-03-11 14:02:11.250 UTC`.
pub(super) fn time_for_people(at: SystemTime) -> String {
    time(at).replace('T', " ").replace('Z', " UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_have_three_digits_and_a_unit() {
        let told: Vec<String> =
            [0, 999, 1_000, 12_345, 999_600, 1_234_567, 99_960_000, 61_000_000_000]
                .into_iter()
                .map(wait)
                .collect();
        let expected =
            ["0 ns", "999 ns", "1.00 µs", "12.3 µs", "1.00 ms", "1.23 ms", "100 ms", "61.0 s"];
        assert_eq!(told, expected);
    }

    #[test]
    fn large_numbers_are_grouped() {
        let told: Vec<String> = [0, 999, 1_000, 1_234_567].into_iter().map(grouped).collect();
        assert_eq!(told, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_time_before_1970_or_after_9999_is_told_as_the_nearest_that_can_be_written() {
        assert_eq!(time(UNIX_EPOCH - Duration::from_secs(9)), "1970-01-01T00:00:00.000Z");
        let late = UNIX_EPOCH + Duration::from_secs(LAST_SECOND * 2);
        assert_eq!(time(late), "9999-12-31T23:59:59.000Z");
    }
}
