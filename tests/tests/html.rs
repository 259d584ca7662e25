//! The HTML report as a reader sees it, in headless Chromium: something is seen, nothing is asked for,
//! nothing goes wrong, and no page is wider than its window.
//!
//! Needs chromium, but neither root nor eBPF: the pages are those of the example `html_sample`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use socktrace_tests::harness::browser::{Browser, Shot, View, shoot};
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

/// What is wrong with a page.
fn problems(shot: &Shot) -> Vec<String> {
    let mut problems = shot.console_errors.clone();
    problems.extend(shot.requests.iter().map(|url| format!("asked for {url}")));
    if shot.overflow > 0 {
        problems.push(format!("{} pixels too wide", shot.overflow));
    }
    problems
}

#[test]
fn the_report_is_seen_narrow_and_wide_by_light_and_in_the_dark() -> Result<()> {
    let (pages, mut browser) = (Pages::new()?, Browser::start()?);
    // Colours at least, and ink at least: an empty session has words only.
    for (which, colours, ink) in [("busy", 200, 0.10), ("empty", 30, 0.02)] {
        let page = pages.write("page.html", &sample(&[which])?)?;
        for (width, dark) in [(400, false), (400, true), (1400, false), (1400, true)] {
            let shot = browser.shoot(&page, View { dark, ..View::wide(width) })?;
            let of = format!("{which}, {width} pixels, dark: {dark}");
            let problems = problems(&shot);
            ensure!(problems.is_empty(), "{of}: {problems:#?}");
            let seen = look(&shot.png).context(of.clone())?;
            ensure!(seen.width == width && seen.height > 900, "{of}: {seen:?}");
            ensure!(seen.colours >= colours && seen.ink >= ink, "{of}: nearly blank: {seen:?}");
            ensure!(seen.is_dark() == dark, "{of}: {seen:?}");
        }
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
    let blank = look(&shoot(&pages.write("blank.html", "<!DOCTYPE html>")?, 400)?.png)?;
    ensure!(blank.colours == 1 && blank.ink.abs() < 1e-9, "{blank:?}");
    Ok(())
}
