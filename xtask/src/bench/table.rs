//! Cells as a Markdown table: a row per tracer, a column per operation. Pure.

use std::fmt::Write as _;

use super::samples::{Cell, Clock, Program, Samples};

/// What a nanosecond is where it was measured.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    /// An instruction.
    Instructions,
    /// A nanosecond.
    Nanoseconds,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::Nanoseconds => "ns",
        }
    }
}

/// Both clocks' tables, and what is not in them.
pub(super) fn render(title: &str, samples: &Samples, unit: Unit) -> String {
    let mut text = format!("### {title}\n");
    for clock in [Clock::Cpu, Clock::Wall] {
        let what = match clock {
            Clock::Cpu => "CPU of the worker",
            Clock::Wall => "Time that went by (with what the tracer itself ran on that CPU)",
        };
        let cells = samples.cells(clock);
        if !cells.is_empty() {
            let _cannot_fail =
                write!(text, "\n{what}, traced to untraced:\n\n{}", table(&cells, unit));
        }
    }
    let attached = samples.attached();
    if !attached.is_empty() {
        text += "\nUntil attached (socktrace with --no-self-test), ms of that clock:\n\n| | ms |\n|---|---:|\n";
        for (subject, took) in attached {
            let _cannot_fail = writeln!(text, "| {subject} | {took:.0} |");
        }
    }
    if !samples.programs.is_empty() {
        text.push_str(&programs(&samples.programs, unit));
    }
    for (subject, why) in &samples.left_out {
        let _cannot_fail = write!(text, "\nNot measured: {subject}: {why}\n");
    }
    text
}

fn table(cells: &[Cell], unit: Unit) -> String {
    let (subjects, operations) =
        (distinct(cells, |cell| &cell.subject), distinct(cells, |cell| &cell.operation));
    let mut text = format!(
        "| |{}\n",
        operations.iter().fold(String::new(), |row, name| row + " " + name + " |")
    );
    text += "|---|";
    text += &"---:|".repeat(operations.len());
    text += "\n";
    let of = |operation: &str| {
        cells.iter().filter(move |cell| cell.operation == operation).collect::<Vec<_>>()
    };
    row(&mut text, &format!("untraced, {}", unit.name()), &operations, |name| {
        let all = of(name);
        let sum: f64 = all.iter().map(|cell| cell.untraced).sum();
        Some(format!("{:.0}", sum / all.len() as f64))
    });
    for subject in subjects {
        row(&mut text, subject, &operations, |name| {
            let cell = of(name).into_iter().find(|cell| cell.subject == subject)?;
            Some(format!("{:.3} ({:+.0})", cell.ratio, cell.added))
        });
    }
    row(&mut text, "A/A noise, at most", &operations, |name| {
        let noise = of(name).iter().map(|cell| cell.noise).max_by(f64::total_cmp)?;
        Some(format!("{:.1} %", noise * 100.0))
    });
    text
}

/// A row per tracer, operation and eBPF program, without those that run now and then.
fn programs(programs: &[Program], unit: Unit) -> String {
    let unit = unit.name();
    let mut text = format!(
        "\nBy eBPF program, while the kernel times each:\n\n\
        | tracer | operation | program | runs per operation | {unit} per run | {unit} per operation |\n\
        |---|---|---|---:|---:|---:|\n"
    );
    for program in programs.iter().filter(|program| program.runs * 10 > program.count) {
        let Program { subject, operation, name, .. } = program;
        let (runs, took) = (program.runs as f64, program.took as f64);
        let count = program.count as f64;
        let _cannot_fail = writeln!(
            text,
            "| {subject} | {operation} | {name} | {:.1} | {:.0} | {:.0} |",
            runs / count,
            took / runs,
            took / count
        );
    }
    text
}

fn row(text: &mut String, head: &str, operations: &[&str], cell: impl Fn(&str) -> Option<String>) {
    let _cannot_fail = write!(text, "| {head} |");
    for name in operations {
        let _cannot_fail = write!(text, " {} |", cell(name).unwrap_or_else(|| "–".to_owned()));
    }
    text.push('\n');
}

fn distinct<'a>(cells: &'a [Cell], of: impl Fn(&'a Cell) -> &'a String) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for name in cells.iter().map(of) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(subject: &str, operation: &str, added: f64) -> Cell {
        Cell {
            subject: subject.to_owned(),
            operation: operation.to_owned(),
            untraced: 1000.0,
            added,
            ratio: (1000.0 + added) / 1000.0,
            noise: 0.002,
        }
    }

    #[test]
    fn a_table_has_a_row_per_tracer_and_a_dash_where_nothing_was_measured() {
        let cells = [
            cell("record", "tcp", 14.0),
            cell("record", "unix", 84.0),
            cell("strace", "tcp", 9000.0),
        ];
        let expected = "\
            | | tcp | unix |\n\
            |---|---:|---:|\n\
            | untraced, ns | 1000 | 1000 |\n\
            | record | 1.014 (+14) | 1.084 (+84) |\n\
            | strace | 10.000 (+9000) | – |\n\
            | A/A noise, at most | 0.2 % | 0.2 % |\n";
        assert_eq!(table(&cells, Unit::Nanoseconds), expected);
    }
}
