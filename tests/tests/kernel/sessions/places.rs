//! Where a session may be saved: in a new file of its user, and nowhere else. Whatever is in the way
//! is told before anything is attached, before CMD runs, and is left as it is.

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use socktrace_tests::harness::process::{Finished, Running};
use socktrace_tests::harness::run::{scenario, socktrace};

use super::disk::{Disk, on_a_disk};
use super::{read, report, verdict};

/// Ordinary users.
const NOBODY: u32 = 65534;
const OTHER: u32 = 65533;
/// `include/uapi/linux/capability.h`.
const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
/// What is there before.
const OLD: &[u8] = b"what is there";

/// `record -o FILE -- CMD`, where CMD would tell on stdout that it ran.
fn with_command(file: &Path) -> Result<Command> {
    let mut command = socktrace(&["record", "-o"])?;
    command.arg(file).arg("--").arg(scenario()?).arg("unix_missing");
    Ok(command)
}

/// It failed for the reason, which it names, and CMD did not run.
fn is_refused(finished: &Finished, why: &str) -> Result<()> {
    let told = finished.err();
    ensure!(finished.code() == Some(125), "{why}: {}", finished.told());
    ensure!(finished.stdout.is_empty(), "CMD ran: {}", finished.told());
    ensure!(told.contains(why) && told.contains("--no-save"), "{why}: {}", finished.told());
    ensure!(!told.contains("panicked"), "{}", finished.told());
    Ok(())
}

fn refused(file: &Path, why: &str) -> Result<()> {
    is_refused(&Running::start(&mut with_command(file)?)?.finish()?, why)
}

/// The names in a directory.
fn names(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

#[test]
fn a_session_is_of_the_user_who_called_sudo_and_of_nobody_else() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut command = socktrace(&["record", "-d", "100ms"])?;
    let invoker = [("SUDO_UID", NOBODY.to_string()), ("SUDO_GID", OTHER.to_string())];
    command.envs(invoker.clone()).current_dir(dir.path());
    let finished = Running::start(&mut command)?.finish()?;
    ensure!(finished.code() == Some(0), "{}", finished.told());
    let files = names(dir.path())?;
    let [file] = files.as_slice() else { anyhow::bail!("not one file: {files:?}") };
    let name = file.file_name().and_then(OsStr::to_str).context("a name")?;
    ensure!(name.starts_with("socktrace-") && name.ends_with("Z.jsonl.zst"), "{name}");
    ensure!(finished.err().contains(name), "its name is not told: {}", finished.told());
    let found = std::fs::metadata(file)?;
    let [mode, uid, gid] = [found.mode() & 0o7777, found.uid(), found.gid()];
    ensure!([mode, uid, gid] == [0o600, NOBODY, OTHER], "{mode:o} {uid} {gid}");

    let alone = report(file, &[])?;
    ensure!(alone.code() == Some(2) && alone.err().contains("--force"), "{}", alone.told());
    ensure!(report(file, &["--force"])?.code() == Some(0), "--force does not help");
    let theirs = Running::start(socktrace(&["report"])?.arg(file).envs(invoker))?.finish()?;
    ensure!(theirs.code() == Some(0), "{}", theirs.told());
    Ok(())
}

#[test]
fn what_is_there_is_neither_written_over_nor_followed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("file"), OLD)?;
    std::fs::write(at("empty"), b"")?;
    symlink(at("file"), at("link"))?;
    symlink(at("nowhere"), at("dangling"))?;
    symlink("/dev/full", at("device"))?;
    mkfifo(&at("fifo"), Mode::S_IRWXU)?;
    std::fs::create_dir(at("directory"))?;
    let before = names(dir.path())?.len();
    for name in ["file", "empty", "link", "dangling", "device", "fifo", "directory"] {
        refused(&at(name), "EEXIST").context(name)?;
    }
    refused(Path::new("/dev/full"), "EEXIST")?;
    ensure!(std::fs::read(at("file"))? == OLD, "the file was written to");
    ensure!(std::fs::metadata(at("empty"))?.len() == 0, "the empty file was written to");
    ensure!(names(dir.path())?.len() == before, "something was made");
    Ok(())
}

#[test]
fn a_foreign_file_in_a_directory_that_everybody_may_write_to_stays_as_it_is() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("session.jsonl.zst");
    std::fs::write(&file, OLD)?;
    chown(&file, Some(OTHER), Some(OTHER))?;
    chown(dir.path(), Some(NOBODY), Some(NOBODY))?;
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o1777))?;
    refused(&file, "EEXIST")?;
    ensure!(std::fs::read(&file)? == OLD, "it was written to");
    let found = std::fs::metadata(&file)?;
    ensure!([found.uid(), found.gid()] == [OTHER, OTHER], "it changed hands");
    Ok(())
}

