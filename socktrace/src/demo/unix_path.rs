//! Paths that lead to no listener: to nothing, to another file, to a file that was left or replaced.

use std::{
    fs, io,
    os::unix::{fs::symlink, net::UnixListener},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::stage::{Scratch, Server, fail_to_connect};

pub(super) fn missing_directory() -> io::Result<()> {
    let scratch = Scratch::new()?;
    fail_to_connect(&scratch.join("run").join("app.sock"), 2)
}

pub(super) fn not_a_socket() -> io::Result<()> {
    let scratch = Scratch::new()?;
    let path = scratch.join("app.sock");
    fs::write(&path, "not a socket\n")?;
    fail_to_connect(&path, 2)
}

pub(super) fn not_a_directory() -> io::Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.join("run");
    fs::write(&file, "not a directory\n")?;
    fail_to_connect(&file.join("app.sock"), 2)
}

pub(super) fn stale_socket() -> io::Result<()> {
    let scratch = Scratch::new()?;
    let path = scratch.join("gone.sock");
    drop(UnixListener::bind(&path)?);
    fail_to_connect(&path, 2)
}

pub(super) fn removed_socket() -> io::Result<()> {
    let scratch = Scratch::new()?;
    let path = scratch.join("app.sock");
    let _server = Server::start(|| UnixListener::bind(&path))?;
    fs::remove_file(&path)?;
    fail_to_connect(&path, 2)
}

pub(super) fn symlink_loop() -> io::Result<()> {
    let scratch = Scratch::new()?;
    let (one, two) = (scratch.join("one.sock"), scratch.join("two.sock"));
    symlink(&two, &one)?;
    symlink(&one, &two)?;
    fail_to_connect(&one, 2)
}

pub(super) fn replaced_socket() -> io::Result<()> {
    let scratch = Scratch::new()?;
    let path = scratch.join("app.sock");
    let _first = Server::start(|| UnixListener::bind(&path))?;
    fs::remove_file(&path)?;
    drop(UnixListener::bind(&path)?);
    fail_to_connect(&path, 2)
}

pub(super) fn mount_namespace() -> io::Result<()> {
    let scratch = Scratch::new()?;
    let directory = scratch.join("run");
    fs::create_dir(&directory)?;
    let path = directory.join("app.sock");
    let _server = Server::start(|| {
        unshare(CloneFlags::CLONE_NEWNS)?;
        // What is mounted from here on is in no other namespace.
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("demo"), &directory, Some("tmpfs"), flags, Some("size=64k"))?;
        UnixListener::bind(&path)
    })?;
    fail_to_connect(&path, 2)
}
