//! Prints the rules and the topics as the tables of `docs/diagnosis.md`, each behind a line `@@ NAME`;
//! `cargo xtask docs` puts them where they belong.

use socktrace::diagnose::{
    Described, LISTENER_RULES, PROCESS_RULES, RULES, Rule,
    explain::{Kind, Topic, topics},
};

fn main() {
    println!("@@ rules\n{}", rules(RULES.iter().map(Rule::describe)));
    println!("@@ listener-rules\n{}", listener_rules(LISTENER_RULES.iter().map(Rule::describe)));
    println!("@@ process-rules\n{}", process_rules(PROCESS_RULES.iter().map(Rule::describe)));
    println!("@@ topics\n{}", incidents());
}

fn rules(rules: impl Iterator<Item = Described>) -> String {
    let head = "| Rule | What it finds | Errnos | Where the kernel decides it |\n|---|---|---|---|";
    let rows = rules.map(row);
    [head.to_owned()].into_iter().chain(rows).collect::<Vec<_>>().join("\n")
}

fn listener_rules(rules: impl Iterator<Item = Described>) -> String {
    let head = "| Rule | What it finds | Source |\n|---|---|---|";
    let row = |rule: Described| {
        format!("| `{}` | {} | {} |", rule.name, cell(rule.about), cell(rule.source))
    };
    [head.to_owned()].into_iter().chain(rules.map(row)).collect::<Vec<_>>().join("\n")
}

fn process_rules(rules: impl Iterator<Item = Described>) -> String {
    let head = "| Rule | What it finds | Step | Source |\n|---|---|---|---|";
    let row = |rule: Described| {
        let (about, source) = (cell(rule.about), cell(rule.source));
        format!("| `{}` | {about} | `{}` | {source} |", rule.name, rule.step.name())
    };
    [head.to_owned()].into_iter().chain(rules.map(row)).collect::<Vec<_>>().join("\n")
}

fn row(rule: Described) -> String {
    let errnos: Vec<String> = rule.errnos.iter().map(|errno| format!("`{errno:?}`")).collect();
    let errnos = if errnos.is_empty() { "–".to_owned() } else { errnos.join(", ") };
    format!("| `{}` | {} | {errnos} | {} |", rule.name, cell(rule.about), cell(rule.source))
}

fn incidents() -> String {
    let head = "| Topic | What it is |\n|---|---|";
    let rows = topics().filter(|topic| topic.kind == Kind::Incident);
    let row = |topic: Topic| format!("| `{}` | {} |", topic.name, cell(topic.about));
    [head.to_owned()].into_iter().chain(rows.map(row)).collect::<Vec<_>>().join("\n")
}

/// A bar would end the cell, and two underscores begin bold type.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace("__", "\\_\\_")
}
