//! Clients in namespaces of their own: network, mounts, pids. What is reported is what they passed,
//! and their pid in the initial namespace.

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::SockType;

use crate::scenario::actor::{Role, prepare};
use crate::scenario::attempt::must_fail;
use crate::scenario::listener::loopback;
use crate::scenario::netns::bring_up_loopback;
use crate::scenario::record::Failure;
use crate::scenario::socket::{Address, bound, listen};
use crate::scenario::stage::Stage;

const NAME: &str = "edge_namespaces";

/// One client in each.
///
/// # Errors
/// When a namespace cannot be made, or a connect ends in another way.
pub(super) fn all(stage: &mut Stage) -> Result<()> {
    network(stage)?;
    mounts(stage)?;
    pids(stage)
}

/// Refused in a network namespace whose loopback has no listener at all.
fn network(stage: &mut Stage) -> Result<()> {
    let client = prepare(Role::named("st-netns"), || {
        unshare(CloneFlags::CLONE_NEWNET).context("CLONE_NEWNET")?;
        bring_up_loopback()?;
        let (_held, at) = bound(&loopback(), SockType::Stream)?;
        must_fail(NAME, &at, SockType::Stream, Errno::ECONNREFUSED, 3)
    })?;
    stage.failed(client.perform()?);
    Ok(())
}

/// A path where somebody listens, but not in the client's own view of it.
fn mounts(stage: &mut Stage) -> Result<()> {
    let dir = stage.path("view");
    std::fs::create_dir(&dir).context("mkdir")?;
    let at = Address::path(&dir.join("app.sock"))?;
    let client = prepare(Role::named("st-mountns"), move || {
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS).context("CLONE_NEWNS")?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("private")?;
        mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), none).context("tmpfs")?;
        must_fail(NAME, &at, SockType::Stream, Errno::ENOENT, 4)
    })?;
    let listener = listen(&at, SockType::Stream, 16)?;
    stage.listens(NAME, &listener);
    stage.failed(client.perform()?);
    Ok(())
}

/// A process that believes it is number 1.
fn pids(stage: &mut Stage) -> Result<()> {
    let at = Address::path(&stage.path("missing.sock"))?;
    let parent = prepare(Role::named("st-pidns"), move || {
        unshare(CloneFlags::CLONE_NEWPID).context("CLONE_NEWPID")?;
        let first = prepare(Role::named("st-first"), move || {
            must_fail(NAME, &at, SockType::Stream, Errno::ENOENT, 5)
        })?;
        // The parent is outside: it has the pid of the initial namespace.
        let outside = first.pid();
        let seen: Failure = first.perform()?;
        ensure!(seen.pid == 1, "pid {} inside a new pid namespace", seen.pid);
        Ok(Failure { pid: outside, ..seen })
    })?;
    stage.failed(parent.perform()?);
    Ok(())
}
