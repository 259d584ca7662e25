//! Files that are no sessions, and sessions of somebody else: a message that says what to do, and exit
//! code 2.

use std::fs::File;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use socktrace_tests::harness::run::into_closed_pipe;

use super::{answer, answer_to, golden};

/// Exit code 2, no report, and a message with the words.
fn refused(args: &[&str], input: Stdio, words: &[&str]) -> Result<()> {
    let finished = answer(args, input)?;
    ensure!(finished.code() == Some(2), "{args:?}: {}", finished.told());
    ensure!(finished.stdout.is_empty(), "{args:?}: {}", finished.told());
    for word in words {
        ensure!(finished.err().contains(word), "{args:?}: no `{word}`: {}", finished.told());
    }
    Ok(())
}

fn refused_path(path: &Path, words: &[&str]) -> Result<()> {
    refused(&[path.to_str().context("a path")?], Stdio::null(), words)
}

#[test]
fn what_is_no_regular_file_is_not_read() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let fifo = dir.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU)?;
    for path in [dir.path(), &fifo, Path::new("/dev/zero"), Path::new("/dev/null")] {
        refused_path(path, &["no regular file", "use - "])?;
    }
    refused_path(&dir.path().join("missing"), &["missing", "ENOENT"])?;
    let around = dir.path().join("around");
    symlink(&around, &around)?;
    refused_path(&around, &["ELOOP"])
}

#[test]
fn what_is_no_session_is_refused_whatever_it_is() -> Result<()> {
    let empty = answer_to(b"", &[])?;
    ensure!(empty.code() == Some(2) && empty.err().contains("it is empty"), "{}", empty.told());
    let others: [&[u8]; 5] = [
        b"a text\n",
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
        b"\x28\xb5\x2f\xfd",
        &vec![0; 100_000],
        &zstd::encode_all(&b"{\"event\":{}}\n"[..], 3)?,
    ];
    for other in others {
        let finished = answer_to(other, &[])?;
        ensure!(finished.code() == Some(2), "{}", finished.told());
        ensure!(finished.err().contains("it is no session of socktrace"), "{}", finished.told());
    }
    Ok(())
}

#[test]
fn a_stream_that_never_ends_and_is_no_session_is_left_at_once() -> Result<()> {
    refused(&["-"], File::open("/dev/zero")?.into(), &["it is no session of socktrace"])?;
    refused(&["-"], Stdio::null(), &["it is empty"])
}

#[test]
fn a_session_is_read_from_a_pipe_as_from_a_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("session");
    std::fs::write(&path, golden("v1-rich")?)?;
    let piped = answer(&["--json", "-"], File::open(&path)?.into())?;
    let read = answer(&["--json", path.to_str().context("a path")?], Stdio::null())?;
    ensure!(piped.code() == Some(0) && piped.stdout == read.stdout, "{}", piped.told());
    Ok(())
}

#[test]
fn a_condition_is_met_where_nobody_reads_the_report_to_the_end() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("session");
    std::fs::write(&path, golden("v1-rich")?)?;
    let path = path.to_str().context("a path")?;
    for format in ["text", "json", "html", "perfetto"] {
        let condition = ["--fail-on", "connect_failures>0"];
        let report = ["report", "--format", format, path];
        let finished = into_closed_pipe(&[&report[..], &condition].concat())?;
        ensure!(finished.code() == Some(1), "{format}: {}", finished.told());
        ensure!(finished.err().contains("connect_failures"), "{format}: {}", finished.told());
    }
    Ok(())
}

#[test]
fn root_reads_the_session_of_somebody_else_only_if_told_to() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "only root can give a file away");
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("session");
    std::fs::write(&path, golden("v1-rich")?)?;
    chown(&path, Some(65534), Some(65534))?;
    refused_path(&path, &["uid 65534", "--force"])?;
    let path = path.to_str().context("a path")?;
    let forced = answer(&["--force", path], Stdio::null())?;
    ensure!(forced.code() == Some(0), "{}", forced.told());
    Ok(())
}
