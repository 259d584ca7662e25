//! Work that finds no `/sys`, whose files nobody needs there: aya reads and parses all of the kernel's BTF into
//! every loader, where it finds it, which takes longer than all that is done with the loader.

use std::{io, thread};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::chroot,
};

/// A directory that is always there and has numbers in it only.
const ELSEWHERE: &str = "/proc/self/fdinfo";

/// Does `work` on a thread whose root is a directory without `sys`; `Err` where it may have none. Nobody
/// else's root changes.
pub fn out_of_sight<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = || {
            unshare(CloneFlags::CLONE_FS)?;
            chroot(ELSEWHERE)?;
            Ok(work())
        };
        let thread = thread::Builder::new().spawn_scoped(scope, inside)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn there_is_no_sysfs_there_and_everywhere_else_there_is() {
        let there = || Path::new("/sys/kernel").exists();
        assert!(!out_of_sight(there).expect("as root"));
        assert!(there());
    }
}
