//! Errnos by name, as flags, reports and session files have them.

use nix::errno::Errno;

/// `EAGAIN`: an accept that found nothing has not failed; a Unix connect met a full backlog.
pub const EAGAIN: u32 = Errno::EAGAIN as u32;

/// How a client learns of a full queue: at once from a Unix backlog; from TCP when nobody answers, or, with
/// `tcp_abort_on_overflow`, by a reset.
pub(super) const OF_A_FULL_QUEUE: [u32; 3] =
    [EAGAIN, Errno::ETIMEDOUT as u32, Errno::ECONNRESET as u32];

/// Errnos that the kernel uses inside and that no header names.
const INTERNAL: [(u32, &str); 4] =
    [(512, "ERESTARTSYS"), (513, "ERESTARTNOINTR"), (514, "ERESTARTNOHAND"), (524, "ENOTSUPP")];

/// Every number that has a name: Linux has no larger errno than EHWPOISON (133) but for its internal ones.
pub(super) const NAMED: std::ops::Range<u32> = 1..600;

/// `EACCES` and so on; the number where there is no name.
pub fn errno_name(errno: u32) -> String {
    let known = i32::try_from(errno).map_or(Errno::UnknownErrno, Errno::from_raw);
    if known != Errno::UnknownErrno {
        return format!("{known:?}");
    }
    let internal = INTERNAL.iter().find(|(number, _)| *number == errno);
    internal.map_or_else(|| errno.to_string(), |(_, name)| (*name).to_owned())
}

/// The errno with this name (any case) or number.
pub fn parse_errno(text: &str) -> Option<u32> {
    // Linux has no larger errno than EHWPOISON (133).
    if let Ok(number) = text.parse::<u32>() {
        return (1..=133).contains(&number).then_some(number);
    }
    (1..=133).find(|number| errno_name(*number).eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_the_same_errno() {
        assert_eq!(errno_name(13), "EACCES");
        assert_eq!(errno_name(11), "EAGAIN");
        assert_eq!(errno_name(512), "ERESTARTSYS");
        assert_eq!(errno_name(4000), "4000");
        assert_eq!(parse_errno("EACCES"), Some(13));
        assert_eq!(parse_errno("econnrefused"), Some(111));
        assert_eq!(parse_errno("110"), Some(110));
        for bad in ["EACESS", "", "0", "-1", "134", "UnknownErrno", "512"] {
            assert_eq!(parse_errno(bad), None, "{bad}");
        }
    }
}
