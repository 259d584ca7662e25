//! How a session with CMD ends where CMD does not simply end: Ctrl-C, what it leaves behind, job control.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socktrace_tests::harness::process::{PATIENCE, wait_for};
use socktrace_tests::harness::run::{run, scenario, socktrace};
use socktrace_tests::harness::terminal::{INTERRUPT, QUIT, SUSPEND, Terminal};
use socktrace_tests::scenario::gate::Gate;

use crate::matrix::unless;

/// A line that only the report has.
const REPORT: &str = "socktrace itself used";

/// `record -- scenario --gate DIR WORD`
fn session(dir: &Path, word: &str) -> Result<Command> {
    let mut command = socktrace(&["record", "--no-save", "--"])?;
    command.arg(scenario()?).arg("--gate").arg(dir).arg(word).env("TERM", "xterm");
    Ok(command)
}

/// A session in a terminal whose CMD waits at its gate, with CMD's pid and socktrace's.
struct AtTerminal {
    terminal: Terminal,
    gate: Gate,
    command: Pid,
    tracer: Pid,
    _dir: tempfile::TempDir,
}

fn at_terminal(flags: &[&str], word: &str) -> Result<AtTerminal> {
    let dir = tempfile::tempdir().context("a gate")?;
    let gate = Gate::at(dir.path());
    let terminal = Terminal::start(flags, &session(dir.path(), word)?)?;
    let command = gate.wait_ready().with_context(|| terminal.story())?;
    let tracer = stat_field(command, 4)?.parse().context("the parent's pid")?;
    let command = Pid::from_raw(i32::try_from(command).context("a pid")?);
    Ok(AtTerminal { terminal, gate, command, tracer: Pid::from_raw(tracer), _dir: dir })
}

/// A field of `/proc/PID/stat` behind the name.
fn stat_field(pid: u32, number: usize) -> Result<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("stat")?;
    let (_, fields) = stat.rsplit_once(") ").context("a name")?;
    fields.split(' ').nth(number - 3).map(str::to_owned).context("a field")
}

fn waits_for_state(pid: Pid, wanted: impl Fn(&str) -> bool) -> bool {
    let pid = u32::try_from(pid.as_raw()).unwrap_or_default();
    wait_for(PATIENCE, || stat_field(pid, 3).is_ok_and(|state| wanted(&state)))
}

#[test]
fn ctrl_z_stops_both_and_fg_resumes_both() -> Result<()> {
    let AtTerminal { mut terminal, gate, command, tracer, _dir } = at_terminal(&[], "deaf")?;
    for _ in 0..2 {
        terminal.press(SUSPEND)?;
        for pid in [command, tracer] {
            ensure!(
                waits_for_state(pid, |state| state == "T"),
                "{pid} goes on\n{}",
                terminal.story()
            );
        }
        terminal.wait_told("stopped by SIGTSTP")?;
        terminal.foreground()?;
        for pid in [command, tracer] {
            ensure!(
                waits_for_state(pid, |state| state != "T"),
                "{pid} stays\n{}",
                terminal.story()
            );
        }
    }
    gate.open()?;
    terminal.wait_shown(REPORT)?;
    terminal.wait_told("exited 0")
}

#[test]
fn a_stopped_command_is_neither_an_end_nor_a_busy_loop() -> Result<()> {
    let AtTerminal { terminal, gate, command, tracer, _dir } = at_terminal(&[], "deaf")?;
    kill(command, Signal::SIGSTOP)?;
    ensure!(waits_for_state(command, |state| state == "T"), "{}", terminal.story());
    let tracer = u32::try_from(tracer.as_raw())?;
    let ticks = || -> Result<u64> {
        Ok(stat_field(tracer, 14)?.parse::<u64>()? + stat_field(tracer, 15)?.parse::<u64>()?)
    };
    let before = ticks()?;
    std::thread::sleep(Duration::from_secs(2));
    let used = ticks()? - before;
    ensure!(used < 50, "{used} of 200 ticks while CMD is stopped\n{}", terminal.story());
    ensure!(!terminal.shown().contains(REPORT), "it has ended\n{}", terminal.story());
    kill(command, Signal::SIGCONT)?;
    gate.open()?;
    terminal.wait_told("exited 0")
}

#[test]
fn a_report_from_the_background_is_written_where_the_terminal_forbids_it() -> Result<()> {
    let flags = ["background", "tostop"];
    let AtTerminal { terminal, gate, _dir, .. } = at_terminal(&flags, "deaf")?;
    gate.open()?;
    terminal.wait_told("exited 0")?;
    terminal.wait_shown(REPORT)
}

