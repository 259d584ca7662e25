//! What the program `bench` printed, and what follows from it. Pure.

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// What stands before each line.
const MARK: &str = "SOCKTRACE-BENCH ";

/// A line of `bench`.
#[derive(Deserialize, Clone, Debug)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Rounds(Rounds),
    Attached { subject: String, took: u64 },
    Program(Program),
    Said { subject: String, text: String },
    LeftOut { subject: String, why: String },
}

/// The rounds of one operation, one after the other.
#[derive(Deserialize, Clone, Debug)]
struct Rounds {
    subject: Option<String>,
    operation: String,
    count: u64,
    wall: Vec<u64>,
    cpu: Vec<u64>,
}

/// An eBPF program in one round.
#[derive(Deserialize, Clone, Debug)]
pub(super) struct Program {
    pub(super) subject: String,
    pub(super) operation: String,
    /// Operations in that round.
    pub(super) count: u64,
    pub(super) name: String,
    pub(super) runs: u64,
    /// Nanoseconds, or instructions.
    pub(super) took: u64,
}

/// Which clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Clock {
    /// The worker's CPU.
    Cpu,
    /// What went by, with all else that ran on the worker's CPU.
    Wall,
}

/// One tracer and one operation, in nanoseconds (or instructions) per operation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) subject: String,
    pub(super) operation: String,
    /// Without it: the mean of before and after.
    pub(super) untraced: f64,
    /// What it adds.
    pub(super) added: f64,
    /// Traced to untraced.
    pub(super) ratio: f64,
    /// How far before and after are apart, as a part of them.
    pub(super) noise: f64,
}

/// Everything that was measured in one place.
#[derive(Debug, Default)]
pub(super) struct Samples {
    rounds: Vec<Rounds>,
    /// After how many nanoseconds tracers were attached.
    attached: Vec<(String, u64)>,
    /// Which eBPF programs ran; empty unless it was asked for.
    pub(super) programs: Vec<Program>,
    /// What tracers said in the end.
    pub(super) said: Vec<(String, String)>,
    /// Tracers that could not be measured, and why.
    pub(super) left_out: Vec<(String, String)>,
}

impl Samples {
    /// Reads the lines that are ours.
    pub(super) fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut this = Self::default();
        for line in lines {
            let Some((_, json)) = line.split_once(MARK) else { continue };
            match serde_json::from_str(json).with_context(|| format!("{json} cannot be read"))? {
                Line::Rounds(rounds) => this.rounds.push(rounds),
                Line::Attached { subject, took } => this.attached.push((subject, took)),
                Line::Program(program) => this.programs.push(program),
                Line::Said { subject, text } => this.said.push((subject, text)),
                // Of several pairs, the first tells enough.
                Line::LeftOut { subject, .. }
                    if this.left_out.iter().any(|(left_out, _)| *left_out == subject) => {}
                Line::LeftOut { subject, why } => this.left_out.push((subject, why)),
            }
        }
        Ok(this)
    }

    /// After how many milliseconds each tracer was attached, in the order in which they came; of several pairs, the medians.
    pub(super) fn attached(&self) -> Vec<(&str, f64)> {
        let mut told: Vec<(&str, f64)> = Vec::new();
        for (subject, _) in &self.attached {
            if told.iter().all(|(name, _)| name != subject) {
                let all = self.attached.iter().filter(|(name, _)| name == subject);
                let took = median(all.map(|(_, took)| *took as f64 / 1e6).collect());
                told.extend(took.map(|took| (subject.as_str(), took)));
            }
        }
        told
    }

    /// A cell per tracer and operation, in the order in which they came; of several pairs, the medians.
    pub(super) fn cells(&self, clock: Clock) -> Vec<Cell> {
        let mut keys: Vec<(&str, &str)> = Vec::new();
        for rounds in &self.rounds {
            let key = rounds.subject.as_deref().map(|subject| (subject, &*rounds.operation));
            // What failed in the end may have been gone for a while.
            let whole = |name| self.left_out.iter().all(|(left_out, _)| left_out != name);
            keys.extend(key.filter(|key| whole(key.0) && !keys.contains(key)));
        }
        let cell = |(subject, operation)| self.cell(subject, operation, clock);
        keys.into_iter().filter_map(cell).collect()
    }

    fn cell(&self, subject: &str, operation: &str, clock: Clock) -> Option<Cell> {
        let turns: Vec<_> =
            self.rounds.iter().filter(|rounds| rounds.operation == operation).collect();
        let (mut untraced, mut added, mut ratio, mut noise) =
            <(Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
        for turn in turns.windows(3) {
            let [before, during, after] = turn else { continue };
            if during.subject.as_deref() != Some(subject) {
                continue;
            }
            let (before, after) = (before.each(clock)?, after.each(clock)?);
            let (during, without) = (during.each(clock)?, f64::midpoint(before, after));
            untraced.push(without);
            added.push(during - without);
            ratio.push(during / without);
            noise.push((after - before).abs() / without);
        }
        Some(Cell {
            subject: subject.to_owned(),
            operation: operation.to_owned(),
            untraced: median(untraced)?,
            added: median(added)?,
            ratio: median(ratio)?,
            noise: median(noise)?,
        })
    }
}

