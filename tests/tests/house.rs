//! The layout of `docs/house.md`, held: which module may use which, and what may appear where.
//!
//! Reads sources as text, without their comments and unit tests. A new module or a new arrow is a
//! change of [`ARROWS`] and of the table in `docs/house.md`, made on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Modules of the library, and the modules that each may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("escape", &[]),
    ("event", &["escape"]),
    ("kernel", &[]),
    ("host", &[]),
    ("diagnose", &["event", "host"]),
    ("demo", &[]),
    ("transport", &["event"]),
    ("probe", &["event", "host", "kernel", "transport"]),
    ("listener", &["event", "host"]),
    ("stall", &["event", "host", "listener", "transport"]),
    ("evidence", &["diagnose", "event", "host", "listener", "stall", "transport"]),
    ("live", &["event", "evidence", "host", "listener", "probe", "stall", "transport"]),
    ("aggregate", &["diagnose", "escape", "event", "host"]),
    ("pipeline", &["aggregate", "event"]),
    ("redact", &["aggregate", "event"]),
    ("session", &["aggregate", "event"]),
    ("render", &["aggregate", "diagnose", "escape", "event", "host", "listener", "transport"]),
    (
        "cli",
        &[
            "aggregate",
            "demo",
            "diagnose",
            "event",
            "evidence",
            "host",
            "kernel",
            "listener",
            "live",
            "pipeline",
            "probe",
            "redact",
            "render",
            "session",
            "stall",
            "transport",
        ],
    ),
];

/// What may appear only in these places (prefixes of paths below `socktrace/src`).
const PLACES: &[(&str, &[&str], &[&str])] = &[
    ("uses aya", &["aya"], &["probe/", "transport/", "live/"]),
    ("touches files", &["std::fs"], &["host/", "kernel/", "cli/", "demo/"]),
    ("enters namespaces or mounts", &["nix::mount", "nix::sched"], &["kernel/", "host/", "demo/"]),
    ("reads netlink", &["netlink_sys", "netlink_packet_sock_diag"], &["host/"]),
    ("talks JSON", &["serde_json"], &["render/", "session/", "cli/"]),
    ("runs commands", &["tokio::process", "std::process::Command"], &["cli/"]),
];

/// Macros that print, and where they may; `probe/attach.rs` prints for `SOCKTRACE_DEBUG` only.
const PRINTING: [&str; 4] = ["println!", "print!", "eprintln!", "eprint!"];
const MAY_PRINT: [&str; 2] = ["main.rs", "cli/"];

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 5] = ["utils", "helpers", "common", "misc", "manager"];

/// One source file: its path below the directory that was asked for, and its text.
struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust source below `dir`.
fn sources(dir: &str) -> Result<Vec<Source>> {
    let base = root().join(dir);
    let (mut open, mut found) = (vec![base.clone()], Vec::new());
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path)?;
                let path = path.strip_prefix(&base)?.to_str().context("a name")?.to_owned();
                found.push(Source { path, text });
            }
        }
    }
    ensure!(!found.is_empty(), "no source below {dir}");
    Ok(found)
}

fn none(problems: &[String], what_to_do: &str) -> Result<()> {
    let count = problems.len();
    ensure!(problems.is_empty(), "{count} problems:\n{}\n{what_to_do}", problems.join("\n"));
    Ok(())
}

impl Source {
    /// The text without comments and without unit tests, which are at the end.
    fn code(&self) -> String {
        let code = self.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let kept = code.lines().map(|line| match line.trim_start() {
            comment if comment.starts_with("//") => "",
            _ => line.split(" // ").next().unwrap_or(line),
        });
        kept.collect::<Vec<_>>().join("\n")
    }

    /// The module that the file belongs to; `None` for the crate's own roots.
    fn module(&self) -> Option<&str> {
        let first = self.path.split('/').next()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (!matches!(name, "lib" | "main")).then_some(name)
    }

