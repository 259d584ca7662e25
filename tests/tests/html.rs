//! The HTML report as a reader sees it, in headless Chromium: something is seen, nothing is asked for,
//! nothing goes wrong, and no page is wider than its window.
//!
//! Needs chromium, but neither root nor eBPF: the pages are those of the example `html_sample`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::json;
use socktrace_tests::harness::browser::{Browser, View, shoot};
use socktrace_tests::harness::page::{EACH, ONCE, Shown, is_readable};
use socktrace_tests::harness::picture::look;
use socktrace_tests::harness::process::Running;
use tempfile::TempDir;

/// Pages in a directory of their own.
struct Pages(TempDir);

impl Pages {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn write(&self, name: &str, html: &str) -> Result<PathBuf> {
        let path = self.0.path().join(name);
        std::fs::write(&path, html)?;
        Ok(path)
    }
}

/// What the example prints.
fn sample(which: &[&str]) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--package", "socktrace", "--example", "html_sample", "--"]);
    command.args(which).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let finished = Running::start(&mut command)?.finish()?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    Ok(finished.out())
}

#[test]
fn the_report_is_seen_narrow_and_wide_by_light_and_in_the_dark() -> Result<()> {
    let (pages, mut browser) = (Pages::new()?, Browser::start()?);
    // An empty session has words only.
    let least = [
        ("busy", Shown { colours: 200, ink: 0.10, sights: EACH }),
        ("empty", Shown { colours: 30, ink: 0.02, sights: EACH }),
    ];
    for (which, shown) in least {
        let page = pages.write("page.html", &sample(&[which])?)?;
        is_readable(&mut browser, &page, which, shown)?;
    }
    Ok(())
}

#[test]
fn tables_sort_with_the_script_and_are_all_there_without_it() -> Result<()> {
    let (pages, mut browser) = (Pages::new()?, Browser::start()?);
    let page = pages.write("page.html", &sample(&[])?)?;
    let rows = "document.querySelectorAll('tbody tr').length";
    let buttons = "document.querySelectorAll('th button').length";
    let ask = format!("[{rows}, {buttons}]");
    let without = browser.shoot(&page, View { scripts: false, ask: &ask, ..View::wide(1400) })?;
    let with = browser.shoot(&page, View { ask: &ask, ..View::wide(1400) })?;
    ensure!(without.answer[0] == with.answer[0], "{} {}", without.answer, with.answer);
    ensure!(without.answer[0].as_u64() > Some(30), "{}", without.answer);
    ensure!(without.answer[1] == json!(0) && with.answer[1].as_u64() > Some(50), "{}", with.answer);

    let click = "(() => {
        const cells = () => [...document.querySelectorAll('#processes tbody tr')].map((row) => row.cells[0].textContent);
        const button = document.querySelector('#processes th button');
        button.click(); const down = cells();
        button.click(); return [down, cells()];
    })()";
    let sorted = browser.shoot(&page, View { ask: click, ..View::wide(1400) })?;
    let pids = ["1812", "1813", "1814", "1815", "2290", "2291", "7741", "9001"];
    let down: Vec<&str> = pids.iter().rev().copied().chain(["–"]).collect();
    let up: Vec<&str> = pids.into_iter().chain(["–"]).collect();
    ensure!(sorted.answer == json!([down, up]), "{}", sorted.answer);
    Ok(())
}

#[test]
fn the_page_runs_no_script_but_its_own() -> Result<()> {
    let pages = Pages::new()?;
    let html = sample(&["empty"])?;
    let injected = html.replace("</footer>", "</footer><script>document.title = 'seen'</script>");
    ensure!(injected != html, "the page has no footer");
    let page = pages.write("page.html", &injected)?;
    let ask = View { ask: "document.title", ..View::wide(1400) };
    let shot = Browser::start()?.shoot(&page, ask)?;
    ensure!(shot.answer != json!("seen"), "the policy let a strange script run");
    ensure!(shot.console_errors.len() == 1, "{:?}", shot.console_errors);
    Ok(())
}

#[test]
fn what_a_page_must_not_do_is_noticed() -> Result<()> {
    let pages = Pages::new()?;
    let bad = "<!DOCTYPE html><meta charset=utf-8><p style='width:3000px'>wide</p>\
        <img src='http://127.0.0.1:9/picture.png'><script>console.error('oh'); throw 'no';</script>";
    let shot = shoot(&pages.write("bad.html", bad)?, 400)?;
    ensure!(shot.overflow >= 2600, "{}", shot.overflow);
    ensure!(shot.requests == ["http://127.0.0.1:9/picture.png"], "{:?}", shot.requests);
    for word in ["oh", "Uncaught", "ERR_"] {
        let is_told = shot.console_errors.iter().any(|error| error.contains(word));
        ensure!(is_told, "{word}: {:?}", shot.console_errors);
    }
    let hidden = "<!DOCTYPE html><meta charset=utf-8><p style='font-size:5px'>tiny</p>\
        <p style='overflow:hidden;width:40px;white-space:nowrap'>these words are cut off</p>";
    let page = pages.write("hidden.html", hidden)?;
    let told = is_readable(
        &mut Browser::start()?,
        &page,
        "hidden",
        Shown { colours: 0, ink: 0.0, sights: ONCE },
    );
    let told = told.expect_err("nobody can read it").to_string();
    for word in ["5 pixels: tiny", "cut off: these words"] {
        ensure!(told.contains(word), "{word}: {told}");
    }
    let blank = look(&shoot(&pages.write("blank.html", "<!DOCTYPE html>")?, 400)?.png)?;
    ensure!(blank.colours == 1 && blank.ink.abs() < 1e-9, "{blank:?}");
    Ok(())
}
