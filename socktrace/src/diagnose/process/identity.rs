//! The step `process`: who it is, where it lives, what its threads do, what restricts it.

use super::{
    Facts, Process,
    table::note_findings,
    words::{count, process},
};
use crate::{
    diagnose::{
        Check,
        rule::{Cause, Step},
    },
    event::{Certainty, Phrase, Severity, name, phrase},
    host::{FutexWaiters, Sandbox, SeccompMode},
};

/// What keeps every thread of a process from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Its cgroup is frozen.
    Frozen,
    /// A signal stopped it.
    Stopped,
    /// A debugger stopped it.
    Traced,
    /// It has ended, and its parent did not collect it yet.
    Zombie,
}

/// Who a process is and what it does. `None` where that could not be read.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Its pid and name.
    pub process: Process,
    /// Its real uid.
    pub uid: Option<u32>,
    /// What that user is called.
    pub user: Option<Vec<u8>>,
    /// The systemd unit that it belongs to.
    pub unit: Option<Vec<u8>>,
    /// Its container: runtime and id.
    pub container: Option<String>,
    /// Its namespaces that are not socktrace's own: kind and inode.
    pub foreign_namespaces: Vec<(&'static str, u64)>,
    /// Kinds of namespace that it would not show.
    pub hidden_namespaces: Vec<&'static str>,
    /// What its threads do, in words.
    pub activity: Option<String>,
    /// What keeps all of them from running.
    pub held: Option<Held>,
    /// Threads that wait for a futex.
    pub futex: Option<FutexWaiters>,
    /// What a security module calls it.
    pub label: Option<Vec<u8>>,
    /// Restrictions that it took on.
    pub sandbox: Option<Sandbox>,
    /// Whether it ended while it was looked at.
    pub ended: bool,
}

pub(super) fn check(all: &Facts) -> Check {
    let facts = &all.identity;
    let mut check = Check::new("process", "the process and what it does");
    check.facts.push(who(facts));
    check.facts.extend(place(facts));
    if let Some(activity) = facts.activity.as_deref().filter(|_| facts.held != Some(Held::Zombie)) {
        check.facts.push(format!("now it is {activity}").into());
    }
    check.facts.extend(futex(facts));
    if let Some(label) = &facts.label {
        check.facts.push(phrase!["its security label is ", name(label)]);
    }
    check.facts.extend(sandbox(facts));
    note_findings(&mut check, all, Step::Process);
    note_unseen(&mut check, facts);
    check
}

fn who(facts: &Identity) -> Phrase {
    let uid = facts.uid.map(|uid| match &facts.user {
        Some(user) => phrase![" of ", name(user), format!(" (uid {uid})")],
        None => format!(" of uid {uid}").into(),
    });
    let unit = facts.unit.as_ref().map(|unit| phrase![", unit ", name(unit)]);
    let container = facts.container.as_ref().map(|known| format!(", container {known}").into());
    phrase![process(&facts.process), uid, unit, container]
}

fn place(facts: &Identity) -> Option<Phrase> {
    if facts.foreign_namespaces.is_empty() {
        let all = facts.hidden_namespaces.is_empty();
        return all.then(|| "it lives in socktrace's own namespaces".into());
    }
    let kinds = facts.foreign_namespaces.iter().map(|(kind, inode)| format!("{kind}:[{inode}]"));
    let kinds: Vec<String> = kinds.collect();
    Some(format!("it lives in other namespaces: {}", kinds.join(", ")).into())
}

fn futex(facts: &Identity) -> Option<Phrase> {
    let futex = facts.futex.filter(|futex| futex.waiting != 0 && futex.threads > 1)?;
    let (waiting, threads) = (futex.waiting, futex.threads);
    Some(format!("{waiting} of its {threads} threads wait for a futex (lock, condition)").into())
}

fn sandbox(facts: &Identity) -> Option<Phrase> {
    let sandbox = facts.sandbox?;
    let seccomp = match sandbox.seccomp? {
        SeccompMode::Disabled => return None,
        SeccompMode::Strict => "strict seccomp".to_owned(),
        SeccompMode::Filter => match sandbox.seccomp_filters {
            Some(filters) => count(filters, "seccomp filter"),
            None => "seccomp filters".to_owned(),
        },
    };
    Some(format!("{seccomp} may refuse its calls").into())
}

