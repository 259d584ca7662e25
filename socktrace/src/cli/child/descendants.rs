//! What CMD started and left behind: recording ends with CMD, so that is told.

use std::fmt::Write;

use socktrace_common::TaskKey;

use crate::{
    host::{Host, same_start},
    render::escape::escape,
    transport::Descendants,
};

/// Processes that are named.
const NAMED: usize = 3;

/// One line for stderr, if processes that CMD started live on.
pub(in crate::cli) fn note(descendants: &Descendants) -> Option<String> {
    let host = Host::default();
    let living = descendants.marked().into_iter().filter(|key| is_living(&host, key));
    let living = living.map(|key| (key.tgid, host.read_comm(key.tgid).unwrap_or_default()));
    sentence(&living.collect::<Vec<_>>())
}

/// Whether the process is there, is no zombie, and is not one of socktrace's own helpers, which the
/// kernel side marks, too.
fn is_living(host: &Host, key: &TaskKey) -> bool {
    let stat = host.read_stat(key.tgid).unwrap_or_default();
    fields(&stat).is_some_and(|(state, parent, start)| {
        let is_same = same_start(key.start_ns, start);
        is_same && !b"ZXx".contains(&state) && parent != std::process::id()
    })
}

/// State, parent and start of `/proc/PID/stat` (fields 3, 4 and 22), behind the name, which may hold anything.
fn fields(stat: &[u8]) -> Option<(u8, u32, u64)> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = str::from_utf8(&stat[name_end + 1..]).ok()?.split_whitespace();
    let (state, parent) = (*fields.next()?.as_bytes().first()?, fields.next()?.parse().ok()?);
    Some((state, parent, fields.nth(17)?.parse().ok()?))
}

fn sentence(living: &[(u32, Vec<u8>)]) -> Option<String> {
    let (first, _) = living.first()?;
    let mut named = String::new();
    for (pid, comm) in living.iter().take(NAMED) {
        let separator = if named.is_empty() { "" } else { ", " };
        // Writing to a `String` cannot fail.
        let _ = write!(named, "{separator}{} (pid {pid})", escape(comm));
    }
    let more = living.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let (run, they) =
        if living.len() == 1 { ("still runs", "it does") } else { ("still run", "they do") };
    Some(format!(
        "socktrace: CMD has ended, and {named}{more}, which it started, {run}: what {they} from now on is \
         not recorded (socktrace record -p {first} records it)\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_where_nothing_was_left_behind() {
        assert_eq!(sentence(&[]), None);
        let one = sentence(&[(7, b"a\x1b".to_vec())]).expect("one");
        assert!(
            one.contains("a\\x1b (pid 7), which it started, still runs: what it does"),
            "{one}"
        );
        let many: Vec<_> = (1..=5).map(|pid| (pid, b"d".to_vec())).collect();
        let many = sentence(&many).expect("many");
        assert!(many.contains("d (pid 3) and 2 more, which it started, still run: what"), "{many}");
        assert_eq!(many.matches('\n').count(), 1);
    }

    #[test]
    fn a_name_cannot_pass_for_a_state() {
        let stat = b"7 (a) Z 1 (b) S 9 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0";
        assert_eq!(fields(stat), Some((b'S', 9, 4711)));
        assert_eq!(fields(b"7 (a"), None);
        assert_eq!(fields(b"7 (a) S 9 7"), None);
        let own = std::fs::read("/proc/self/stat").expect("own");
        assert_eq!(fields(&own).map(|it| it.1), Some(std::os::unix::process::parent_id()));
    }
}
