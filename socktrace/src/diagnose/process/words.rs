//! Words of all steps: processes, sizes, and lists that end.

use super::{Facts, Process};
use crate::{
    diagnose::Check,
    event::{Phrase, name, phrase},
    host::DescriptorClass,
};

/// Lines that a step lists of one kind, and that a finding has as evidence.
pub(super) const SHOWN: usize = 20;
/// Processes that are named in a row.
const NAMED: usize = 3;

/// `nginx (pid 7)`
pub(super) fn process(of: &Process) -> Phrase {
    phrase![name(&of.comm), format!(" (pid {})", of.pid)]
}

/// `nginx (pid 7), nginx (pid 8) and 3 more`
pub(super) fn processes(all: &[Process]) -> Phrase {
    let mut said = Phrase::default();
    for (at, one) in all.iter().take(NAMED).enumerate() {
        said = said.then(if at == 0 { "" } else { ", " }).then(process(one));
    }
    match all.len().saturating_sub(NAMED) {
        0 => said,
        more => said.then(format!(" and {more} more")),
    }
}

/// The other end of something.
pub(super) fn holders(of: Option<&[Process]>) -> Phrase {
    match of {
        Some([]) => "no process that can be seen".into(),
        Some(all) => processes(all),
        None => "a process that could not be found out".into(),
    }
}

/// What findings about the process itself are about.
pub(super) fn subject(facts: &Facts) -> Phrase {
    process(&facts.identity.process)
}

/// The first lines, and how many more there are.
pub(super) fn few(lines: impl ExactSizeIterator<Item = Phrase>) -> Vec<Phrase> {
    let more = lines.len().saturating_sub(SHOWN);
    let mut few: Vec<Phrase> = lines.take(SHOWN).collect();
    few.extend((more != 0).then(|| Phrase::from(format!("and {more} more"))));
    few
}

/// `1 pipe`, `2 pipes`
pub(super) fn count(number: impl Into<u64>, one: &str) -> String {
    let number = number.into();
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// A length as `u64`.
pub(super) fn len<T>(of: &[T]) -> u64 {
    of.len() as u64
}

/// `512 B`, `4.0 KiB`, `1.5 GiB`
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64 / 1024.0, "KiB");
    for larger in UNITS.iter().skip(1) {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    format!("{value:.1} {unit}")
}

/// `23 µs`, `1.5 ms`
pub(super) fn short_time(us: u32) -> String {
    if us < 1000 { format!("{us} µs") } else { format!("{:.1} ms", f64::from(us) / 1000.0) }
}

/// `850 ms`, `3.2 s`
pub(super) fn time(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { format!("{:.1} s", ms as f64 / 1000.0) }
}

/// Descriptors of which it is not known what they lead to; all of them where they could not be read.
fn unread(facts: &Facts) -> u64 {
    let known = &facts.descriptors;
    known.left_out + known.counts.get(&DescriptorClass::Unreadable).copied().unwrap_or(0)
}

/// Whether every descriptor is known: only then is what was not found not there.
pub(super) fn knows_all(facts: &Facts) -> bool {
    facts.descriptors.refusal.is_none() && unread(facts) == 0
}

/// Where descriptors could not be read, nothing is known of what they lead to.
pub(super) fn note_unread_descriptors(check: &mut Check, facts: &Facts) {
    if let Some(refusal) = &facts.descriptors.refusal {
        check.unseen.push(phrase!["the descriptors of the process: ", refusal.clone(),]);
    } else if unread(facts) != 0 {
        let what = count(unread(facts), "descriptor");
        check.unseen.push(format!("what {what} of the process lead to").into());
    }
}

/// Processes whose descriptors could not be read may hold an end.
pub(super) fn note_unreadable(check: &mut Check, processes: u32) {
    let who = match processes {
        0 => return,
        1 => "1 other process".to_owned(),
        more => format!("{more} other processes"),
    };
    check.unseen.push(format!("the descriptors of {who}: they may hold other ends").into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_the_unit_that_reads_best() {
        let sizes = [0, 1023, 1024, 1536, 1 << 20, 3 << 30, u64::MAX].map(size);
        assert_eq!(
            sizes,
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "3.0 GiB", "16777216.0 TiB"]
        );
        assert_eq!([time(0), time(999), time(3210)], ["0 ms", "999 ms", "3.2 s"]);
    }

    #[test]
    fn a_long_list_ends_with_how_many_more_there_are() {
        let lines = few((0..50).map(|line| Phrase::from(line.to_string())));
        assert_eq!(lines.len(), SHOWN + 1);
        assert_eq!(lines.last(), Some(&"and 30 more".into()));
        assert_eq!(few((0..2).map(|_| Phrase::from("x"))).len(), 2);
    }
}