    /// Whether `super` is the crate itself here.
    fn is_module_root(&self) -> bool {
        !self.path.contains('/')
            || self.path.matches('/').count() == 1 && self.path.ends_with("/mod.rs")
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

/// Every path that the code names: `use` trees taken apart, and what stands in the text.
fn paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("use ") {
        inline_paths(before, &mut found);
        let starts_a_statement = before.trim_end_matches(' ').ends_with(['\n', ')', '{', '}', ';'])
            || before.trim_end().ends_with("pub")
            || before.is_empty();
        let Some((tree, after)) = after.split_once(';').filter(|_| starts_a_statement) else {
            rest = after;
            continue;
        };
        expand("", tree, &mut found);
        rest = after;
    }
    inline_paths(rest, &mut found);
    found
}

/// `a::{b, c::d}` as `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, found: &mut BTreeSet<String>) {
    let tree = tree.trim();
    if tree.is_empty() {
        // Behind the last comma.
        return;
    }
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        let path = if path == "self" {
            prefix.trim_end_matches("::").to_owned()
        } else {
            prefix.to_owned() + path
        };
        found.insert(path);
        return;
    };
    let prefix = format!("{prefix}{}", head.trim());
    let (mut depth, mut start) = (0, 0);
    let inner = group.trim_end().strip_suffix('}').unwrap_or(group);
    for (at, character) in inner.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &inner[start..at], found);
                start = at + 1;
            }
            _ => {}
        }
    }
    expand(&prefix, &inner[start..], found);
}

fn inline_paths(code: &str, found: &mut BTreeSet<String>) {
    let words = code.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':')));
    let words = words.map(|word| word.trim_matches(':')).filter(|word| word.contains("::"));
    found.extend(words.map(str::to_owned));
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Modules of the library that a file uses beside its own.
fn used(source: &Source) -> BTreeSet<String> {
    let root = if source.is_module_root() { "super::" } else { "crate::" };
    let paths = paths(&source.code());
    let of_crate = paths
        .iter()
        .filter_map(|path| path.strip_prefix("crate::").or_else(|| path.strip_prefix(root)));
    let modules = of_crate.filter_map(|path| path.split("::").next());
    modules.filter(|module| Some(*module) != source.module()).map(str::to_owned).collect()
}

#[test]
fn modules_use_only_what_their_row_allows() -> Result<()> {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut problems = Vec::new();
    for source in sources("socktrace/src")? {
        let Some(module) = source.module() else { continue };
        let Some(row) = allowed.get(module) else {
            problems.push(format!("{}: the module {module} has no row", source.path));
            continue;
        };
        let strangers = used(&source).into_iter().filter(|used| !row.contains(&used.as_str()));
        problems.extend(strangers.map(|used| format!("{}: {module} uses {used}", source.path)));
    }
    none(
        &problems,
        "Move what is used to a module that both may use, or pass it as an argument. If the arrow is \
         right, add it to ARROWS here and to the table in docs/house.md.",
    )
}

#[test]
fn every_allowed_arrow_is_used() -> Result<()> {
    let mut unused: BTreeSet<(String, String)> = BTreeSet::new();
    for (module, row) in ARROWS {
        unused.extend(row.iter().map(|used| ((*module).to_owned(), (*used).to_owned())));
    }
    for source in sources("socktrace/src")? {
        let module = source.module().unwrap_or_default().to_owned();
        for used in used(&source) {
            unused.remove(&(module.clone(), used));
        }
    }
    let unused: Vec<String> =
        unused.iter().map(|(a, b)| format!("{a} no longer uses {b}")).collect();
    none(&unused, "Take the arrow out of ARROWS here and out of docs/house.md.")
}

#[test]
fn arrows_point_one_way() -> Result<()> {
    let may = |from: &str, to: &str| {
        ARROWS.iter().any(|(module, row)| *module == from && row.contains(&to))
    };
    let reaches = |from: &str, to: &str| {
        let (mut open, mut seen) = (vec![from], BTreeSet::new());
        while let Some(module) = open.pop() {
            for (next, _) in ARROWS.iter().filter(|(next, _)| may(module, next)) {
                if seen.insert(*next) {
                    open.push(next);
                }
            }
        }
        seen.contains(to)
    };
    let circles = ARROWS.iter().filter(|(module, _)| reaches(module, module));
    let circles: Vec<String> =
        circles.map(|(module, _)| format!("{module} uses itself by others")).collect();
    none(&circles, "Turn one arrow round: a type belongs to the module that others depend on.")
}

