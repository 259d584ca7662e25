//! Which socket is bound there: none, one of another type, one that does not listen, one elsewhere.

use nix::errno::Errno;

use super::{
    unix_path::{certainty, describe},
    words::{activity, count, holders, kind, unseen, user},
};
use crate::{
    diagnose::{
        case::{BoundSocket, Case, Holder, UnixSockets},
        rule::{Cause, Outcome, subject},
    },
    event::{Certainty, Phrase, Severity, SocketKind, name, phrase, word},
    host::{
        UnitState,
        path_walk::{End, Kind, Step},
    },
};

/// The sockets there, if the way was walked and led to a socket file (or the name is abstract).
fn bound(case: &Case) -> Result<&UnixSockets, Outcome> {
    if case.abstract_name().is_none() {
        let Some(path) = &case.path else { return Err(Outcome::Unknown("the way to the path")) };
        let is_socket = path.walk.steps.last().is_some_and(|step| step.kind == Kind::Socket);
        match path.walk.end {
            End::Found if is_socket => {}
            End::Found | End::Missing { .. } | End::NotADirectory => return Err(Outcome::Clear),
            _ => return Err(Outcome::Unknown("where the path leads")),
        }
    }
    case.unix.as_ref().ok_or(Outcome::Unknown("which Unix sockets there are"))
}

/// The socket that a connect would meet.
fn met(case: &Case) -> Result<&BoundSocket, Outcome> {
    let unix = bound(case)?;
    // An abstract name can be bound once for each type.
    let alike = unix.there.iter().find(|it| Some(it.kind) == case.client.kind);
    alike.or(unix.there.first()).ok_or(if unix.complete {
        Outcome::Clear
    } else {
        Outcome::Unknown("which Unix sockets there are in namespaces that could not be entered")
    })
}

/// How sure it is that the socket there is the one that the connect met: `bind()` makes a new inode, so where
/// the way did not change, neither did the socket. An abstract name tells nothing of that.
fn of_met(case: &Case) -> Certainty {
    case.path.as_ref().map_or(Certainty::Inferred, certainty)
}

/// Whether the socket there is a datagram socket; `None` where that is not known.
pub(super) fn is_datagram(case: &Case) -> Option<bool> {
    met(case).ok().map(|socket| socket.kind == SocketKind::Dgram)
}

/// What it does for clients: a datagram socket does not listen.
const fn serves(socket: &BoundSocket) -> &'static str {
    if socket.listens { " listens" } else { " has a datagram socket" }
}

fn last_step(case: &Case) -> Option<&Step> {
    case.path.as_ref()?.walk.steps.last()
}

fn evidence(case: &Case, sockets: &[BoundSocket]) -> Vec<Phrase> {
    let file = last_step(case).map(|step| describe(case, step));
    let line = |socket: &BoundSocket| {
        phrase![
            format!("{} socket, inode {}", kind(socket.kind), socket.inode),
            if socket.listens { ", listens" } else { "" },
            socket.net_namespace.map_or(String::new(), |inode| format!(", net:[{inode}]")),
            ", held by ",
            holders(socket.holders.as_deref()),
        ]
    };
    let hidden = case.unix.as_ref().and_then(|unix| unseen(unix.unreadable));
    file.into_iter().chain(sockets.iter().take(8).map(line)).chain(hidden).collect()
}

const NOT_COMPARABLE: &str = "whether the file there is that of a listener: its filesystem numbers files otherwise \
                              than sock_diag";

/// What starts the server: its systemd socket unit, where there is one.
fn start(case: &Case) -> Phrase {
    let socket = case.units.as_ref().and_then(|units| units.socket.as_ref());
    match socket {
        Some((unit, UnitState::NotRunning)) => {
            phrase!["start its socket unit (systemctl start ", word(&unit.name), ")"]
        }
        Some((unit, _)) => {
            phrase!["restart its socket unit (systemctl restart ", word(&unit.name), ")"]
        }
        None => "start the server again; before bind() it must unlink the file that is left".into(),
    }
}

