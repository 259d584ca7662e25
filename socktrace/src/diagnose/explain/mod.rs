//! What an errno, an incident or a rule means: what the kernel does, what the program sees, how to tell
//! causes apart.
//!
//! Owns the topics of `socktrace explain`. Causes are not written down here: they are the rules of the
//! table, by errno or by name; what an errno tells in short is in `errno`.

mod errnos;
mod incidents;

use nix::errno::Errno;

use super::{
    errno::{Cause, cause},
    process,
    rule::{Described, Rule},
    rules,
};
use crate::event::{errno_name, parse_errno};

/// What the text is about: those of `docs/kernels.md`.
pub const KERNELS: &str = "5.10 to 7.2";

/// One thing that the kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// For whom: `Unix connect`, `TCP connect`, `accept`, `listen`.
    pub of: &'static str,
    /// Function and file.
    pub at: &'static str,
    /// The condition, and what follows: a sentence or more.
    pub when: &'static str,
}

/// A command, and what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// As it is typed.
    pub line: String,
    /// What it tells, as a clause.
    pub shows: &'static str,
}

/// What a table says of a topic.
struct Entry {
    /// `EACCES`, `listen-overflow`.
    name: &'static str,
    /// Other names of it.
    also: &'static [&'static str],
    /// What it is, as a clause.
    about: &'static str,
    places: &'static [Place],
    /// What the program sees: sentences.
    sees: &'static str,
    /// What differs between TCP and Unix: sentences; empty where nothing does.
    differs: &'static str,
    /// Rules beyond those of the errno.
    rules: &'static [&'static str],
    /// Commands beyond those of its kind, and what each shows.
    commands: &'static [(&'static str, &'static str)],
}

/// What kind of topic it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An errno of `connect()` or `accept()`.
    Errno,
    /// Something that happens to connections.
    Incident,
    /// A rule of the table.
    Rule,
}

impl Kind {
    /// As JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Errno => "errno",
            Self::Incident => "incident",
            Self::Rule => "rule",
        }
    }
}

/// A topic, in a list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// What it is, as a clause.
    pub about: &'static str,
}

/// Everything that is to be said of a topic.
pub struct Explanation {
    /// Which.
    pub topic: Topic,
    /// The number of an errno.
    pub number: Option<u32>,
    /// Other names of it.
    pub also: &'static [&'static str],
    /// What it tells by itself: for whom, and the cause.
    pub short: Vec<(&'static str, Cause)>,
    /// What the kernel does.
    pub places: Vec<Place>,
    /// What the program sees.
    pub sees: &'static str,
    /// What differs between TCP and Unix.
    pub differs: &'static str,
    /// The rules that tell its causes, in the order in which they are asked.
    pub causes: Vec<Described>,
    /// The errnos that a rule explains.
    pub errnos: &'static [Errno],
    /// What to run next.
    pub commands: Vec<Command>,
}

/// Every topic: errnos, incidents, rules.
pub fn topics() -> impl Iterator<Item = Topic> {
    let of = |kind| move |it: &'static Entry| Topic { name: it.name, kind, about: it.about };
    let rule = |it: Described| Topic { name: it.name, kind: Kind::Rule, about: it.about };
    let errnos = errnos::table().map(of(Kind::Errno));
    let incidents = incidents::table().map(of(Kind::Incident));
    // An incident that goes by the same name says more than its rule.
    let is_own = |rule: &Described| by_name(incidents::table(), rule.name).is_none();
    errnos.chain(incidents).chain(every_rule().filter(is_own).map(rule))
}

/// Every rule, those of reports first.
fn every_rule() -> impl Iterator<Item = Described> {
    rules::all().chain(process::RULES.iter().map(Rule::describe))
}

/// Explains a topic by any of its names, in any case, with `-` or `_`, or an errno by its number.
pub fn explain(name: &str) -> Option<Explanation> {
    let name = name.trim().to_ascii_lowercase().replace('_', "-");
    if let Some(number) = parse_errno(&name) {
        let known = errno_name(number);
        return by_name(errnos::table(), &known.to_ascii_lowercase()).map(errno);
    }
    let of_rule = || every_rule().find(|rule| rule.name == name).map(rule);
    let of_incident = || by_name(incidents::table(), &name).map(incident);
    by_name(errnos::table(), &name).map(errno).or_else(of_incident).or_else(of_rule)
}