#[test]
fn the_table_in_the_docs_is_this_one() -> Result<()> {
    let text = std::fs::read_to_string(root().join("docs/house.md"))?;
    let table = text.split("## Arrows").nth(1).context("docs/house.md has no section Arrows")?;
    let mut problems = Vec::new();
    for (module, row) in ARROWS {
        let quoted: Vec<String> = row.iter().map(|used| format!("`{used}`")).collect();
        let cell = if quoted.is_empty() { "–".to_owned() } else { quoted.join(", ") };
        if !table.contains(&format!("\n| `{module}` | {cell} |\n")) {
            problems.push(format!("| `{module}` | {cell} |"));
        }
    }
    none(&problems, "These rows are not in docs/house.md, Arrows.")
}

#[test]
fn each_kind_of_access_has_its_place() -> Result<()> {
    let mut problems = Vec::new();
    for source in sources("socktrace/src")? {
        let found = paths(&source.code());
        for (what, prefixes, places) in PLACES {
            let path =
                found.iter().find(|path| prefixes.iter().any(|prefix| is_below(path, prefix)));
            if let Some(path) = path.filter(|_| !source.is_in(places)) {
                problems.push(format!("{} {what} ({path}); only {places:?} may", source.path));
            }
        }
        let names_files = source.code().contains("\"/proc") || source.code().contains("\"/sys");
        // Redaction knows their names, to leave them as they are; demos set what holds in their own namespaces, and
        // ask whether the host lets an incident happen.
        if names_files && !source.is_in(&["host/", "kernel/", "cli/", "redact/", "demo/"]) {
            problems.push(format!("{} names a file of /proc or /sys", source.path));
        }
    }
    none(&problems, "Let a module that may do it, and take what it found as an argument.")
}

#[test]
fn only_the_command_line_prints() -> Result<()> {
    let mut problems = Vec::new();
    for source in sources("socktrace/src")?.iter().filter(|source| !source.is_in(&MAY_PRINT)) {
        let code = source.code();
        let printed = PRINTING.iter().filter(|name| code.contains(**name));
        problems.extend(printed.map(|name| format!("{}: {name}", source.path)));
    }
    none(&problems, "Return the text, or an error that carries it.")
}

#[test]
fn every_file_says_at_its_top_what_it_owns() -> Result<()> {
    let mut problems = Vec::new();
    let crates =
        ["socktrace/src", "socktrace-common/src", "socktrace-ebpf/src", "tests", "xtask/src"];
    for dir in crates {
        let silent = sources(dir)?.into_iter().filter(|source| !source.text.starts_with("//! "));
        problems.extend(silent.map(|source| format!("{dir}/{}", source.path)));
    }
    none(&problems, "Open each with `//!`: what it owns and what it does not.")
}

#[test]
fn no_module_has_an_empty_name() -> Result<()> {
    let mut problems = Vec::new();
    for dir in ["socktrace/src", "socktrace-common/src", "socktrace-ebpf/src", "tests", "xtask/src"]
    {
        for source in sources(dir)? {
            let mut parts = source.path.trim_end_matches(".rs").split('/');
            if parts.any(|part| EMPTY_NAMES.contains(&part)) {
                problems.push(format!("{dir}/{}", source.path));
            }
        }
    }
    none(&problems, "Name it after what it does.")
}

#[test]
fn use_trees_are_taken_apart() {
    let code = "use a::{b, c::{self, d as e},};\npub use crate::x;\nlet y = crate::z::f(1); // because a::comment";
    let found = paths(code);
    for path in ["a::b", "a::c", "a::c::d", "crate::x", "crate::z::f"] {
        assert!(found.contains(path), "{path} in {found:?}");
    }
    assert!(!found.contains("a::"), "{found:?}");
    assert!(is_below("std::fs::read", "std::fs") && !is_below("std::fsx", "std::fs"));
}
