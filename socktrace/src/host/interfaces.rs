//! The network interfaces of a namespace, and whether they are up.
//!
//! Owns `/proc/PID/net/dev` and `/sys/class/net`. Sysfs shows the network namespace of whoever
//! mounted it, so whether an interface is up is told for the reader's own namespace only, and only
//! for interfaces that sysfs has. Formats: `dev_seq_show()`, sysfs-class-net.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::bounded::{read_bounded, read_lines};
use super::tcp_tables::hexadecimal;
use super::{Host, HostError};

/// Bytes that are read of the list: 100 000 interfaces.
const MOST_BYTES: u64 = 16 << 20;

/// In `flags` (`include/uapi/linux/if.h`): an administrator switched it on.
const IFF_UP: u64 = 1;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name, raw: no space, no slash and no colon (`dev_valid_name()`).
    pub name: Vec<u8>,
    /// Whether it is switched on; `None` where that could not be read.
    pub is_up: Option<bool>,
    /// `up`, `down`, `lowerlayerdown`, `dormant`, or `unknown` from drivers that do not say, such as
    /// the loopback's (RFC 2863); `None` where that could not be read.
    pub operstate: Option<Vec<u8>>,
}

impl Host {
    /// The interfaces of the network namespace of `pid`, or of the calling thread. Whether they are
    /// up is read if that is the namespace of this process's first thread.
    pub fn read_interfaces(&self, pid: Option<u32>) -> Result<Vec<Interface>, HostError> {
        let mut names = Vec::new();
        read_lines(&self.net_path(pid, "dev"), MOST_BYTES, |line| {
            names.extend(parse_name(line).map(<[u8]>::to_vec));
        })?;
        let is_own = self.shows_sysfs(pid);
        Ok(names.into_iter().map(|name| self.read_interface(name, is_own)).collect())
    }

    fn read_interface(&self, name: Vec<u8>, is_own: bool) -> Interface {
        let (mut is_up, mut operstate) = (None, None);
        if is_own && name != b"." && name != b".." {
            let dir = self.below("sys/class/net").join(OsStr::from_bytes(&name));
            is_up = read_word(&dir.join("flags")).and_then(|word| parse_up(&word));
            operstate = read_word(&dir.join("operstate"));
        }
        Interface { name, is_up, operstate }
    }

    /// Whether the namespace is the one of this process's first thread, whose sysfs is mounted.
    fn shows_sysfs(&self, pid: Option<u32>) -> bool {
        let inode = |process: &str| {
            let path = self.below("proc").join(process).join("ns/net");
            std::fs::read_link(path).ok()
        };
        let asked = pid.map_or_else(|| "thread-self".to_owned(), |pid| pid.to_string());
        inode("self").is_some_and(|own| inode(&asked) == Some(own))
    }
}

/// `NAME: numbers`; the two lines of heading have `|` in the name's place.
fn parse_name(line: &[u8]) -> Option<&[u8]> {
    let end = line.iter().position(|&byte| byte == b':')?;
    let name = line.get(..end)?.trim_ascii();
    let is_valid = !name.is_empty() && name.len() < libc::IFNAMSIZ && !name.contains(&b'/');
    is_valid.then_some(name)
}

fn parse_up(word: &[u8]) -> Option<bool> {
    Some(hexadecimal(word.strip_prefix(b"0x")?)? & IFF_UP != 0)
}

fn read_word(path: &Path) -> Option<Vec<u8>> {
    let read = read_bounded(path, 64).ok()?;
    let word = read.bytes.trim_ascii();
    (!word.is_empty()).then(|| word.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_the_own_namespaces_interfaces_are_told_to_be_up() {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (process, link) in [("self", "net:[1]"), ("7", "net:[1]"), ("8", "net:[2]")] {
            let dir = root.path().join("proc").join(process);
            fs::create_dir_all(dir.join("ns")).expect("a fake process");
            fs::create_dir_all(dir.join("net")).expect("a fake process");
            symlink(link, dir.join("ns/net")).expect("a fake link");
            let list = "Inter-| Receive\n face |bytes\n  eth0: 1 2\n..: 1\nx/y: 1\n";
            fs::write(dir.join("net/dev"), list).expect("a fake list");
        }
        let dir = root.path().join("sys/class/net/eth0");
        fs::create_dir_all(&dir).expect("a fake interface");
        fs::write(dir.join("flags"), "0x1002\n").expect("a fake file");
        fs::write(dir.join("operstate"), "down\n").expect("a fake file");
        let host = Host::at(root.path());
        let interface = |name: &str, is_up, operstate: Option<&str>| Interface {
            name: name.into(),
            is_up,
            operstate: operstate.map(Into::into),
        };
        let own = [interface("eth0", Some(false), Some("down")), interface("..", None, None)];
        assert_eq!(host.read_interfaces(Some(7)).expect("a list"), own);
        let other = [interface("eth0", None, None), interface("..", None, None)];
        assert_eq!(host.read_interfaces(Some(8)).expect("a list"), other);
        assert!(host.read_interfaces(Some(9)).is_err_and(|error| error.is_gone()));
    }

    #[test]
    fn this_host_has_its_loopback_and_a_fresh_namespace_has_its_own() {
        let names = || {
            let found = Host::default().read_interfaces(None).expect("a list");
            found.into_iter().map(|interface| interface.name).collect::<Vec<_>>()
        };
        assert!(names().contains(&b"lo".to_vec()));
        let fresh = super::super::in_scratch_namespace(|| Host::default().read_interfaces(None));
        let fresh = fresh.expect("a namespace, as root").expect("a list");
        let loopback = fresh.iter().find(|interface| interface.name == b"lo");
        assert_eq!(loopback.expect("a loopback").is_up, None, "sysfs shows another one");
    }
}
