//! Which network namespace a process is in.
//!
//! Owns `/proc/PID/ns/net`. Does not enter namespaces.

use std::fs;

use super::{Host, HostError, bracketed_inode};

impl Host {
    /// The inode of the process's network namespace, equal to `net->ns.inum` in the kernel. For
    /// another user's process it takes `CAP_SYS_PTRACE`.
    pub fn read_netns(&self, pid: u32) -> Result<u64, HostError> {
        let path = self.proc_path(pid, "ns/net");
        let link = fs::read_link(&path).map_err(HostError::read(&path))?;
        bracketed_inode(link.as_os_str().as_encoded_bytes(), "net").ok_or(HostError::Malformed {
            path,
            line: 1,
            expected: "a link to `net:[inode]`",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn a_namespace_is_read_from_its_link() {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (pid, link) in [(1, "net:[4026531840]"), (2, "mnt:[4026531841]")] {
            let dir = root.path().join(format!("proc/{pid}/ns"));
            fs::create_dir_all(&dir).expect("a fake process");
            symlink(link, dir.join("net")).expect("a fake link");
        }
        let host = Host::at(root.path());
        assert_eq!(host.read_netns(1).expect("a namespace"), 4_026_531_840);
        assert!(host.read_netns(2).is_err_and(|error| !error.is_gone()));
        assert!(host.read_netns(3).is_err_and(|error| error.is_gone()));
    }

    #[test]
    fn the_number_is_the_inode_of_the_namespace_file() {
        let inode = fs::metadata("/proc/self/ns/net").expect("nsfs").ino();
        assert_eq!(Host::default().read_netns(std::process::id()).expect("a namespace"), inode);
    }
}