fn by_name(mut table: impl Iterator<Item = &'static Entry>, name: &str) -> Option<&'static Entry> {
    let is = |known: &str| known.replace('_', "-").eq_ignore_ascii_case(name);
    table.find(|it| is(it.name) || it.also.iter().any(|also| is(also)))
}

fn errno(entry: &'static Entry) -> Explanation {
    let number = parse_errno(entry.name);
    let known = number.and_then(|number| i32::try_from(number).ok()).map(Errno::from_raw);
    let is_of = |of: &str| {
        entry.places.iter().any(|place| place.of == of || place.of.starts_with("connect"))
    };
    let told = |family: &'static str, of: &'static str| {
        number.filter(|_| is_of(of)).and_then(|number| cause(family, number)).map(|it| (of, it))
    };
    let applies = |rule: &Described| known.is_some_and(|errno| rule.errnos.contains(&errno));
    let short = [told("unix", "Unix connect"), told("inet", "TCP connect")];
    let accepts = entry.places.iter().all(|place| place.of == "accept");
    let mut commands = Vec::new();
    if !accepts {
        commands.push(own("socktrace diagnose TARGET", "what a connect to it would meet now"));
    }
    commands.push(Command {
        line: format!("socktrace record -e {} -d 30s", entry.name),
        shows: "who gets it, from whom, and which rule explains it",
    });
    Explanation {
        number,
        short: short.into_iter().flatten().collect(),
        causes: every_rule().filter(applies).chain(named(entry.rules)).collect(),
        ..open(entry, Kind::Errno, commands)
    }
}

fn incident(entry: &'static Entry) -> Explanation {
    let commands =
        vec![own("socktrace record -d 30s", "whether it happens now, to whom, how often")];
    Explanation { causes: named(entry.rules).collect(), ..open(entry, Kind::Incident, commands) }
}

fn rule(rule: Described) -> Explanation {
    if process::RULES.iter().any(|it| it.name == rule.name) {
        return rule_of_process(rule);
    }
    let accepts = rule.name.starts_with("accept-") || rule.name.starts_with("host-");
    let target = own("socktrace diagnose TARGET", "whether it is so now");
    let errnos: Vec<String> = rule.errnos.iter().map(|errno| format!("{errno:?}")).collect();
    let recorded = match errnos.as_slice() {
        [] => own("socktrace record -d 30s", "the listeners of which it is so"),
        errnos => Command {
            line: format!("socktrace record -e {} -d 30s", errnos.join(",")),
            shows: "failures with these errnos, and what explains each",
        },
    };
    let explained = errnos.iter().map(|errno| Command {
        line: format!("socktrace explain {errno}"),
        shows: "the other causes of this errno",
    });
    let of = if accepts { "accept" } else { "connect" };
    Explanation {
        topic: Topic { name: rule.name, kind: Kind::Rule, about: rule.about },
        number: None,
        also: &[],
        short: Vec::new(),
        places: vec![Place { of, at: rule.source, when: "" }],
        sees: "",
        differs: "",
        causes: Vec::new(),
        errnos: rule.errnos,
        commands: (!accepts)
            .then_some(target)
            .into_iter()
            .chain([recorded])
            .chain(explained)
            .collect(),
    }
}

/// One that only a checkup of a process asks.
fn rule_of_process(rule: Described) -> Explanation {
    Explanation {
        topic: Topic { name: rule.name, kind: Kind::Rule, about: rule.about },
        number: None,
        also: &[],
        short: Vec::new(),
        places: vec![Place { of: rule.step.name(), at: rule.source, when: "" }],
        sees: "",
        differs: "",
        causes: Vec::new(),
        errnos: rule.errnos,
        commands: vec![own("socktrace diagnose PID", "whether it is so of a process now")],
    }
}

/// What is the same for everything that stands in a table of topics.
fn open(entry: &'static Entry, kind: Kind, mut commands: Vec<Command>) -> Explanation {
    commands.extend(entry.commands.iter().map(|(line, shows)| own(line, shows)));
    Explanation {
        topic: Topic { name: entry.name, kind, about: entry.about },
        number: None,
        also: entry.also,
        short: Vec::new(),
        places: entry.places.to_vec(),
        sees: entry.sees,
        differs: entry.differs,
        causes: Vec::new(),
        errnos: &[],
        commands,
    }
}

fn own(line: &str, shows: &'static str) -> Command {
    Command { line: line.to_owned(), shows }
}

/// Rules by name, in the order of the table.
fn named(names: &'static [&'static str]) -> impl Iterator<Item = Described> {
    every_rule().filter(|rule| names.contains(&rule.name))
}