pub(super) fn held(all: &Facts) -> Option<Cause> {
    let facts = &all.identity;
    let (fact, fix): (&'static str, Phrase) = match facts.held? {
        Held::Frozen => {
            ("its cgroup is frozen", "thaw it (systemctl thaw, or cgroup.freeze)".into())
        }
        Held::Stopped => (
            "a signal stopped it",
            format!("let it go on: kill -CONT {}", facts.process.pid).into(),
        ),
        Held::Traced => ("a debugger stopped it", "let it go on in the debugger, or detach".into()),
        Held::Zombie => return None,
    };
    Some(Cause {
        severity: Severity::Error,
        certainty: Certainty::Measured,
        subject: process(&facts.process),
        fact: fact.into(),
        consequence: "it neither accepts, reads nor writes: all who talk to it wait".into(),
        fix,
        evidence: Vec::new(),
    })
}

pub(super) fn ended(all: &Facts) -> Option<Cause> {
    (all.identity.held == Some(Held::Zombie)).then(|| Cause {
        severity: Severity::Error,
        certainty: Certainty::Measured,
        subject: process(&all.identity.process),
        fact: "it has ended, and its parent did not collect it".into(),
        consequence: "it holds no descriptor any more".into(),
        fix: "look at its parent".into(),
        evidence: Vec::new(),
    })
}

fn note_unseen(check: &mut Check, facts: &Identity) {
    if facts.activity.is_none() && facts.held.is_none() {
        check.unseen.push("what its threads do".into());
    }
    if let Some(unknown) = facts.futex.map(|futex| futex.unknown).filter(|unknown| *unknown != 0) {
        let threads = count(unknown, "thread");
        check.unseen.push(format!("whether {threads} wait for a futex").into());
    }
    if !facts.hidden_namespaces.is_empty() {
        let kinds = facts.hidden_namespaces.join(", ");
        check.unseen.push(format!("its namespaces: {kinds}").into());
    }
    if facts.ended {
        check.unseen.push("what came later: it ended while it was looked at".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(identity: &Identity) -> Check {
        super::check(&Facts { identity: identity.clone(), ..Facts::default() })
    }

    fn someone() -> Identity {
        let process = Process { pid: 7, comm: b"web\n".to_vec() };
        Identity { process, activity: Some("on CPU".into()), ..Identity::default() }
    }

    #[test]
    fn a_process_is_named_with_user_unit_and_container() {
        let facts = Identity {
            uid: Some(33),
            user: Some(b"www".to_vec()),
            unit: Some(b"web.service".to_vec()),
            container: Some("docker abc".into()),
            ..someone()
        };
        let said = phrase![
            name(b"web\n"),
            " (pid 7)",
            " of ",
            name(b"www"),
            " (uid 33)",
            ", unit ",
            name(b"web.service"),
            ", container docker abc"
        ];
        assert_eq!(check(&facts).facts[0], said);
        assert!(!check(&facts).is_bad());
    }

    #[test]
    fn a_stopped_process_is_an_error_with_the_command_that_wakes_it() {
        let facts = Identity { held: Some(Held::Stopped), ..someone() };
        let found = check(&facts).findings;
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].severity, found[0].rule.as_ref()), (Severity::Error, "process-held"));
        assert_eq!(found[0].fix, "let it go on: kill -CONT 7".into());
    }

    #[test]
    fn what_a_process_would_not_show_is_unseen() {
        let facts = Identity {
            activity: None,
            hidden_namespaces: vec!["net", "mnt"],
            futex: Some(FutexWaiters { waiting: 0, unknown: 2, threads: 2 }),
            ..someone()
        };
        let said = check(&facts);
        assert_eq!(said.unseen.len(), 3, "{:?}", said.unseen);
        assert_eq!(said.facts.len(), 1, "nothing is said of namespaces: {:?}", said.facts);
    }
}