#[test]
fn where_no_file_can_be_made_the_command_does_not_run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    refused(&dir.path().join("missing/session"), "ENOENT")?;
    refused(&dir.path().join("n".repeat(300)), "ENAMETOOLONG")?;
    std::fs::write(dir.path().join("file"), OLD)?;
    refused(&dir.path().join("file/session"), "ENOTDIR")?;
    on_a_disk("size=64k", |disk: &Disk| {
        disk.make_read_only()?;
        refused(&disk.dir().join("session"), "EROFS")
    })
}

#[test]
fn a_directory_without_permission_is_refused_even_to_root_without_its_capability() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed)?;
    chown(&closed, Some(NOBODY), Some(NOBODY))?;
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o755))?;
    let mut command = with_command(&closed.join("session"))?;
    // SAFETY: the closure makes one system call with plain numbers.
    unsafe { command.pre_exec(|| Ok(without_override()?)) };
    is_refused(&Running::start(&mut command)?.finish()?, "EACCES")
}

/// Execution then drops what is not in the bounding set.
fn without_override() -> nix::Result<()> {
    // SAFETY: a system call with plain numbers.
    let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0) };
    Errno::result(dropped).map(|_| ())
}

#[test]
fn a_recording_that_cannot_begin_leaves_no_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for args in [&["--btf", "/nonexistent/btf"][..], &["--tier", "uprobe"]] {
        let mut command = socktrace(&["record", "-d", "100ms"])?;
        let finished = Running::start(command.args(args).current_dir(dir.path()))?.finish()?;
        ensure!(matches!(finished.code(), Some(2 | 3)), "{args:?}: {}", finished.told());
        ensure!(names(dir.path())?.is_empty(), "{args:?}: a file is left");
    }
    Ok(())
}

#[test]
fn a_session_whose_directory_is_removed_is_reported_all_the_same_and_told_as_lost() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let inside = dir.path().join("inside");
    std::fs::create_dir(&inside)?;
    let file = inside.join("session");
    let mut command = socktrace(&["record", "--json", "-i", "50ms", "-o"])?;
    let mut tracer = Running::start(command.arg(&file))?;
    tracer.wait_err("attached")?;
    std::fs::remove_dir_all(&inside)?;
    std::thread::sleep(std::time::Duration::from_millis(200));
    tracer.signal(Signal::SIGINT)?;
    let finished = tracer.finish()?;
    ensure!(finished.code() == Some(125), "{}", finished.told());
    ensure!(finished.err().contains("it was removed"), "{}", finished.told());
    ensure!(!finished.err().contains("session saved"), "{}", finished.told());
    let live: serde_json::Value = serde_json::from_slice(&finished.stdout)?;
    ensure!(verdict(&live) == "complete", "{live:#}");
    Ok(())
}

#[test]
fn a_session_on_stdout_goes_into_a_pipe_and_its_report_to_stderr() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("piped");
    let finished =
        Running::start(&mut socktrace(&["record", "-d", "300ms", "-o", "-"])?)?.finish()?;
    ensure!(finished.code() == Some(0), "{}", finished.err());
    ensure!(finished.err().contains("\ncomplete:"), "no report: {}", finished.err());
    std::fs::write(&file, &finished.stdout)?;
    ensure!(verdict(&read(&file)?) == "complete", "it is not complete");
    Ok(())
}

#[test]
fn a_reader_of_a_session_who_goes_away_is_no_error() -> Result<()> {
    let mut command = socktrace(&["record", "-d", "500ms", "-i", "50ms", "-o", "-"])?;
    let (mut reader, writer) = std::io::pipe()?;
    command.stdin(std::process::Stdio::null()).stdout(writer).stderr(std::process::Stdio::piped());
    let tracer = command.spawn()?;
    // The command holds the other copy of the pipe's end.
    drop(command);
    let mut first = [0; 64];
    std::io::Read::read_exact(&mut reader, &mut first).context("the header")?;
    drop(reader);
    let output = tracer.wait_with_output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(0), "{}\n{told}", output.status);
    for word in ["panicked", "EPIPE", "Broken pipe", "saved no further"] {
        ensure!(!told.contains(word), "{word}: {told}");
    }
    ensure!(told.contains("\ncomplete:"), "no report: {told}");
    Ok(())
}