/// The topics whose names are most like this one, the nearest first; a few.
pub fn nearest(name: &str) -> Vec<&'static str> {
    const SHOWN: usize = 5;
    let wanted: String = name.to_ascii_lowercase().replace('_', "-").chars().take(64).collect();
    let rank = |topic: Topic| {
        let known = topic.name.to_ascii_lowercase();
        let part = wanted.len() > 2 && (known.contains(&wanted) || wanted.contains(&known));
        (if part { 0 } else { distance(&known, &wanted) }, topic.name)
    };
    let mut ranked: Vec<(usize, &str)> = topics().map(rank).collect();
    ranked.sort_unstable();
    let near = wanted.len() / 2;
    ranked.into_iter().filter(|(far, _)| *far <= near).take(SHOWN).map(|(_, name)| name).collect()
}

/// How many letters have to be changed, put in or taken away (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b = b.as_bytes();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (done, letter) in a.bytes().enumerate() {
        let mut next = vec![done + 1];
        let pairs = row.iter().zip(row.iter().skip(1)).zip(b);
        for ((diagonal, above), other) in pairs {
            let left = next.last().copied().unwrap_or(usize::MAX - 1);
            let same = diagonal + usize::from(letter != *other);
            next.push(same.min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_topic_is_found_by_every_name_and_names_nothing_twice() {
        let mut names = BTreeSet::new();
        for topic in topics() {
            let found = explain(topic.name).unwrap_or_else(|| unreachable!("{}", topic.name));
            assert_eq!(found.topic, topic);
            assert!(names.insert(topic.name), "{} twice", topic.name);
            for also in found.also {
                let found = explain(also).unwrap_or_else(|| unreachable!("{also}"));
                assert_eq!(found.topic, topic, "{also}");
            }
        }
    }

    #[test]
    fn an_errno_goes_by_number_and_in_any_case() {
        for name in ["EACCES", "eacces", "13", " Eacces "] {
            assert_eq!(
                explain(name).map(|it| (it.topic.name, it.number)),
                Some(("EACCES", Some(13)))
            );
        }
        assert!(explain("EXDEV").is_none() && explain("").is_none() && explain("0").is_none());
    }

    #[test]
    fn what_the_table_names_exists_and_every_errno_of_a_rule_is_a_topic() {
        for entry in errnos::table().chain(incidents::table()) {
            for name in entry.rules {
                assert!(every_rule().any(|it| it.name == *name), "{}: {name}", entry.name);
            }
        }
        for rule in every_rule() {
            for errno in rule.errnos {
                let found =
                    explain(&format!("{errno:?}")).unwrap_or_else(|| unreachable!("{errno}"));
                assert!(found.causes.iter().any(|it| it.name == rule.name), "{errno}");
            }
        }
    }

    #[test]
    fn every_reason_of_a_report_is_explained() {
        let reasons = [
            "accept_queue_full",
            "syn_queue_full",
            "syncookie_sent",
            "listener_closed",
            "discarded",
            "other",
            "unknown",
            "unix_backlog_full",
            "accept",
            "accept_error",
            "connect_failure",
            "connect_blocked",
            "backlog_drop",
            "listen",
            "stall",
            "unexplained",
            "errno",
        ];
        for reason in reasons {
            assert!(explain(reason).is_some(), "{reason}");
        }
    }

    #[test]
    fn texts_are_sentences_and_clauses() {
        for entry in errnos::table().chain(incidents::table()) {
            assert!(!entry.about.ends_with('.'), "{}", entry.name);
            assert!(entry.sees.ends_with('.'), "{}", entry.name);
            assert!(entry.differs.is_empty() || entry.differs.ends_with('.'), "{}", entry.name);
            assert!(!entry.places.is_empty(), "{}", entry.name);
            for place in entry.places {
                assert!(place.when.ends_with('.') && place.at.contains("()"), "{}", place.at);
            }
        }
    }

    #[test]
    fn a_slip_of_the_pen_finds_its_topic() {
        assert_eq!(nearest("EACESS").first(), Some(&"EACCES"));
        assert_eq!(nearest("listen-overflw").first(), Some(&"listen-overflow"));
        assert!(nearest("abstract").iter().all(|name| name.contains("abstract")));
        assert!(nearest("").is_empty() && nearest("xyzxyzxyzxyz").is_empty());
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