pub(super) fn stale(case: &Case) -> Outcome {
    let unix = match bound(case) {
        Ok(unix) => unix,
        Err(outcome) => return outcome,
    };
    let (Some(path), Some(step)) = (&case.path, last_step(case)) else { return Outcome::Clear };
    if !unix.there.is_empty() || namesake_explains(case, unix) {
        return Outcome::Clear;
    }
    if !unix.comparable {
        return Outcome::Unknown(NOT_COMPARABLE);
    }
    if !unix.complete {
        return Outcome::Unknown(
            "which Unix sockets there are in namespaces that could not be entered",
        );
    }
    Outcome::found(Cause {
        severity: Severity::Error,
        // Which sockets there are is read after the event: one may have been closed since.
        certainty: certainty(path).max(Certainty::Inferred),
        subject: subject(case),
        fact: phrase![
            if unix.unreadable == 0 { "no socket" } else { "no socket that can be seen" },
            " is bound to the file: it was left behind by a server of ",
            user(case, step.uid),
            " that is gone",
        ],
        consequence: "every connect is refused until a server binds there again".into(),
        fix: start(case),
        evidence: evidence(case, &[]),
    })
}

/// Listeners that are called like the path, of the client's own tree, as far as is known. One whose file is in place has
/// lost nothing: the client sees another tree.
fn own_namesake<'a>(case: &Case, unix: &'a UnixSockets) -> Option<&'a BoundSocket> {
    let mut lost = unix.namesakes.iter().filter(|it| it.serves() && it.in_place != Some(true));
    lost.find(|it| has_known_tree(it) && !is_elsewhere(case, it))
}

/// Whether anything is known of the tree that its name is in: that of its holders, of whom who may not look at them knows
/// nothing.
fn has_known_tree(socket: &BoundSocket) -> bool {
    let mut holders = socket.holders.iter().flatten();
    socket.in_place.is_some() || holders.any(|it| it.mount_namespace.is_some())
}

/// What is to be said where no listener is one of [`own_namesake`].
fn without_namesake(unix: &UnixSockets) -> Outcome {
    if unix.namesakes.iter().any(|it| it.serves() && !has_known_tree(it)) {
        return Outcome::Unknown("in which tree the holder of a listener of that name lives");
    }
    Outcome::Clear
}

/// Whether a listener of the same name is why the client does not arrive.
pub(super) fn namesake_explains(case: &Case, unix: &UnixSockets) -> bool {
    let elsewhere = |it: &BoundSocket| it.serves() && is_elsewhere(case, it);
    own_namesake(case, unix).is_some() || unix.namesakes.iter().any(elsewhere)
}

/// Whether every holder of a socket is known to live in another mount namespace than the client.
fn is_elsewhere(case: &Case, socket: &BoundSocket) -> bool {
    let (Some(own), Some(holders)) = (case.client.mount_namespace, &socket.holders) else {
        return false;
    };
    let elsewhere = |it: &Holder| it.mount_namespace.is_some_and(|inode| inode != own);
    !holders.is_empty() && holders.iter().all(elsewhere)
}

pub(super) fn replaced(case: &Case) -> Outcome {
    let unix = match bound(case) {
        Ok(unix) => unix,
        Err(outcome) => return outcome,
    };
    if case.abstract_name().is_some() || !unix.there.is_empty() {
        return Outcome::Clear;
    }
    let Some(listener) = own_namesake(case, unix) else { return without_namesake(unix) };
    if !unix.comparable {
        return Outcome::Unknown(NOT_COMPARABLE);
    }
    let step = last_step(case);
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Inferred,
        subject: subject(case),
        fact: phrase![
            holders(listener.holders.as_deref()),
            serves(listener),
            " under that name, but on another file: the one there now was made later",
            step.map(|step| phrase![" by ", user(case, step.uid)]),
            ", and nothing is bound to it",
        ],
        consequence: "nobody can reach the listener by the path any more".into(),
        fix: phrase![
            "restart ",
            holders(listener.holders.as_deref()),
            ", and find what replaces the file"
        ],
        evidence: evidence(case, std::slice::from_ref(listener)),
    })
}

