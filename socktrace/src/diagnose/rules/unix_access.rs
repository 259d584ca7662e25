//! Who may pass on a Unix path: modes, ACLs, links, and what is left when all of them let the client
//! pass.

use super::{
    unix_path::{certainty, changed, describe, shown},
    words::{few, group, user},
};
use crate::{
    diagnose::{
        access::{
            Access, CAP_DAC_OVERRIDE, Class, Client, Denial, Fix, ModeClass, Need, Unknown, Who,
            Why, denials, first_denial, smallest_fix, who_may,
        },
        case::{Case, Path, Security},
        rule::{Cause, Outcome, subject},
    },
    event::{Certainty, Phrase, Severity, name, phrase, word},
    host::path_walk::{AclFact, Kind, Step},
};

/// The denials of a rule's own kind, as one finding: the first one leads.
fn denied(case: &Case, mine: impl Fn(&Path, &Denial) -> bool) -> Outcome {
    let Some(path) = &case.path else { return Outcome::Unknown("the way to the path") };
    let Some(rights) = &case.client.rights else {
        return Outcome::Unknown("the client's credentials");
    };
    let all = denials(&path.walk, rights, path.protected_symlinks);
    let found: Vec<&Denial> = all
        .iter()
        .filter(|it| it.errno() == case.errno.map_or(it.errno(), |errno| errno as i32))
        .filter(|it| mine(path, it))
        .collect();
    let Some(first) = found.first() else {
        return match first_denial(&path.walk, rights, path.protected_symlinks) {
            Access::Unknown { reason, .. } => Outcome::Unknown(missing(reason)),
            Access::Allowed | Access::Denied(_) => Outcome::Clear,
        };
    };
    let Some(step) = path.walk.steps.get(first.step) else { return Outcome::Clear };
    // A later denial was not met by the kernel: it stands in the way all the same.
    let first_of_all = first_denial(&path.walk, rights, path.protected_symlinks);
    let met = first_of_all == Access::Denied(**first)
        && (first.step == 0 || !case.security.as_ref().is_some_and(denies_directories));
    let fixes = found.iter().filter_map(|it| {
        let fix = smallest_fix(&path.walk, it, rights)?;
        Some(lasting(case, path, it, &fix).unwrap_or_else(|| fix_words(case, &fix)))
    });
    let mut fix = Phrase::default();
    for (index, one) in fixes.enumerate() {
        fix = phrase![fix, if index == 0 { "" } else { ", and " }, one];
    }
    let fix = if fix.is_empty() { "run the client as another user".into() } else { fix };
    Outcome::found(Cause {
        severity: Severity::Error,
        certainty: if met { certainty(path) } else { Certainty::Inferred },
        subject: subject(case),
        fact: fact(case, step, first),
        consequence: phrase![
            who_words(case, step, first.need),
            "; the client is ",
            user(case, rights.fsuid),
            capability_words(rights, step),
        ],
        fix,
        evidence: evidence(case, path, &found),
    })
}

/// Whether a security module may have denied a directory on the way, before what modes deny: one that labels files, or a BPF
/// program. The others look at whole paths, and at sockets.
fn denies_directories(security: &Security) -> bool {
    let has = |name: &[u8]| security.modules.as_ref().map(|all| all.iter().any(|it| it == name));
    let by_selinux = match security.selinux_enforces {
        Some(enforces) => enforces,
        None => has(b"selinux") == Some(true),
    };
    let by_program = security.has_programs != Some(false) && has(b"bpf") != Some(false);
    by_selinux || has(b"smack") == Some(true) || by_program
}

/// What a client that looks privileged lacks (`capable_wrt_inode_uidgid()`).
fn capability_words(rights: &Client, step: &Step) -> &'static str {
    let has = rights.cap_effective.map(|mask| mask & 1 << CAP_DAC_OVERRIDE != 0);
    let knows = rights.id_maps.as_ref().map(|maps| maps.know(step.uid, step.gid));
    match (has, knows) {
        (Some(false), _) if rights.fsuid == 0 => " without CAP_DAC_OVERRIDE",
        (Some(true), Some(false)) => {
            ", and its capabilities do not count: its user namespace does not know the owner or the group"
        }
        _ => "",
    }
}

/// Where systemd makes what denies, a `chmod` would last until it is made again.
fn lasting(case: &Case, path: &Path, denial: &Denial, fix: &Fix) -> Option<Phrase> {
    let step = path.walk.steps.get(denial.step)?;
    let units = case.units.as_ref()?;
    match step.kind {
        Kind::Socket => lasting_socket(case, &units.socket.as_ref()?.0.name, fix),
        Kind::Directory => {
            let (_, service) = units.runtime_directories.iter().find(|it| it.0 == step.path)?;
            lasting_directory(case, service, step, denial, fix)
        }
        _ => None,
    }
}

