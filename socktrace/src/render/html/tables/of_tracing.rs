//! What of it all was seen: where the occurrences of each signal went, tiers, skipped hooks.

use super::{Table, empty, name, number, text};
use crate::{
    aggregate::{SessionSignal, SignalStages, Snapshot},
    render::html::values::{UNKNOWN, known, own_words},
};

pub(in crate::render::html) fn signals(snapshot: &Snapshot) -> Table {
    let table = empty(
        "loss",
        "Where each signal's occurrences went",
        "seen = filtered + below threshold + sampled out + told in detail + lost. Totals count what was \
         sampled out or lost, too.",
        "No signal was traced.",
    );
    let columns = [
        name("Signal"),
        number("Seen"),
        number("Filtered"),
        number("Below threshold"),
        number("Sampled out"),
        number("Told in detail"),
        number("Lost: buffer full"),
        number("Lost: damaged"),
        number("Ends without start"),
        number("In no total: map full"),
        number("Starts not remembered"),
        number("Without a name"),
        text("Adds up"),
    ];
    table.with(columns, snapshot.completeness.signals.iter().map(stages))
}

fn stages(row: &SignalStages) -> [String; 13] {
    [
        row.signal.name().to_owned(),
        row.seen.to_string(),
        row.filtered.to_string(),
        row.below_threshold.to_string(),
        row.sampled_out.to_string(),
        row.delivered.to_string(),
        row.lost_buffer.to_string(),
        row.lost_decode.to_string(),
        row.unpaired.to_string(),
        row.full_tally.to_string(),
        row.full_pending.to_string(),
        row.full_name.to_string(),
        if row.adds_up() { "yes" } else { "no" }.to_owned(),
    ]
}

pub(in crate::render::html) fn tiers(snapshot: &Snapshot) -> Table {
    let table = empty(
        "tiers",
        "How each signal was observed",
        "fentry sees most, tracepoint least.",
        "No signal was asked for.",
    );
    let columns =
        [name("Signal"), name("Tier"), text("What it does not see"), text("Why no better one")];
    table.with(columns, snapshot.session.signals.iter().map(tier))
}

fn tier(row: &SessionSignal) -> [String; 4] {
    let refused: Vec<String> = row
        .refused
        .iter()
        .map(|(tier, why)| format!("{}: {}", tier.name(), own_words(why)))
        .collect();
    let told =
        |words: Vec<String>| if words.is_empty() { "nothing".to_owned() } else { words.join("; ") };
    let loses = row.loses.iter().map(|words| own_words(words)).collect();
    [
        row.signal.name().to_owned(),
        row.tier.map_or("not traced", |tier| tier.name()).to_owned(),
        if row.tier.is_none() { UNKNOWN.to_owned() } else { told(loses) },
        if refused.is_empty() { UNKNOWN.to_owned() } else { refused.join("; ") },
    ]
}

pub(in crate::render::html) fn skipped(snapshot: &Snapshot) -> Table {
    let table = empty(
        "skipped",
        "Runs that the kernel skipped",
        "It skips a program that would interrupt itself on a CPU, or another one of its kind; most have a twin that saw the \
         same.",
        "No program is counted.",
    );
    let programs = &snapshot.completeness.misses.programs;
    let rows = programs.iter().map(|(program, skipped)| [own_words(program), known(*skipped)]);
    table.with([name("Program"), number("Skipped")], rows)
}
