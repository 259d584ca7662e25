//! A process that holds back what `/proc` tells of it, on some kernels nearly all of it: its `execve()` closes a file, and the
//! FUSE server of that file does not answer. `execve()` has `exec_update_lock` meanwhile.
//!
//! The server speaks as much of the protocol (`include/uapi/linux/fuse.h`) as opening one file takes.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, execv, fork};

use super::gate::Gate;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const ENOSYS: i32 = -38;
/// `struct fuse_in_header`: length, operation, number of the request, inode, and who asks.
const HEADER: usize = 40;
/// More than any request here has.
const REQUEST_BYTES: usize = 1 << 17;
const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
/// Inode of the one file, whatever its name; 1 is the root.
const FILE_INODE: u64 = 2;

/// Prints the pid of the process once it holds back; ends it when the gate opens.
///
/// # Errors
/// When it cannot be brought there.
pub fn withhold(gate: &Gate) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount::<str, _, str, str>(None, "/", None, private, None).context("private mounts")?;
    let dir = tempfile::tempdir()?;
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let server = File::from(open("/dev/fuse", flags, Mode::empty()).context("/dev/fuse")?);
    let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
    mount(Some("withholding"), dir.path(), Some("fuse"), MsFlags::empty(), Some(data.as_str()))
        .context("a FUSE mount")?;
    // SAFETY: this process has one thread, so the child may do anything.
    let ForkResult::Parent { child } = (unsafe { fork() }).context("fork")? else {
        let _never = execute_with_open(&dir.path().join("file"));
        std::process::exit(1);
    };
    serve_until_flush(&server)?;
    println!("{child}");
    gate.arrive()?;
    kill(child, Signal::SIGKILL).context("kill")?;
    // The end of the server answers everything.
    drop(server);
    waitpid(child, None).context("waitpid")?;
    Ok(())
}

/// The file is open in the parent's mount, and closed by this.
fn execute_with_open(path: &Path) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let _open = open(path, flags, Mode::empty()).context("the file")?;
    let program = CString::new("/proc/self/exe")?;
    execv(&program, &[program.as_c_str(), c"sleep", c"60000"])?;
    Ok(())
}

/// Answers requests until one asks to flush the file.
fn serve_until_flush(mut server: &File) -> Result<()> {
    let mut request = vec![0; REQUEST_BYTES];
    loop {
        let length = server.read(&mut request).context("a request")?;
        ensure!(length >= HEADER, "a request of {length} bytes");
        let number =
            |at: usize| Ok::<_, anyhow::Error>(u64::from_ne_bytes(request[at..at + 8].try_into()?));
        let operation = u32::from_ne_bytes(request[4..8].try_into()?);
        let (unique, inode) = (number(8)?, number(16)?);
        let (error, answer) = match operation {
            FLUSH => return Ok(()),
            FORGET => continue,
            INIT => (0, init()),
            LOOKUP => (0, [entry(), attributes(FILE_INODE)].concat()),
            GETATTR => (0, [vec![0; 16], attributes(inode)].concat()),
            OPEN => (0, vec![0; 16]),
            _ => (ENOSYS, Vec::new()),
        };
        let length = u32::try_from(16 + answer.len()).context("length")?;
        let header = [length.to_ne_bytes(), error.to_ne_bytes()].concat();
        let answer = [header, unique.to_ne_bytes().to_vec(), answer].concat();
        if server.write(&answer).context("an answer")? != answer.len() {
            bail!("an answer was cut off");
        }
    }
}

/// `struct fuse_init_out` of 7.31: version and `max_write`.
fn init() -> Vec<u8> {
    let mut words = [0u32; 16];
    (words[0], words[1], words[5]) = (7, 31, 4096);
    words.map(u32::to_ne_bytes).concat()
}

/// `struct fuse_entry_out` but for the attributes: nothing is valid for any time.
fn entry() -> Vec<u8> {
    [FILE_INODE, 0, 0, 0, 0].map(u64::to_ne_bytes).concat()
}

/// `struct fuse_attr`: inode, mode and link count.
fn attributes(inode: u64) -> Vec<u8> {
    let mode = if inode == FILE_INODE { FILE } else { DIRECTORY };
    let mut words = [0u32; 10];
    (words[3], words[4]) = (mode, 1);
    let numbers = [inode, 0, 0, 0, 0, 0].map(u64::to_ne_bytes).concat();
    [numbers, words.map(u32::to_ne_bytes).concat()].concat()
}
