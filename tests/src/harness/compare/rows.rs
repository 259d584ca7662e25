//! Rows of named fields: which expected ones are missing, and what comes closest to them.

use std::fmt::Write;

/// A row: field names and values, in a fixed order.
pub type Fields = Vec<(&'static str, String)>;

/// What to do with rows of processes that have nothing to do with the scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strangers {
    /// There must be none: the session was of one command.
    Forbidden,
    /// They are nobody's business: the session was of the whole host.
    Ignored,
}

/// Matches rows one to one; each expected row that is missing is told with the closest row that is
/// left, each row that nobody expected is told, too.
pub fn match_rows(what: &str, expected: &[Fields], found: &[Fields]) -> Vec<String> {
    let mut left: Vec<&Fields> = found.iter().collect();
    let mut missing = Vec::new();
    for row in expected {
        match left.iter().position(|candidate| *candidate == row) {
            Some(index) => drop(left.swap_remove(index)),
            None => missing.push(row),
        }
    }
    let absent = missing.iter().map(|row| describe_missing(what, row, &left));
    let unexpected = left.iter().map(|row| format!("{what}: nobody expected {}", line(row)));
    absent.chain(unexpected).collect()
}

fn describe_missing(what: &str, row: &Fields, left: &[&Fields]) -> String {
    let alike = |other: &Fields| row.iter().zip(other).filter(|(a, b)| a == b).count();
    match left.iter().max_by_key(|other| alike(other)) {
        None => format!("{what}: missing {}; no row is left", line(row)),
        Some(other) => format!("{what}: missing; the closest row:\n{}", side_by_side(row, other)),
    }
}

fn side_by_side(expected: &Fields, found: &Fields) -> String {
    let mut text = String::new();
    for ((name, wanted), (_, got)) in expected.iter().zip(found) {
        let line = if wanted == got {
            format!("    {name:<10} {wanted}\n")
        } else {
            format!("  ≠ {name:<10} expected {wanted}, found {got}\n")
        };
        let _infallible = text.write_str(&line);
    }
    text
}

fn line(row: &Fields) -> String {
    row.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pid: &str, errno: &str) -> Fields {
        vec![("pid", pid.to_owned()), ("errno", errno.to_owned())]
    }

    #[test]
    fn equal_rows_in_any_order_are_no_problem() {
        let expected = [row("1", "EACCES"), row("2", "ENOENT")];
        let found = [row("2", "ENOENT"), row("1", "EACCES")];
        assert!(match_rows("x", &expected, &found).is_empty());
    }

    #[test]
    fn a_missing_row_is_told_with_the_closest_one_field_by_field() {
        let found = [row("9", "EPERM"), row("1", "EPERM")];
        let problems = match_rows("x", &[row("1", "EACCES")], &found);
        assert!(problems[0].contains("    pid        1"), "{problems:?}");
        assert!(problems[0].contains("≠ errno      expected EACCES, found EPERM"), "{problems:?}");
    }

    #[test]
    fn a_row_found_twice_is_unexpected_once() {
        let twice = [row("1", "EACCES"), row("1", "EACCES")];
        let problems = match_rows("x", &[row("1", "EACCES")], &twice);
        assert_eq!(problems, ["x: nobody expected pid=1 errno=EACCES"]);
    }
}
