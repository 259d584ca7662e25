//! Whether tasks wait for a resource of the host or of their cgroup: pressure stall information.
//!
//! Owns `/proc/pressure` and the `*.pressure` files of a process's cgroup. Does not own the limits
//! that make it (`cgroup_memory`, `cpu_quota`). Documentation: psi.rst.

use std::path::Path;

use super::bounded::read_bounded;
use super::cgroup_dirs::{CgroupDir, UNIFIED};
use super::{Host, HostError, decimal, numbered_lines, words};

/// How much of the time tasks waited, in hundredths of a per cent, and for how long in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PressureStall {
    /// Over the last 10 seconds.
    pub avg10: u32,
    /// Over the last minute.
    pub avg60: u32,
    /// Over the last 5 minutes.
    pub avg300: u32,
    /// Since boot, or since the cgroup was made, in microseconds.
    pub total_us: u64,
}

/// Pressure on one resource. `None` where the kernel does not tell.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Option<PressureStall>,
    /// No task that had work ran. For the CPU of the whole host it means nothing and is zero.
    pub full: Option<PressureStall>,
}

/// Pressure on the three resources; `None` where it could not be read: the kernel has no
/// `CONFIG_PSI`, it is switched off (`psi=0`, EOPNOTSUPP), or off for this cgroup
/// (`cgroup.pressure`).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Pressures {
    /// Waiting for a CPU; in a cgroup, for its quota as well.
    pub cpu: Option<Pressure>,
    /// Waiting for memory: reclaim, swap, and pages that were thrown out.
    pub memory: Option<Pressure>,
    /// Waiting for block I/O.
    pub io: Option<Pressure>,
}

impl Host {
    /// Pressure on the host.
    pub fn read_pressures(&self) -> Pressures {
        let dir = self.below("proc/pressure");
        read_three(|name| dir.join(name))
    }

    /// Pressure in the v2 cgroup of `pid`. All unknown where it is in none, or at the top of the hierarchy: what is told
    /// there is of everybody.
    pub fn read_cgroup_pressures(&self, pid: u32) -> Result<Pressures, HostError> {
        let dirs = self.read_cgroup_dirs(pid, UNIFIED)?;
        let Some(dir) = dirs.first().map(CgroupDir::path) else { return Ok(Pressures::default()) };
        // Every cgroup but the top one has events.
        if !dir.join("cgroup.events").exists() {
            return Ok(Pressures::default());
        }
        Ok(read_three(|name| dir.join(format!("{name}.pressure"))))
    }
}

fn read_three(path: impl Fn(&str) -> std::path::PathBuf) -> Pressures {
    Pressures {
        cpu: read_pressure(&path("cpu")),
        memory: read_pressure(&path("memory")),
        io: read_pressure(&path("io")),
    }
}

fn read_pressure(path: &Path) -> Option<Pressure> {
    read_bounded(path, 4096).ok().map(|read| parse_pressure(&read.bytes))
}

/// Two lines, `some` and `full`; the second is missing for the CPU before Linux 5.13.
fn parse_pressure(bytes: &[u8]) -> Pressure {
    let line = |name: &[u8]| {
        let mut lines = numbered_lines(bytes).filter_map(|(_, line)| line.strip_prefix(name));
        lines.find_map(parse_stall)
    };
    Pressure { some: line(b"some "), full: line(b"full ") }
}

/// `avg10=0.64 avg60=0.46 avg300=0.87 total=4076383067`.
fn parse_stall(line: &[u8]) -> Option<PressureStall> {
    let value = |name: &[u8]| words(line).find_map(|word| word.strip_prefix(name));
    Some(PressureStall {
        avg10: parse_hundredths(value(b"avg10=")?)?,
        avg60: parse_hundredths(value(b"avg60=")?)?,
        avg300: parse_hundredths(value(b"avg300=")?)?,
        total_us: decimal(value(b"total=")?)?,
    })
}

/// `N.NN`.
fn parse_hundredths(word: &[u8]) -> Option<u32> {
    let mut parts = word.splitn(2, |&byte| byte == b'.');
    let (whole, rest) = (decimal(parts.next()?)?, parts.next()?);
    let rest = decimal(rest).filter(|_| rest.len() == 2)?;
    u32::try_from(whole.checked_mul(100)?.checked_add(rest)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn pressure_is_read_to_the_hundredth() {
        let text = b"some avg10=0.64 avg60=12.05 avg300=100.00 total=4076383067\n\
            full avg10=x avg60=0.00 avg300=0.00 total=0\n";
        let some =
            PressureStall { avg10: 64, avg60: 1205, avg300: 10_000, total_us: 4_076_383_067 };
        assert_eq!(parse_pressure(text), Pressure { some: Some(some), full: None });
        assert_eq!(parse_pressure(b""), Pressure::default());
        for bad in [b"1".as_slice(), b"1.5", b"1.555", b".55", b"-1.00", b"99999999999999999999.00"]
        {
            assert_eq!(parse_hundredths(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_cgroups_pressure_is_its_own_and_what_is_missing_is_unknown() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
            fs::write(path, text).expect("a fake file");
        };
        write("proc/7/cgroup", "0::/a\n");
        write("proc/8/cgroup", "1:cpu:/a\n");
        write("proc/self/mountinfo", "1 1 0:1 / /cg rw - cgroup2 none rw\n");
        write("cg/a/cgroup.events", "populated 1\nfrozen 0\n");
        write("cg/a/memory.pressure", "some avg10=1.00 avg60=0.00 avg300=0.00 total=9\n");
        write("proc/6/cgroup", "0::/\n");
        write("cg/memory.pressure", "some avg10=50.00 avg60=0.00 avg300=0.00 total=9\n");
        let host = Host::at(root.path());
        let some = Some(PressureStall { avg10: 100, avg60: 0, avg300: 0, total_us: 9 });
        let memory = Some(Pressure { some, full: None });
        let expected = Pressures { memory, ..Pressures::default() };
        assert_eq!(host.read_cgroup_pressures(7).expect("a cgroup"), expected);
        assert_eq!(host.read_cgroup_pressures(8).expect("none"), Pressures::default());
        assert_eq!(
            host.read_cgroup_pressures(6).expect("all"),
            Pressures::default(),
            "of everybody"
        );
        assert_eq!(host.read_pressures(), Pressures::default());
        assert!(host.read_cgroup_pressures(9).is_err_and(|error| error.is_gone()));
    }
}