fn lasting_socket(case: &Case, unit: &[u8], fix: &Fix) -> Option<Phrase> {
    let rights = case.client.rights.as_ref()?;
    let settings = match fix {
        Fix::JoinGroup { .. } => return None,
        Fix::AddMode { .. } | Fix::AddModeAndJoin { .. } => {
            phrase!["SocketMode=0660 and a SocketGroup= that ", user(case, rights.fsuid), " is in"]
        }
        _ => phrase!["SocketGroup= a group that ", user(case, rights.fsuid), " is in"],
    };
    Some(phrase!["set ", settings, " in ", name(unit), ", and restart it"])
}

/// The mode that it has, with the search bit that is missing.
fn lasting_directory(
    case: &Case,
    service: &[u8],
    step: &Step,
    denial: &Denial,
    fix: &Fix,
) -> Option<Phrase> {
    let others_decide = step.acl == AclFact::Absent
        && matches!(denial.why, Why::Class { class: Class::Other, masked: false });
    let (bit, member) = match fix {
        Fix::AddMode { class: ModeClass::Owner, .. } => (0o100, None),
        Fix::AddMode { class: ModeClass::Group, .. } => (0o010, None),
        Fix::AddMode { class: ModeClass::Other, .. } => (0o001, None),
        // An entry of an ACL would last no longer than a mode.
        Fix::SetAcl { .. } if others_decide => (0o001, None),
        Fix::AddModeAndJoin { gid, .. } => (0o010, Some(*gid)),
        _ => return None,
    };
    let join =
        member.map(|gid| phrase![", and make the client's user a member of ", group(case, gid)]);
    let mode = step.mode & 0o7777 | bit;
    Some(phrase![
        format!("set RuntimeDirectoryMode={mode:04o} in "),
        name(service),
        if bit == 0o001 { " (it lets every user through)" } else { "" },
        ", and restart it",
        join
    ])
}

fn evidence(case: &Case, path: &Path, denials: &[&Denial]) -> Vec<Phrase> {
    let denied = denials.iter().filter_map(|it| path.walk.steps.get(it.step));
    let mut lines: Vec<Phrase> = denied.map(|step| describe(case, step)).collect();
    if let Some(rights) = &case.client.rights {
        let groups = rights.groups.as_ref().map_or_else(|| "unknown".to_owned(), |gids| few(gids));
        let capabilities = rights.cap_effective.map(|mask| format!("{mask:016x}"));
        lines.push(
            format!(
                "client: fsuid {}, fsgid {}, groups {groups}, CapEff {}",
                rights.fsuid,
                rights.fsgid,
                capabilities.as_deref().unwrap_or("unknown"),
            )
            .into(),
        );
    }
    lines.extend(changed(path));
    lines
}

pub(super) const fn missing(reason: Unknown) -> &'static str {
    match reason {
        Unknown::Walk => "the way to the path",
        Unknown::Groups => "the client's supplementary groups",
        Unknown::Capabilities => "the client's capabilities",
        Unknown::IdMaps => "which ids the client's user namespace knows",
        Unknown::Acl => "the ACL of a component",
        Unknown::ReadOnly => "whether the filesystem is read-only",
        Unknown::Unmapped => "whether the id-mapped mount has an id for the owner",
        Unknown::ProtectedSymlinks => "fs.protected_symlinks",
    }
}

fn fact(case: &Case, step: &Step, denial: &Denial) -> Phrase {
    let what = match denial.need {
        Need::Search => "search permission on the directory ",
        Need::Write => "write permission on ",
        Need::FollowLink => "to follow the symbolic link ",
    };
    let whose = match denial.why {
        Why::Class { class: Class::Owner, .. } => "its owner's bits decide".into(),
        Why::Class { class: Class::Group, .. } => {
            phrase!["the bits of its group ", group(case, step.gid), " decide"]
        }
        Why::Class { class: Class::Other, .. } => "the bits for others decide".into(),
        Why::Class { class: Class::AclUser(uid), masked } => {
            phrase!["the ACL entry of ", user(case, uid), mask(masked), " decides"]
        }
        Why::Class { class: Class::AclGroup(gid), masked } => {
            phrase!["the ACL entry of group ", group(case, gid), mask(masked), " decides"]
        }
        Why::StickyLink => {
            "it lies in a sticky directory that everybody may write to, belongs to neither the \
             client nor the directory's owner, and fs.protected_symlinks is on"
                .into()
        }
        Why::Immutable => "it is immutable (chattr +i)".into(),
        Why::ReadOnly => "its filesystem is read-only".into(),
    };
    phrase![
        "connect() needs ",
        what,
        shown(case, step),
        format!(" (mode {:04o}, owner ", step.mode & 0o7777),
        user(case, step.uid),
        "), and ",
        whose,
    ]
}

