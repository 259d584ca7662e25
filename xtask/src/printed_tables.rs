//! Tables that the library knows: printed by one of its examples, which alone can read them.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::{docs::Parts, process};

/// Every table that the example prints, by the name of its place.
pub(crate) fn render(root: &Path, example: &str) -> Result<Parts> {
    let mut command = process::cargo();
    command.args(["run", "--quiet", "--package", "socktrace", "--example", example]);
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