impl Rounds {
    /// The median of the rounds, per operation.
    fn each(&self, clock: Clock) -> Option<f64> {
        let rounds = match clock {
            Clock::Cpu => &self.cpu,
            Clock::Wall => &self.wall,
        };
        Some(median(rounds.iter().map(|round| *round as f64).collect())? / self.count as f64)
    }
}

pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(values[middle - 1], upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(subject: &str, operation: &str, cpu: &[u64]) -> String {
        format!(
            r#"[guest] SOCKTRACE-BENCH {{"kind":"rounds","subject":{subject},"operation":"{operation}","count":10,"wall":{cpu:?},"cpu":{cpu:?}}}"#
        )
    }

    #[test]
    fn a_tracer_is_held_against_what_was_before_and_after_it() -> Result<()> {
        let lines = [
            rounds("null", "tcp", &[1000, 900, 5000]),
            rounds("null", "unix", &[1]),
            "noise".to_owned(),
            rounds("\"a\"", "tcp", &[1150]),
            rounds("null", "tcp", &[1200]),
            rounds("\"b\"", "tcp", &[2400]),
            rounds("null", "tcp", &[1200]),
        ];
        let samples = Samples::parse(lines.iter().map(String::as_str))?;
        let cells = samples.cells(Clock::Cpu);
        let find = |name| cells.iter().find(|cell| cell.subject == name).expect("a cell");
        assert_eq!(cells.len(), 2);
        assert!((find("a").untraced - 110.0).abs() < 1e-9 && (find("a").added - 5.0).abs() < 1e-9);
        assert!((find("a").noise - 20.0 / 110.0).abs() < 1e-9);
        assert!((find("b").ratio - 2.0).abs() < 1e-9 && find("b").noise == 0.0);
        Ok(())
    }

    #[test]
    fn of_several_pairs_the_median_counts() -> Result<()> {
        let mut lines = vec![rounds("null", "tcp", &[100])];
        for traced in [110, 300, 120] {
            lines.push(rounds("\"a\"", "tcp", &[traced]));
            lines.push(rounds("null", "tcp", &[100]));
        }
        let cells = Samples::parse(lines.iter().map(String::as_str))?.cells(Clock::Wall);
        assert!((cells[0].ratio - 1.2).abs() < 1e-9, "{cells:?}");
        Ok(())
    }

    #[test]
    fn how_long_attaching_took_is_told_once_per_tracer() -> Result<()> {
        let line = |subject, took| {
            format!(r#"SOCKTRACE-BENCH {{"kind":"attached","subject":"{subject}","took":{took}}}"#)
        };
        let lines = [line("b", 2_000_000), line("a", 9_000_000), line("b", 4_000_000)];
        let samples = Samples::parse(lines.iter().map(String::as_str))?;
        assert_eq!(samples.attached(), [("b", 3.0), ("a", 9.0)]);
        Ok(())
    }

    #[test]
    fn a_tracer_that_was_left_out_is_kept_with_its_reason() -> Result<()> {
        let line = r#"SOCKTRACE-BENCH {"kind":"left_out","subject":"perf","why":"no"}"#;
        let samples = Samples::parse([line])?;
        assert_eq!(samples.left_out, [("perf".to_owned(), "no".to_owned())]);
        assert!(samples.cells(Clock::Cpu).is_empty());
        Ok(())
    }

    #[test]
    fn what_a_tracer_cost_before_it_failed_is_not_told() -> Result<()> {
        let why = r#"SOCKTRACE-BENCH {"kind":"left_out","subject":"a","why":"it ended"}"#;
        let lines = [
            rounds("null", "tcp", &[9]),
            rounds("\"a\"", "tcp", &[9]),
            rounds("null", "tcp", &[9]),
        ];
        let all = lines.iter().map(String::as_str);
        assert_eq!(Samples::parse(all.clone())?.cells(Clock::Cpu).len(), 1);
        assert!(Samples::parse(all.chain([why]))?.cells(Clock::Cpu).is_empty());
        Ok(())
    }

    #[test]
    fn a_line_that_was_cut_is_an_error() {
        assert!(Samples::parse([r#"SOCKTRACE-BENCH {"kind":"rou"#]).is_err());
    }
}