pub(super) fn file_removed(case: &Case) -> Outcome {
    let Some(path) = &case.path else { return Outcome::Unknown("the way to the path") };
    let End::Missing { .. } = path.walk.end else { return Outcome::Clear };
    let Some(unix) = &case.unix else { return Outcome::Unknown("which Unix sockets there are") };
    let Some(listener) = own_namesake(case, unix) else { return without_namesake(unix) };
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Inferred,
        subject: subject(case),
        fact: phrase![
            holders(listener.holders.as_deref()),
            serves(listener),
            " under that name, but the file was removed or renamed since"
        ],
        consequence: "nobody can reach the listener by the path any more".into(),
        fix: phrase![
            "restart ",
            holders(listener.holders.as_deref()),
            ", and find what removes the file"
        ],
        evidence: evidence(case, std::slice::from_ref(listener)),
    })
}

pub(super) fn other_mount_namespace(case: &Case) -> Outcome {
    let Some(path) = &case.path else { return Outcome::Unknown("the way to the path") };
    let Some(unix) = &case.unix else { return Outcome::Unknown("which Unix sockets there are") };
    if !unix.there.is_empty() || !matches!(path.walk.end, End::Found | End::Missing { .. }) {
        return Outcome::Clear;
    }
    let elsewhere = |it: &&BoundSocket| it.serves() && is_elsewhere(case, it);
    let Some(listener) = unix.namesakes.iter().find(elsewhere) else { return Outcome::Clear };
    if own_namesake(case, unix).is_some() {
        return Outcome::Clear;
    }
    let service = listener.holders.iter().flatten().find_map(|holder| holder.unit.as_deref());
    let there = listener.holders.iter().flatten().find_map(|holder| holder.mount_namespace);
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Inferred,
        subject: subject(case),
        fact: phrase![
            holders(listener.holders.as_deref()),
            service.map(|unit| phrase![" of ", name(unit)]),
            serves(listener),
            " on that path in another mount namespace",
            there.map_or(String::new(), |inode| format!(" (mnt:[{inode}])")),
        ],
        consequence:
            "the client's own tree has another directory there (a container, or PrivateTmp=)".into(),
        fix: "put the socket where both see it (a shared volume, a directory below /run), or take \
              PrivateTmp= from the service"
            .into(),
        evidence: evidence(case, std::slice::from_ref(listener)),
    })
}

pub(super) fn wrong_type(case: &Case) -> Outcome {
    let socket = match met(case) {
        Ok(socket) => socket,
        Err(outcome) => return outcome,
    };
    // A path leads to a socket of any type, and an abstract name is not found by another one.
    if case.errno == Some(Errno::ECONNREFUSED) && case.abstract_name().is_none() {
        return Outcome::Clear;
    }
    let differs = case.client.kind.is_some_and(|own| own != socket.kind);
    if !differs && case.errno.is_none() || case.client.kind == Some(socket.kind) {
        return Outcome::Clear;
    }
    let own = case.client.kind.map_or("another", kind);
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: if case.errno == Some(Errno::EPROTOTYPE) && differs {
            of_met(case)
        } else {
            Certainty::Inferred
        },
        subject: subject(case),
        fact: phrase![
            format!("the socket there is a {} socket of ", kind(socket.kind)),
            holders(socket.holders.as_deref()),
            format!(", and the client's is a {own} socket"),
        ],
        consequence: "the two cannot be connected".into(),
        fix: format!("let the client make a {} socket", kind(socket.kind)).into(),
        evidence: evidence(case, std::slice::from_ref(socket)),
    })
}

pub(super) fn not_listening(case: &Case) -> Outcome {
    let socket = match met(case) {
        Ok(socket) => socket,
        Err(outcome) => return outcome,
    };
    if socket.kind == SocketKind::Dgram || socket.listens {
        return Outcome::Clear;
    }
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Inferred,
        subject: subject(case),
        fact: phrase![
            holders(socket.holders.as_deref()),
            " has a socket bound there and has not called listen()"
        ],
        consequence: "connects are refused until it does".into(),
        fix: "see what the server waits for between bind() and listen()".into(),
        evidence: evidence(case, std::slice::from_ref(socket)),
    })
}

