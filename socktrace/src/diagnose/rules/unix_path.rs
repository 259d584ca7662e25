//! Where a Unix path leads to: too long, missing, through something that is no directory, or to
//! something that is no socket.

use nix::errno::Errno;

use super::{
    unix_socket::namesake_explains,
    words::{holders, user},
};
use crate::{
    diagnose::{
        case::{BoundSocket, Case, Path},
        rule::{Cause, Outcome, subject},
    },
    event::{Certainty, Phrase, Severity, name, phrase, word},
    host::{
        UnitState,
        path_walk::{End, Kind, Step},
    },
};

/// `sizeof(struct sockaddr_un)`: family and 108 bytes.
const ADDRESS: u32 = 110;
/// `sizeof(sun_path)`
const PATH: usize = 108;

/// How sure what was walked is.
pub(super) const fn certainty(path: &Path) -> Certainty {
    if path.settled { Certainty::Measured } else { Certainty::Inferred }
}

/// What a step is, for evidence: `/run/app.sock: socket 0600, owner root (uid 0), group root (gid 0)`.
pub(super) fn describe(case: &Case, step: &Step) -> Phrase {
    phrase![
        shown(case, step),
        format!(": {} {:04o}, owner ", kind(&step.kind), step.mode & 0o7777),
        user(case, step.uid),
        ", group ",
        super::words::group(case, step.gid),
    ]
}

/// Its path, whole where the client's is relative.
pub(super) fn shown(case: &Case, step: &Step) -> Phrase {
    match &case.path {
        Some(path) => name(&path.bases.shown(&step.path)),
        None => name(&step.path),
    }
}

pub(super) const fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Directory => "directory",
        Kind::Symlink { .. } => "symbolic link",
        Kind::Socket => "socket",
        Kind::Fifo => "FIFO",
        Kind::Regular => "regular file",
        Kind::BlockDevice => "block device",
        Kind::CharDevice => "character device",
        Kind::Unknown => "file of an unknown kind",
    }
}

/// Every step, for evidence; the last ones of a long way.
pub(in crate::diagnose) fn way(case: &Case, path: &Path) -> Vec<Phrase> {
    const SHOWN: usize = 12;
    let steps = &path.walk.steps;
    let skipped = steps.len().saturating_sub(SHOWN);
    let described = steps.iter().skip(skipped).map(|step| describe(case, step));
    described.chain(changed(path)).collect()
}

/// What makes a finding less sure: the way is not what it was.
pub(super) fn changed(path: &Path) -> Option<Phrase> {
    let changed = path.changed.as_ref()?;
    Some(phrase![
        name(&path.bases.shown(changed)),
        " was changed after the failure, or just before"
    ])
}

pub(super) fn too_long(case: &Case) -> Outcome {
    let Some(path) = case.unix_path() else { return Outcome::Clear };
    if let (Some(len), Some(Errno::EINVAL)) = (case.client.address_len, case.errno)
        && len > ADDRESS
        && path.len() < PATH
    {
        return wrong_length(path, len);
    }
    let passed = match (case.client.address_len, case.errno) {
        (Some(len), Some(Errno::EINVAL)) if len > ADDRESS => len as usize - 2,
        // Nothing was passed yet.
        (None, None) if path.len() > PATH => path.len(),
        (None, Some(Errno::EINVAL)) => return Outcome::Unknown("the length of the address"),
        _ => return Outcome::Clear,
    };
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Measured,
        subject: name(path),
        fact: format!("the address has {passed} bytes of path, and a Unix address holds {PATH}")
            .into(),
        consequence: "no program can connect to it by that path".into(),
        fix: "use a shorter path: a relative one, a symbolic link to the directory, or \
              /proc/self/fd/N of its opened directory"
            .into(),
        evidence: Vec::new(),
    })
}

/// The path would do; what the program says of its length does not.
fn wrong_length(path: &[u8], len: u32) -> Outcome {
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Measured,
        subject: name(path),
        fact: format!(
            "the program passed {len} as the length of the address, and a Unix address has at most {ADDRESS} \
             bytes; its path has {}",
            path.len()
        )
        .into(),
        consequence: "the kernel refuses that length, whatever the path".into(),
        fix: "correct the program: pass sizeof(struct sockaddr_un), or the length that is used".into(),
        evidence: Vec::new(),
    })
}

