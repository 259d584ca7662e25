//! One pid, two processes: the kernel is told which number to give next.

use anyhow::{Result, bail};
use nix::errno::Errno;

use super::short_lived::fails_once;
use crate::scenario::attempt::failure;
use crate::scenario::socket::Address;
use crate::scenario::stage::Stage;

/// The last pid that was given in this pid namespace; there with `CONFIG_CHECKPOINT_RESTORE` only.
const LAST: &str = "/proc/sys/kernel/ns_last_pid";
/// Others fork, too, and can be quicker.
const TRIES: u32 = 500;

/// A process that fails, and later another one of the same pid that fails, too.
///
/// # Errors
/// When the pid does not come again.
pub(super) fn twice(stage: &mut Stage) -> Result<()> {
    let name = "edge_pid_reuse";
    let first = Address::path(&stage.path("first.sock"))?;
    let second = Address::path(&stage.path("second.sock"))?;
    let pid = fails_once("st-earlier", None, &first, Errno::ENOENT)?;
    let mut failed = failure(name, &first, Errno::ENOENT, 1)?;
    (failed.pid, failed.comm) = (pid, "st-earlier".to_owned());
    stage.failed(failed);
    if !std::fs::exists(LAST)? {
        stage.seen.lacks.push("kernel.ns_last_pid".to_owned());
        return Ok(());
    }
    for _ in 0..TRIES {
        std::fs::write(LAST, (pid - 1).to_string())?;
        let again = fails_once("st-later", None, &second, Errno::ENOENT)?;
        let mut failed = failure(name, &second, Errno::ENOENT, 1)?;
        (failed.pid, failed.comm) = (again, "st-later".to_owned());
        stage.failed(failed);
        if again == pid {
            return Ok(());
        }
    }
    bail!("pid {pid} was not given again in {TRIES} tries")
}
