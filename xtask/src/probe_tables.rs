//! The tables of `docs/probes.md`, from the probe plan: printed by an example of the library, which
//! alone can read the plan.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::{docs::Parts, process};

/// Every table, by the name of its place.
pub(crate) fn render(root: &Path) -> Result<Parts> {
    let mut command = process::cargo();
    command.args(["run", "--quiet", "--package", "socktrace", "--example", "probe_tables"]);
    let printed = process::capture(command.current_dir(root))?;
    parse(&printed)
}

/// Parts behind lines `@@ NAME`.
fn parse(printed: &str) -> Result<Parts> {
    let parts = printed.split("@@ ").skip(1);
    parts
        .map(|part| {
            let (name, table) = part.split_once('\n').context("a table has no lines")?;
            Ok((name.to_owned(), table.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_goes_by_its_name() -> Result<()> {
        let parts = parse("@@ a\n| x |\n@@ b\n| y |\n")?;
        let own = |text: &str| text.to_owned();
        assert_eq!(parts, [(own("a"), own("| x |\n")), (own("b"), own("| y |\n"))]);
        Ok(())
    }
}
