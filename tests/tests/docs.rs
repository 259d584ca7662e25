//! The docs say what is: command lines that the program takes, flags that it has, programs that it
//! attaches, keys that it prints, links that lead somewhere.
//!
//! Needs `SOCKTRACE_BIN`, but neither root nor eBPF: command lines are given `--help`, which is
//! reached only if everything before it is accepted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use socktrace_tests::harness::run::run;

const COMMANDS: [&str; 8] =
    ["record", "report", "watch", "listeners", "diagnose", "check", "explain", "demo"];

/// A document: its path below the workspace, and its text.
struct Document {
    path: PathBuf,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| path.to_owned())
}

/// Every document at the root, in `docs` and in `docs/journal`.
fn documents() -> Result<Vec<Document>> {
    let mut found = Vec::new();
    for dir in ["", "docs", "docs/journal"] {
        for entry in std::fs::read_dir(root().join(dir)).with_context(|| dir.to_owned())? {
            let name = entry?.file_name();
            let path = Path::new(dir).join(name);
            if path.extension().is_some_and(|ending| ending == "md") {
                let text = read(path.to_str().context("a document's name")?)?;
                found.push(Document { path, text });
            }
        }
    }
    ensure!(found.len() > 10, "only {} documents were found", found.len());
    Ok(found)
}

/// No problem, or all of them, each on its line.
fn none(problems: &[String]) -> Result<()> {
    ensure!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    Ok(())
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The text with every run of white space as one blank.
fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

// --- command lines -----------------------------------------------------------------------------

/// Lines that a reader would type: those with a prompt in `console` blocks, all in `sh` blocks.
fn typed_lines(text: &str) -> Vec<&str> {
    let mut kind = None;
    let mut lines = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("```"), kind) {
            (Some(_), Some(_)) => kind = None,
            (Some(info), None) => kind = Some(info),
            (None, Some("console")) => {
                lines.extend(line.strip_prefix("# ").or_else(|| line.strip_prefix("$ ")));
            }
            (None, Some("sh")) if !line.is_empty() && !line.starts_with('#') => lines.push(line),
            _ => {}
        }
    }
    lines
}

/// The words of a line up to a comment, a pipe or a redirection. No word has a blank in its quotes.
fn words(line: &str) -> Vec<&str> {
    let ends = |word: &&str| matches!(*word, "|" | ">" | "2>" | "&&" | ";" | "&" | "#");
    line.split_whitespace().take_while(|word| !ends(word)).map(|it| it.trim_matches('\'')).collect()
}

/// What socktrace gets of a typed line, if it is called there.
fn arguments<'a>(words: &[&'a str]) -> Option<Vec<&'a str>> {
    match words {
        ["sudo", rest @ ..] => arguments(rest),
        ["socktrace", rest @ ..] => Some(rest.to_vec()),
        ["cargo", "run", rest @ ..] => {
            let split = rest.iter().position(|word| *word == "--")?;
            Some(rest[split + 1..].to_vec())
        }
        _ => None,
    }
}

#[test]
fn every_command_line_in_the_docs_is_one_that_socktrace_takes() -> Result<()> {
    let (mut problems, mut tried) = (Vec::new(), 0);
    for document in documents()? {
        for line in typed_lines(&document.text) {
            let Some(arguments) = arguments(&words(line)) else { continue };
            let own = arguments.iter().take_while(|word| **word != "--").copied();
            let finished = run(&own.chain(["--help"]).collect::<Vec<_>>())?;
            tried += 1;
            if finished.code() != Some(0) {
                let path = document.path.display();
                problems.push(format!("{path}: `{line}`: {}", finished.told()));
            }
        }
    }
    ensure!(tried >= 10, "only {tried} command lines were found: are the blocks marked sh?");
    none(&problems)
}

#[test]
fn every_xtask_in_the_docs_has_its_file() -> Result<()> {
    let mut problems = Vec::new();
    for document in documents()? {
        for line in typed_lines(&document.text) {
            if let ["cargo", "xtask", command, ..] = words(line).as_slice() {
                let file = format!("xtask/src/{}.rs", command.replace('-', "_"));
                if !root().join(&file).is_file() {
                    problems.push(format!("{}: `{line}`: no {file}", document.path.display()));
                }
            }
        }
    }
    none(&problems)
}

