//! Words that several rules use: ids with their names, modes, holders.

pub(in crate::diagnose) use super::{
    tcp::{met_by, route},
    unix_path::way,
};
use crate::{
    diagnose::case::{Case, Holder},
    event::{Phrase, SocketKind, name, phrase},
};

/// `www-data (uid 33)`
pub(in crate::diagnose) fn user(case: &Case, uid: u32) -> Phrase {
    match case.accounts.user_name(uid) {
        Some(known) => phrase![name(known), format!(" (uid {uid})")],
        None => format!("uid {uid}").into(),
    }
}

/// `adm (gid 4)`
pub(in crate::diagnose) fn group(case: &Case, gid: u32) -> Phrase {
    match case.accounts.group_name(gid) {
        Some(known) => phrase![name(known), format!(" (gid {gid})")],
        None => format!("gid {gid}").into(),
    }
}

/// `nginx (pid 7) and 3 more`
pub(in crate::diagnose) fn holders(holders: Option<&[Holder]>) -> Phrase {
    match holders {
        Some([first, rest @ ..]) => {
            let more = match rest.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            phrase![name(&first.comm), format!(" (pid {})", first.pid), more]
        }
        Some([]) => "no process that can be seen".into(),
        None => "a process that could not be found out".into(),
    }
}

/// What the first holder does, if that is known.
pub(in crate::diagnose) fn activity(holders: Option<&[Holder]>) -> Option<&str> {
    holders?.first()?.activity.as_deref()
}

/// As programs call it.
pub(in crate::diagnose) const fn kind(kind: SocketKind) -> &'static str {
    match kind {
        SocketKind::Stream => "stream",
        SocketKind::Dgram => "datagram",
        SocketKind::Seqpacket => "seqpacket",
    }
}

/// `1 connection`, `2 connections`
pub(in crate::diagnose) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// What a list of sockets may lack; none where it lacks nothing.
pub(in crate::diagnose) fn unseen(unreadable: u32) -> Option<Phrase> {
    let processes = match unreadable {
        0 => return None,
        1 => "1 process would not show its network namespace".to_owned(),
        more => format!("{more} processes would not show their network namespaces"),
    };
    Some(processes.into())
}

/// Groups that are listed; of more, how many.
pub(in crate::diagnose) fn few(gids: &[u32]) -> String {
    const LISTED: usize = 32;
    let listed: Vec<String> = gids.iter().take(LISTED).map(u32::to_string).collect();
    match gids.len().saturating_sub(LISTED) {
        0 => listed.join(" "),
        more => format!("{} and {more} more", listed.join(" ")),
    }
}