pub(super) fn not_a_directory(case: &Case) -> Outcome {
    let Some(path) = &case.path else { return Outcome::Unknown("the way to the path") };
    let (End::NotADirectory, Some(step)) = (&path.walk.end, path.walk.steps.last()) else {
        return Outcome::Clear;
    };
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: certainty(path),
        subject: subject(case),
        fact: phrase![shown(case, step), " is a ", kind(&step.kind), " and no directory"],
        consequence: "the path cannot lead through it".into(),
        fix: "correct the path".into(),
        evidence: way(case, path),
    })
}

pub(super) fn symlink_loop(case: &Case) -> Outcome {
    let Some(path) = &case.path else { return Outcome::Unknown("the way to the path") };
    let why = match path.walk.end {
        End::TooManyLinks => "the path has more than 40 symbolic links",
        End::LinksForbidden => "the path has a symbolic link on a mount with nosymfollow",
        _ => return Outcome::Clear,
    };
    let link = path.walk.steps.last();
    let last = link.map(|step| phrase![", the last of them ", shown(case, step)]);
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: certainty(path),
        subject: subject(case),
        fact: phrase![why, last],
        consequence: "the kernel gives up following them".into(),
        fix: phrase![
            "correct the links (namei -l ",
            word(&path.bases.on_host(case.unix_path().unwrap_or_default())),
            ")"
        ],
        evidence: way(case, path),
    })
}

pub(super) fn missing(case: &Case) -> Outcome {
    let Some(path) = &case.path else { return Outcome::Unknown("the way to the path") };
    let (End::Missing { name: missing, last: is_socket }, Some(last)) =
        (&path.walk.end, path.walk.steps.last())
    else {
        return Outcome::Clear;
    };
    if case.unix.as_ref().is_some_and(|unix| namesake_explains(case, unix)) {
        return Outcome::Clear;
    }
    let is_socket = *is_socket;
    let namesakes = case.unix.as_ref().map(|unix| unix.namesakes.as_slice()).unwrap_or_default();
    let outside = namesakes.iter().find(|it| it.serves());
    let maker = case.units.as_ref().and_then(|units| units.maker.as_ref());
    let socket = case.units.as_ref().and_then(|units| units.socket.as_ref());
    let fix = match (maker, socket) {
        (_, Some((unit, UnitState::NotRunning))) => {
            phrase!["start its socket unit (systemctl start ", word(&unit.name), ")"]
        }
        (Some((maker, UnitState::NotRunning)), _) => {
            phrase!["start what makes it (", name(maker), ")"]
        }
        (Some((maker, _)), _) => phrase!["see why ", name(maker), " has not made it"],
        (None, _) if is_socket => "start the server, or correct the path".into(),
        (None, _) => "create the directory before the server starts, or correct the path".into(),
    };
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: certainty(path),
        subject: subject(case),
        fact: phrase![
            if is_socket { "there is no " } else { "there is no directory " },
            name(missing),
            " in ",
            shown(case, last)
        ],
        consequence: phrase!["the path leads to nothing", outside.map(outside_words)],
        fix,
        evidence: way(case, path),
    })
}

/// The client is in a chroot: it has the listener's mounts, and not its root.
fn outside_words(listener: &BoundSocket) -> Phrase {
    phrase![
        "; ",
        holders(listener.holders.as_deref()),
        if listener.listens { " listens" } else { " has a datagram socket" },
        " on that path outside of the client's root directory"
    ]
}

pub(super) fn not_a_socket(case: &Case) -> Outcome {
    let Some(path) = &case.path else { return Outcome::Unknown("the way to the path") };
    let (End::Found, Some(last)) = (&path.walk.end, path.walk.steps.last()) else {
        return Outcome::Clear;
    };
    if matches!(last.kind, Kind::Socket | Kind::Unknown) {
        return Outcome::Clear;
    }
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: certainty(path),
        subject: subject(case),
        fact: phrase!["it is a ", kind(&last.kind), " and no socket"],
        consequence: "nothing can be connected to there".into(),
        fix: "correct the path, or remove what lies there and start the server again".into(),
        evidence: way(case, path),
    })
}
