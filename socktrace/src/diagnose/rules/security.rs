//! What nothing but a security module would deny.

use nix::errno::Errno;

use super::unix_access::missing;
use crate::{
    diagnose::{
        access::{Access, first_denial},
        case::{Case, Question},
        rule::{Cause, Outcome, subject},
    },
    event::{Certainty, Phrase, Severity, name, phrase},
    host::{
        AppArmorMode, RouteFact,
        path_walk::{End, Kind},
    },
};

/// Modules that have a say in a connect.
const KNOWN: [&str; 6] = ["selinux", "apparmor", "smack", "tomoyo", "landlock", "bpf"];

/// Only where everything else was looked at and would let the client pass.
pub(super) fn security_module(case: &Case) -> Outcome {
    let Some(errno) = case.errno else { return Outcome::Clear };
    let lets_pass = match &case.question {
        Question::Unix(_) if case.unix_path().is_some() => path_lets_pass(case),
        Question::Unix(_) => abstract_name_lets_pass(case),
        Question::Tcp(_) => tcp_lets_pass(case, errno),
        Question::Accept => return Outcome::Clear,
    };
    let fact = match lets_pass {
        Ok(fact) => fact,
        Err(outcome) => return outcome,
    };
    let enforcing = match modules_that_may_deny(case) {
        Some(some) if !some.is_empty() => some,
        _ => return Outcome::Unknown("the security modules that are active"),
    };
    let label = case.security.as_ref().and_then(|security| security.label.as_deref());
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: Certainty::Inferred,
        subject: subject(case),
        fact,
        consequence: phrase![
            "a security module denied it (or, ",
            match case.question {
                Question::Tcp(_) => {
                    "a BPF program of the client's cgroup, a rule of `ip rule` that prohibits it, or an IPsec policy \
                     that blocks it"
                }
                _ => "with EPERM, a BPF program of the client's cgroup",
            },
            "); active ones that can: ",
            enforcing.join(", "),
            label.map(|label| phrase![" (the client's label is ", name(label), ")"]),
        ],
        fix: "look at the audit log (ausearch -m avc -ts recent, or journalctl -k); Landlock and BPF \
              modules leave no line there"
            .into(),
        evidence: match &case.path {
            Some(path) => super::unix_path::way(case, path),
            None => Vec::new(),
        },
    })
}

/// What is so where the path lets the client pass.
fn path_lets_pass(case: &Case) -> Result<Phrase, Outcome> {
    let path = case.path.as_ref().ok_or(Outcome::Unknown("the way to the path"))?;
    let rights = case.client.rights.as_ref();
    let rights = rights.ok_or(Outcome::Unknown("the client's credentials"))?;
    let reached = matches!(&path.walk.end, End::Found)
        && path.walk.steps.last().is_some_and(|step| step.kind == Kind::Socket);
    match first_denial(&path.walk, rights, path.protected_symlinks) {
        Access::Allowed if reached => {}
        Access::Unknown { reason, .. } => return Err(Outcome::Unknown(missing(reason))),
        _ => return Err(Outcome::Clear),
    }
    no_other_peer(case)?;
    if !path.settled {
        let missing = "whether path or client changed between the failure and the look";
        return Err(Outcome::Unknown(missing));
    }
    Ok("owner, mode and ACL of every component let the client pass, and nothing of that has changed since".into())
}

fn abstract_name_lets_pass(case: &Case) -> Result<Phrase, Outcome> {
    no_other_peer(case)?;
    Ok("an abstract name has no owner or mode that could deny it".into())
}

/// A datagram socket that is connected elsewhere answers EPERM, too.
fn no_other_peer(case: &Case) -> Result<(), Outcome> {
    if case.errno == Some(Errno::EPERM) && super::unix_socket::is_datagram(case) != Some(false) {
        let missing = "whether the socket there is a datagram socket that has a peer";
        return Err(Outcome::Unknown(missing));
    }
    Ok(())
}

/// `ip_route_connect()` gives EACCES for a route of type prohibit.
fn tcp_lets_pass(case: &Case, errno: Errno) -> Result<Phrase, Outcome> {
    let route = case.tcp.as_ref().and_then(|tcp| tcp.route.as_ref());
    match (errno, route) {
        (Errno::EACCES, Some(RouteFact::Rejected)) => Err(Outcome::Clear),
        (Errno::EACCES, None | Some(RouteFact::Unknown | RouteFact::Several)) => {
            Err(Outcome::Unknown("whether a route prohibits it"))
        }
        (Errno::EACCES, _) => Ok("no route to the target prohibits it".into()),
        _ => Ok("neither TCP nor a route gives that".into()),
    }
}

/// `None` where that is not known.
fn modules_that_may_deny(case: &Case) -> Option<Vec<&'static str>> {
    let active = case.security.as_ref()?.modules.as_deref()?;
    let can_deny = |known: &&str| {
        active.iter().any(|module| module == known.as_bytes()) && !lets_all_pass(case, known)
    };
    Some(KNOWN.into_iter().filter(can_deny).collect())
}

/// Whether an active module is known to deny this client nothing.
fn lets_all_pass(case: &Case, module: &str) -> bool {
    let Some(security) = &case.security else { return false };
    match module {
        "selinux" => security.selinux_enforces == Some(false),
        // Of a failure, it was asked at the start: there may be some since.
        "bpf" => security.has_programs == Some(false) && case.time.is_none(),
        "apparmor" => {
            matches!(security.apparmor, Some(AppArmorMode::Unconfined | AppArmorMode::Complain))
        }
        _ => false,
    }
}
