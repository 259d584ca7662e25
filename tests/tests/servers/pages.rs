//! The HTML report of real sessions in headless Chromium: of each demo, and of a busy nginx.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use socktrace_tests::harness::browser::Browser;
use socktrace_tests::harness::page::{EACH, ONCE, Shown, is_readable};
use socktrace_tests::harness::process::Running;
use socktrace_tests::harness::run::{run, socktrace};
use socktrace_tests::harness::servers::nginx::{Nginx, Sharing};
use socktrace_tests::harness::servers::wrk;

use crate::recorded::{alone, begin, end_with_session};

/// The demos that the command line offers.
fn demos() -> Result<Vec<String>> {
    let help = run(&["demo", "--help"])?.out();
    let values = help.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split_once(':'));
    let names: Vec<String> = values.map(|(name, _)| name.to_owned()).collect();
    ensure!(names.len() >= 18, "{names:?} of {help}");
    Ok(names)
}

/// Demos that a host may lack something for; when exactly is what the tests of demos hold them to.
const MAY_LACK: [&str; 4] =
    ["immutable", "protected-symlink", "throttled-server", "memory-pressure"];

const SHOWN_OF_DEMO: Shown = Shown { colours: 30, ink: 0.05, sights: ONCE };

#[test]
fn the_page_of_each_demo_can_be_read() -> Result<()> {
    let (dir, mut browser) = (tempfile::tempdir()?, Browser::start()?);
    let names = demos()?;
    // While one is read, the next is recorded: demos mostly wait.
    let (shown, pages) = sync_channel(1);
    thread::scope(|scope| {
        let dir = dir.path();
        let play = scope.spawn(move || -> Result<()> {
            for name in names {
                let page = dir.join(format!("{name}.html"));
                if demo(&name, &page)? && shown.send((name, page)).is_err() {
                    break;
                }
            }
            Ok(())
        });
        for (name, page) in pages {
            is_readable(&mut browser, &page, &name, SHOWN_OF_DEMO)?;
        }
        play.join().map_err(|_| anyhow!("the thread that plays demos panicked"))?
    })
}

/// Plays a demo and has its page written; whether the host has what it needs.
fn demo(name: &str, page: &Path) -> Result<bool> {
    let path = page.to_str().with_context(|| page.display().to_string())?;
    let finished = run(&["demo", name, "--report", path])?;
    if finished.code() == Some(3) && MAY_LACK.contains(&name) {
        let why = finished.err();
        ensure!(why.contains("this demo cannot be shown here: "), "{}", finished.told());
        return Ok(false);
    }
    ensure!(finished.code() == Some(0), "demo {name}: {}", finished.told());
    Ok(true)
}

#[test]
fn the_page_of_a_busy_nginx_can_be_read() -> Result<()> {
    alone()?;
    let (dir, mut browser) = (tempfile::tempdir()?, Browser::start()?);
    let recording = begin(&["-a", "--stall", "300ms"])?;
    let nginx = Nginx::start(Sharing::Reuseport)?;
    for connections in [20, 200, 60] {
        wrk(&nginx.place, connections)?;
        nginx.ask_application()?;
    }
    let run = end_with_session(recording)?;
    let session = dir.path().join("nginx.jsonl.zst");
    std::fs::write(&session, &run.session)?;
    let page = dir.path().join("nginx.html");
    write_page(&session, &page)?;
    is_readable(&mut browser, &page, "nginx", Shown { colours: 60, ink: 0.05, sights: EACH })
}

fn write_page(session: &Path, page: &Path) -> Result<()> {
    let mut command = socktrace(&["report", "--format", "html"])?;
    let finished = Running::start(command.arg("-o").arg(page).arg(session))?.finish()?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    Ok(())
}