/// The flags that a help text lists, short and long.
fn flags(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim).filter(|line| line.starts_with('-'));
    let words =
        lines.flat_map(|line| line.split("  ").next().unwrap_or_default().split([',', ' ']));
    words.filter(|word| word.starts_with('-') && *word != "-").map(str::to_owned).collect()
}

fn all_flags() -> Result<BTreeSet<String>> {
    let mut known = flags(&run(&["--help"])?.out());
    for command in COMMANDS {
        let found = flags(&run(&[command, "--help"])?.out());
        ensure!(found.len() >= 2, "{command} --help lists no flag: {found:?}");
        known.extend(found);
    }
    Ok(known)
}

#[test]
fn every_flag_is_described_and_every_described_flag_exists() -> Result<()> {
    let text = read("docs/cli.md")?;
    let known = all_flags()?;
    let rows = text.lines().filter(|line| line.starts_with("| `-"));
    let described: BTreeSet<String> = rows
        .flat_map(|row| quoted(row.split('|').nth(1).unwrap_or_default()))
        .map(str::to_owned)
        .collect();
    let missing = known.difference(&described).map(|flag| format!("docs/cli.md has no `{flag}`"));
    let extra = described.difference(&known).map(|flag| format!("no command has `{flag}`"));
    none(&missing.chain(extra).collect::<Vec<_>>())
}

#[test]
fn every_exit_code_has_its_row() -> Result<()> {
    let text = read("docs/cli.md")?;
    let source = read("socktrace/src/cli/failure.rs")?;
    let codes = source.lines().filter_map(|line| line.split_once(": u8 = ")?.1.strip_suffix(';'));
    let codes: Vec<&str> = codes.collect();
    ensure!(codes.len() >= 5, "failure.rs no longer names its codes: {codes:?}");
    let missing = codes.iter().filter(|code| !text.contains(&format!("\n| {code} |")));
    none(&missing.map(|code| format!("docs/cli.md has no row for {code}")).collect::<Vec<_>>())
}

// --- links -------------------------------------------------------------------------------------

/// Targets of Markdown links outside code blocks.
fn links(text: &str) -> Vec<&str> {
    let outside = text.split("```").step_by(2);
    outside
        .flat_map(|part| part.split("](").skip(1))
        .filter_map(|rest| rest.split(')').next())
        .collect()
}

/// How forges name a heading in a link.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let slug = |line: &str| {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let title = line.trim_start_matches('#').trim().to_lowercase();
        title.chars().filter(kept).collect::<String>().replace(' ', "-")
    };
    headings.map(slug).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() -> Result<()> {
    let mut problems = Vec::new();
    for document in documents()? {
        for link in links(&document.text).into_iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => root().join(&document.path),
                _ => root().join(&document.path).with_file_name("").join(path),
            };
            let good = match anchor {
                "" => target.exists(),
                _ => std::fs::read_to_string(&target)
                    .is_ok_and(|text| anchors(&text).contains(anchor)),
            };
            if !good {
                problems.push(format!("{}: {link} leads nowhere", document.path.display()));
            }
        }
    }
    none(&problems)
}

// --- tables in the source ----------------------------------------------------------------------

/// Source code without its tests, its comments and its attributes.
fn code(path: &str) -> Result<String> {
    let text = read(path)?;
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let is_code = |line: &&str| !["//", "#["].iter().any(|it| line.trim_start().starts_with(it));
    let kept = code.lines().filter(is_code);
    Ok(kept.collect::<Vec<_>>().join("\n"))
}

/// Every string literal, a line that is continued by a backslash as one.
fn literals(code: &str) -> Vec<String> {
    quoted(&code.replace('"', "`"))
        .into_iter()
        .map(|text| joined(&text.replace('\\', " ")))
        .collect()
}