pub(super) fn shut_down(case: &Case) -> Outcome {
    let socket = match met(case) {
        Ok(socket) => socket,
        Err(outcome) => return outcome,
    };
    if !socket.shut {
        return Outcome::Clear;
    }
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Inferred,
        subject: subject(case),
        fact: phrase![holders(socket.holders.as_deref()), " has called shutdown() on its listener"],
        consequence: "it takes no more connections, though the socket still exists".into(),
        fix: phrase![
            "wait until ",
            holders(socket.holders.as_deref()),
            " has ended, or restart it"
        ],
        evidence: evidence(case, std::slice::from_ref(socket)),
    })
}

pub(super) fn backlog_full(case: &Case) -> Outcome {
    let socket = match met(case) {
        Ok(socket) => socket,
        Err(outcome) => return outcome,
    };
    let full = socket.queue.is_some_and(|(queue, limit)| queue > limit);
    if case.errno.is_none() && !full {
        return Outcome::Clear;
    }
    let queue = socket.queue.map_or(String::new(), |(queue, limit)| {
        format!(" ({} waiting now, backlog {limit})", count(queue.into(), "connection"))
    });
    let does = activity(socket.holders.as_deref());
    Outcome::found(Cause {
        severity: Severity::Error,
        // EAGAIN has this cause only; whose backlog it was is read afterwards.
        certainty: if case.errno == Some(Errno::EAGAIN) {
            of_met(case)
        } else {
            Certainty::Inferred
        },
        subject: subject(case),
        fact: phrase!["the backlog of ", holders(socket.holders.as_deref()), " was full", queue],
        consequence: phrase![
            "a client that does not wait, or has waited as long as it may, gets EAGAIN",
            does.map_or(String::new(), |does| format!("; the server is {does}")),
        ],
        fix: "let the server accept faster; a larger backlog (listen(), net.core.somaxconn) only helps \
              against short bursts"
            .into(),
        evidence: evidence(case, std::slice::from_ref(socket)),
    })
}

pub(super) fn abstract_elsewhere(case: &Case) -> Outcome {
    let (Some(_), Some(unix)) = (case.abstract_name(), &case.unix) else { return Outcome::Clear };
    if !unix.there.is_empty() {
        return Outcome::Clear;
    }
    let Some(other) = unix.namesakes.first() else { return Outcome::Clear };
    let namespace = |inode: Option<u64>| inode.map_or("unknown".into(), |it| format!("net:[{it}]"));
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Inferred,
        subject: subject(case),
        fact: phrase![
            holders(other.holders.as_deref()),
            format!(" has that name in network namespace {}", namespace(other.net_namespace)),
            format!(", and the client is in {}", namespace(case.client.net_namespace)),
        ],
        consequence: "abstract names are seen in their own network namespace only".into(),
        fix: "let both share a network namespace, or use a path".into(),
        evidence: evidence(case, &unix.namesakes),
    })
}

pub(super) fn abstract_unbound(case: &Case) -> Outcome {
    let Some(wanted) = case.abstract_name() else { return Outcome::Clear };
    let Some(unix) = &case.unix else { return Outcome::Unknown("which Unix sockets there are") };
    if !unix.there.is_empty() || !unix.namesakes.is_empty() {
        return Outcome::Clear;
    }
    if !unix.complete {
        return Outcome::Unknown(
            "which abstract names there are in namespaces that could not be entered",
        );
    }
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Inferred,
        subject: name(wanted),
        fact: if unix.unreadable == 0 {
            "no socket has that abstract name, in any network namespace".into()
        } else {
            "no socket has that abstract name, in any network namespace that can be seen".into()
        },
        consequence: "there is no server to connect to".into(),
        fix:
            "start the server, or correct the name; every byte of it counts, zeros at its end, too"
                .into(),
        evidence: evidence(case, &[]),
    })
}

pub(super) fn peer_taken(case: &Case) -> Outcome {
    let socket = match met(case) {
        Ok(socket) => socket,
        Err(outcome) => return outcome,
    };
    if socket.kind != SocketKind::Dgram || case.errno.is_none() {
        return Outcome::Clear;
    }
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Inferred,
        subject: subject(case),
        fact: phrase![
            "the datagram socket of ",
            holders(socket.holders.as_deref()),
            " is connected to another socket"
        ],
        consequence: "only that one may send to it".into(),
        fix: "let the server not connect() the socket that it receives on".into(),
        evidence: evidence(case, std::slice::from_ref(socket)),
    })
}
