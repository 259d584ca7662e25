//! Prints the probe plan as the tables of `docs/probes.md`, each behind a line `@@ NAME`;
//! `cargo xtask docs` puts them where they belong.

use std::collections::BTreeMap;

use socktrace::probe::{FOLLOW, Kind, Only, PLAN, Program, Slot, TierPlan, Without};

fn main() {
    for (signal, tiers) in &PLAN {
        for tier in tiers {
            println!("@@ probes-{}-{}\n{}", signal.name(), tier.tier.name(), tier_table(tier));
        }
    }
    println!("@@ probes-shared\n{}", shared_table());
}

fn tier_table(tier: &TierPlan) -> String {
    let mut lines = vec![
        "| Program | Kind | Hook | If it cannot attach | Alone sees |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    for slot in tier.slots {
        let rows = slot.any_of.iter().enumerate();
        lines.extend(rows.map(|(number, program)| row(slot, number, program)));
    }
    if !tier.loses.is_empty() {
        lines.push(String::new());
        lines.push("This tier loses, on every kernel:".to_owned());
        lines.push(String::new());
        lines.extend(tier.loses.iter().map(|lost| format!("- {lost}")));
    }
    lines.join("\n")
}

fn row(slot: &Slot, number: usize, program: &Program) -> String {
    let last = number + 1 == slot.any_of.len();
    let without = match slot.without {
        _ if !last => "the next row".to_owned(),
        Without::Refuse => "no tier".to_owned(),
        Without::Lose(what) => format!("lost: {what}"),
        Without::LoseWhereThere(what) => format!("lost, where the kernel has it: {what}"),
    };
    let only = match slot.only {
        Only::Everywhere => "",
        Only::NotPreempted => "; only where nobody is preempted",
        Only::Preempted => "; only where threads are preempted",
        Only::TracepointsPreempted => "; only where tracepoints are preempted",
    };
    format!("{} {without}{only} | {} |", hook(program), slot.alone.unwrap_or("–"))
}

fn hook(program: &Program) -> String {
    let targets: Vec<String> = program.targets.iter().map(|it| format!("`{it}`")).collect();
    format!("| `{}` | {} | {} |", program.name, kind(program.kind), targets.join(", "))
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Fentry => "fentry",
        Kind::Fexit => "fexit",
        Kind::Kprobe => "kprobe",
        Kind::Kretprobe => "kretprobe",
        Kind::Tracepoint => "tracepoint",
        Kind::RawTracepoint => "raw tracepoint",
    }
}

/// Programs that serve several signals, and those that mark descendants.
fn shared_table() -> String {
    let mut uses: BTreeMap<&str, (Program, Vec<&str>)> = BTreeMap::new();
    for (signal, tiers) in &PLAN {
        for program in tiers.iter().flat_map(|tier| tier.slots).flat_map(|slot| slot.any_of) {
            let (_, signals) = uses.entry(program.name).or_insert((*program, Vec::new()));
            if !signals.contains(&signal.name()) {
                signals.push(signal.name());
            }
        }
    }
    let mut lines =
        vec!["| Program | Kind | Hook | Signals |".to_owned(), "|---|---|---|---|".to_owned()];
    let shared = uses.values().filter(|(_, signals)| signals.len() > 1);
    lines.extend(
        shared.map(|(program, signals)| format!("{} {} |", hook(program), signals.join(", "))),
    );
    lines.extend(FOLLOW.iter().map(|program| format!("{} with CMD |", hook(program))));
    lines.join("\n")
}