#[test]
fn the_first_ctrl_c_is_the_commands() -> Result<()> {
    let AtTerminal { mut terminal, _dir, .. } = at_terminal(&[], "wait")?;
    terminal.press(INTERRUPT)?;
    terminal.wait_shown(REPORT)?;
    terminal.wait_told("killed by SIGINT")
}

#[test]
fn the_second_ctrl_c_prints_the_report_and_the_command_still_ends_as_it_likes() -> Result<()> {
    let AtTerminal { mut terminal, gate, command, _dir, .. } = at_terminal(&[], "deaf")?;
    terminal.press(INTERRUPT)?;
    std::thread::sleep(Duration::from_millis(500));
    ensure!(!terminal.shown().contains(REPORT), "one is enough\n{}", terminal.story());
    terminal.press(INTERRUPT)?;
    terminal.wait_shown(REPORT)?;
    terminal.wait_shown(&format!("CMD (pid {command}) goes on"))?;
    gate.open()?;
    terminal.wait_told("exited 0")
}

#[test]
fn the_third_ctrl_c_leaves_at_once_and_the_command_alone() -> Result<()> {
    let AtTerminal { mut terminal, gate, command, _dir, .. } = at_terminal(&[], "deaf")?;
    terminal.press(INTERRUPT)?;
    std::thread::sleep(Duration::from_millis(200));
    terminal.press(INTERRUPT)?;
    terminal.wait_shown("goes on")?;
    terminal.press(INTERRUPT)?;
    terminal.wait_told("killed by SIGINT")?;
    ensure!(waits_for_state(command, |state| state != "Z"), "CMD is gone\n{}", terminal.story());
    gate.open()
}

#[test]
fn ctrl_backslash_ends_the_command_and_not_the_report() -> Result<()> {
    let AtTerminal { mut terminal, _dir, .. } = at_terminal(&[], "wait")?;
    terminal.press(QUIT)?;
    terminal.wait_shown(REPORT)?;
    terminal.wait_told("killed by SIGQUIT")
}

#[test]
fn what_a_command_leaves_in_the_background_is_named() -> Result<()> {
    let program = scenario()?.display().to_string();
    let finished = run(&["record", "--no-save", "--", &program, "background", "5000"])?;
    let lines = finished.err().lines().filter(|line| line.contains("still runs")).count();
    unless(finished.code() == Some(0) && lines == 1, || finished.told())?;
    let alone = run(&["record", "--no-save", "--", &program, "sleep", "1"])?;
    unless(!alone.err().contains("still run"), || alone.told())
}

#[test]
fn a_status_line_is_shown_on_a_terminal_and_gone_before_the_report() -> Result<()> {
    const LINE: &str = "\r\x1b[K0 s, 0 events";
    let recording = |term: &str| -> Result<Terminal> {
        let mut command = socktrace(&["record", "--no-save", "-n", "nobody-has-it"])?;
        Terminal::start(&[], command.env("TERM", term))
    };
    let mut terminal = recording("xterm")?;
    terminal.wait_shown(LINE)?;
    terminal.wait_shown("2 s, 0 events")?;
    terminal.press(INTERRUPT)?;
    terminal.wait_told("exited 0")?;
    terminal.wait_shown(REPORT)?;
    let shown = terminal.shown();
    let drawn = shown.matches("0 events").count();
    ensure!(drawn <= 20, "drawn {drawn} times in little more than 2 s\n{}", terminal.story());
    let after = shown.rsplit("0 events, 0 lost").next().unwrap_or_default();
    let begin = after.trim_start_matches("^C");
    ensure!(begin.starts_with("\r\x1b[K"), "the line is left\n{}", terminal.story());

    let mut dumb = recording("dumb")?;
    dumb.wait_shown("attached")?;
    std::thread::sleep(Duration::from_secs(1));
    dumb.press(INTERRUPT)?;
    dumb.wait_told("exited 0")?;
    ensure!(!dumb.shown().contains("0 events"), "{}", dumb.story());
    Ok(())
}

#[test]
fn there_is_no_status_line_beside_a_commands_own_output() -> Result<()> {
    let AtTerminal { terminal, gate, _dir, .. } = at_terminal(&[], "deaf")?;
    std::thread::sleep(Duration::from_secs(1));
    gate.open()?;
    terminal.wait_told("exited 0")?;
    terminal.wait_shown(REPORT)?;
    ensure!(!terminal.shown().contains("\x1b[K"), "{}", terminal.story());
    Ok(())
}
