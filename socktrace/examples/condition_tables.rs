//! Prints what `--fail-on` can measure as the tables of `docs/conditions.md`, each behind a line
//! `@@ NAME`; `cargo xtask docs` puts them where they belong.

use socktrace::aggregate::condition::{Key, METRICS, Metric, Origin, Rows, Unit};

fn main() {
    println!("@@ metrics\n{}", metrics());
    println!("@@ filters\n{}", filters());
}

fn metrics() -> String {
    let head = "| Metric | Unit | What it is | Rows | Filters |\n|---|---|---|---|---|";
    let row = |metric: &Metric| {
        format!(
            "| `{}` | {} | {} | {} | {} |",
            metric.name,
            unit(metric.unit),
            cell(metric.about),
            either(metric, |from| rows(from.rows).to_owned()),
            either(metric, keys)
        )
    };
    [head.to_owned()].into_iter().chain(METRICS.iter().map(row)).collect::<Vec<_>>().join("\n")
}

fn filters() -> String {
    let head = "| Filter | Its value |\n|---|---|";
    let row = |key: &Key| format!("| `{}` | {} |", key.name(), cell(key.wants()));
    [head.to_owned()].into_iter().chain(Key::ALL.iter().map(row)).collect::<Vec<_>>().join("\n")
}

const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "count",
        Unit::Duration => "duration",
        Unit::Percent => "percent",
    }
}

const fn rows(rows: Rows) -> &'static str {
    match rows {
        Rows::AcceptsOfProcesses => "`accept` of `processes`",
        Rows::AcceptsOfListeners => "`accept` of `listeners`",
        Rows::AcceptErrors => "`accept_errors` of `processes`",
        Rows::ConnectFailures => "`connect_failures` of `processes`",
        Rows::ConnectsAbandoned => "`connects_abandoned` of `processes`",
        Rows::ConnectBlocked => "`connect_blocked` of `processes`",
        Rows::Drops => "`backlog_drops` of `listeners`",
        Rows::Stalls => "`stalls`",
        Rows::Queues => "`queue` of `listeners`, `pending_peak` of `stalls`",
        Rows::Fills => "`queue` and `backlog` of `listeners`",
        Rows::Findings => "`findings`",
        Rows::EventsLost => "`completeness`",
    }
}

/// Of each kind of rows, the first without a filter.
fn either(metric: &Metric, words: impl Fn(&Origin) -> String) -> String {
    metric.from.iter().map(words).collect::<Vec<_>>().join(" or ")
}

fn keys(from: &Origin) -> String {
    if from.keys.is_empty() {
        return "–".to_owned();
    }
    let names: Vec<String> = from.keys.iter().map(|key| format!("`{}`", key.name())).collect();
    names.join(", ")
}

/// A bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