const fn mask(masked: bool) -> &'static str {
    if masked { ", limited by the ACL's mask," } else { "" }
}

/// Who may pass, without capabilities.
fn who_words(case: &Case, step: &Step, need: Need) -> Phrase {
    let Some(who) = who_may(step, need).filter(|_| need != Need::FollowLink) else {
        return "the client may not pass".into();
    };
    if who.only_privileged() {
        return "only a process with CAP_DAC_OVERRIDE may pass".into();
    }
    let Who { owner, group: owning, users, groups, others } = who;
    let mut may: Vec<Phrase> = Vec::new();
    may.extend(owner.1.then(|| user(case, owner.0)));
    may.extend(users.iter().filter(|it| it.1).map(|it| user(case, it.0)));
    may.extend(owning.1.then(|| phrase!["members of ", group(case, owning.0)]));
    let named = groups.iter().filter(|it| it.1);
    may.extend(named.map(|it| phrase!["members of ", group(case, it.0)]));
    may.extend(others.then(|| "everybody else".into()));
    let mut words = Phrase::default();
    for (index, one) in may.iter().enumerate() {
        let between = match index {
            0 => "",
            _ if index + 1 == may.len() => " and ",
            _ => ", ",
        };
        words = phrase![words, between, one.clone()];
    }
    phrase![words, " may pass"]
}

/// A path as a command of this host takes it. One of another tree, which has no name here, is told to be
/// so: the same path of this host is another file.
fn on_host(case: &Case, path: &[u8]) -> Phrase {
    let Some(known) = &case.path else { return word(path) };
    let nameless = known.bases.root.is_none() && path.starts_with(b"/");
    let whose = if nameless { " (in the client's own tree)" } else { "" };
    phrase![word(&known.bases.on_host(path)), whose]
}

fn fix_words(case: &Case, fix: &Fix) -> Phrase {
    let letter = |need: &Need| if *need == Need::Write { "w" } else { "x" };
    let word = |path: &[u8]| on_host(case, path);
    match fix {
        Fix::JoinGroup { gid } => {
            phrase![
                "make the client's user a member of ",
                group(case, *gid),
                ", and start it again"
            ]
        }
        Fix::AddMode { path, class, need } => {
            let class = match class {
                ModeClass::Owner => "u",
                ModeClass::Group => "g",
                ModeClass::Other => "o",
            };
            phrase![format!("chmod {class}+{} ", letter(need)), word(path)]
        }
        Fix::AddModeAndJoin { path, gid, need } => phrase![
            format!("chmod g+{} ", letter(need)),
            word(path),
            ", and make the client's user a member of ",
            group(case, *gid),
        ],
        Fix::SetAcl { path, uid, need } => {
            phrase![format!("setfacl -m u:{uid}:{} ", letter(need)), word(path)]
        }
        Fix::RaiseMask { path, need } => {
            phrase![format!("setfacl -m m::r{} ", letter(need)), word(path)]
        }
        Fix::NameTarget { target, .. } => {
            phrase!["let the client connect to the link's target, ", name(target)]
        }
        Fix::ClearImmutable { path } => phrase!["chattr -i ", word(path)],
    }
}

fn by_acl(denial: &Denial) -> bool {
    matches!(
        denial.why,
        Why::Class { class: Class::AclUser(_) | Class::AclGroup(_), .. }
            | Why::Class { masked: true, .. }
    )
}

fn by_mode(denial: &Denial) -> bool {
    matches!(denial.why, Why::Class { .. }) && !by_acl(denial)
}

pub(super) fn parent_no_search(case: &Case) -> Outcome {
    denied(case, |_, it| it.need == Need::Search && by_mode(it))
}

pub(super) fn socket_mode(case: &Case) -> Outcome {
    denied(case, |_, it| it.need == Need::Write && by_mode(it))
}

pub(super) fn acl(case: &Case) -> Outcome {
    denied(case, |_, it| by_acl(it))
}

pub(super) fn protected_symlink(case: &Case) -> Outcome {
    denied(case, |_, it| it.why == Why::StickyLink)
}

pub(super) fn immutable(case: &Case) -> Outcome {
    denied(case, |_, it| it.why == Why::Immutable)
}