#[test]
fn every_signal_has_its_section_and_its_file() -> Result<()> {
    let text = read("docs/probes.md")?;
    let stems = literals(&code("socktrace-common/src/signal.rs")?);
    let tiers = ["fentry", "kprobe", "tracepoint"];
    let signals: Vec<&String> =
        stems.iter().filter(|stem| !tiers.contains(&stem.as_str())).collect();
    ensure!(signals.len() >= 5, "{stems:?}");
    let mut problems = Vec::new();
    for signal in signals {
        let file = format!("socktrace-ebpf/src/probes/{signal}.rs");
        if !text.contains(&format!("\n## {signal}\n")) || !root().join(file).is_file() {
            problems
                .push(format!("{signal}: no section in docs/probes.md, or no probes/{signal}.rs"));
        }
    }
    none(&problems)
}

#[test]
fn every_kind_of_line_of_a_session_has_its_row() -> Result<()> {
    let text = read("docs/session-format.md")?;
    let code = code("socktrace/src/session/format.rs")?;
    let (_, kinds) = code.split_once("const KINDS").context("the kinds of lines")?;
    let kinds = literals(kinds.split(';').nth(1).unwrap_or_default());
    ensure!(kinds.len() >= 15, "{kinds:?}");
    let missing = kinds.iter().filter(|kind| !text.contains(&format!("\n| `{kind}` |")));
    none(&missing.cloned().collect::<Vec<_>>())
}

#[test]
fn every_key_and_value_of_the_json_is_documented() -> Result<()> {
    let text = read("docs/json.md")?;
    let quoted: BTreeSet<&str> = text.split("\n```").step_by(2).flat_map(quoted).collect();
    let sources = [
        "socktrace/src/render/json.rs",
        "socktrace/src/render/findings.rs",
        "socktrace/src/render/stalls.rs",
        "socktrace/src/render/other.rs",
        "socktrace/src/render/explain.rs",
        "socktrace/src/render/checkup.rs",
        "socktrace/src/render/listing/json.rs",
        "socktrace/src/render/diff/json.rs",
        "socktrace/src/aggregate/diff/mod.rs",
        "socktrace/src/aggregate/snapshot.rs",
    ];
    let mut problems = Vec::new();
    for source in sources {
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        for word in literals(&code(source)?) {
            let word = word.trim();
            // The aggregator takes "discarded" off, and the pipeline hands no stall on that is "still" as it was.
            let known = quoted.contains(word) || ["discarded", "still"].contains(&word);
            if !word.is_empty() && word.chars().all(is_word) && !known {
                problems.push(format!("docs/json.md has no `{word}` ({source})"));
            }
        }
    }
    none(&problems)
}

#[test]
fn every_tested_kernel_has_its_row_with_its_tiers() -> Result<()> {
    let text = read("docs/kernels.md")?;
    let table: toml::Table = toml::from_str(&read("tests/kernels.toml")?)?;
    let kernels = table["kernel"].as_array().context("kernels")?;
    let mut problems = Vec::new();
    for kernel in kernels {
        let name = kernel["name"].as_str().context("name")?;
        let tiers = kernel["tiers"].as_array().context("tiers")?;
        let tiers: Vec<&str> = tiers.iter().filter_map(toml::Value::as_str).collect();
        let row = text.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let ending = format!("| {} |", tiers.join(", "));
        if row.is_none_or(|row| !row.ends_with(&ending)) {
            problems.push(format!("docs/kernels.md has no row `{name}` that ends with {ending}"));
        }
    }
    none(&problems)
}

#[test]
fn demos_are_told_in_the_words_of_the_program() -> Result<()> {
    let stories = literals(&code("socktrace/src/demo/mod.rs")?);
    let text = read("README.md")?;
    let told: Vec<&str> =
        text.split("# socktrace demo ").skip(1).filter_map(|part| part.lines().nth(1)).collect();
    ensure!(told.len() >= 2, "the README shows no demo");
    let wrong = told.iter().filter(|line| !stories.iter().any(|story| story == *line));
    none(&wrong.map(|line| format!("README.md: no demo says: {line}")).collect::<Vec<_>>())
}
