//! Whether a unit runs, by its cgroup.
//!
//! Owns the way from a unit's name to its cgroup and what `cgroup.events` says of it. Does not ask
//! systemd: a unit that is active without a process (a one-shot that remains, a listening socket) is
//! not told from one that is not.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::Host;
use super::super::bounded::read_bounded;
use super::super::cgroup_dirs::value_of;

/// Slices that are looked into.
const MOST_SLICES: usize = 4096;

/// Whether a unit has processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitState {
    /// Its cgroup has processes.
    Running,
    /// A service or scope without a cgroup, or with an empty one: it has no process.
    NotRunning,
    /// systemd does not manage this host, its cgroups could not be read, or it is a unit that needs
    /// no process, such as a socket.
    Unknown,
}

impl Host {
    /// Whether a unit of the system's manager runs, such as `nginx.service`. Its cgroup lies in
    /// slices only: one of that name in a container or below a user's manager is another unit's.
    pub fn read_unit_state(&self, unit: &[u8]) -> UnitState {
        // sd_booted(3).
        let is_booted = self.below("run/systemd/system").is_dir();
        let is_a_name = !unit.contains(&b'/') && !matches!(unit, b"" | b"." | b"..");
        let Some(top) = self.read_cgroup_top().filter(|_| is_booted && is_a_name) else {
            return UnitState::Unknown;
        };
        match find(&top, unit) {
            Ok(Some(dir)) => state(unit, read_populated(&dir)),
            Ok(None) => state(unit, Some(false)),
            Err(NotSearched) => UnitState::Unknown,
        }
    }

    /// Where the whole cgroup2 hierarchy is mounted.
    fn read_cgroup_top(&self) -> Option<PathBuf> {
        self.open_cgroups().ok()?.top().map(Path::to_owned)
    }
}

/// A unit without a process needs one if it is a service or a scope.
fn state(unit: &[u8], populated: Option<bool>) -> UnitState {
    let needs_one = unit.ends_with(b".service") || unit.ends_with(b".scope");
    match populated {
        Some(true) => UnitState::Running,
        Some(false) if needs_one => UnitState::NotRunning,
        _ => UnitState::Unknown,
    }
}

/// A slice could not be read, or there were too many.
struct NotSearched;

/// The unit's directory, in whichever slice.
fn find(top: &Path, unit: &[u8]) -> Result<Option<PathBuf>, NotSearched> {
    let (mut open, mut seen) = (vec![top.to_owned()], 0);
    while let Some(dir) = open.pop() {
        seen += 1;
        if seen > MOST_SLICES {
            return Err(NotSearched);
        }
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && dir != top => continue,
            Err(_) => return Err(NotSearched),
        };
        for entry in entries {
            let entry = entry.map_err(|_| NotSearched)?;
            let name = entry.file_name();
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_dir && name.as_encoded_bytes() == unit {
                return Ok(Some(entry.path()));
            }
            if is_dir && name.as_encoded_bytes().ends_with(b".slice") {
                open.push(entry.path());
            }
        }
    }
    Ok(None)
}

/// `populated 1`: processes in it or below.
fn read_populated(dir: &Path) -> Option<bool> {
    match read_bounded(&dir.join("cgroup.events"), 4096) {
        Ok(read) => value_of(&read.bytes, b"populated").map(|populated| populated != 0),
        // Removed meanwhile, as it was empty.
        Err(error) if error.is_gone() && !dir.exists() => Some(false),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    const WHOLE: (&str, &str) = ("proc/self/mountinfo", "1 1 0:1 / /cg rw - cgroup2 none rw\n");
    const BOOTED: (&str, &str) = ("run/systemd/system/x", "");

    #[test]
    fn a_unit_runs_if_its_cgroup_in_the_systems_slices_has_processes() {
        let (_root, host) = fake::host(&[
            WHOLE,
            BOOTED,
            ("cg/system.slice/on.service/cgroup.events", "populated 1\nfrozen 0\n"),
            ("cg/system.slice/off.service/cgroup.events", "populated 0\n"),
            ("cg/system.slice/odd.service/cgroup.events", "nonsense\n"),
            ("cg/system.slice/a.socket/cgroup.events", "populated 0\n"),
            ("cg/a.slice/a-b.slice/deep.service/cgroup.events", "populated 1\n"),
            ("cg/system.slice/c.scope/system.slice/inner.service/cgroup.events", "populated 1\n"),
        ]);
        for (unit, expected) in [
            ("on.service", UnitState::Running),
            ("off.service", UnitState::NotRunning),
            ("odd.service", UnitState::Unknown),
            ("deep.service", UnitState::Running),
            ("inner.service", UnitState::NotRunning),
            ("none.service", UnitState::NotRunning),
            ("a.socket", UnitState::Unknown),
            ("none.socket", UnitState::Unknown),
            ("../on.service", UnitState::Unknown),
            ("", UnitState::Unknown),
        ] {
            assert_eq!(host.read_unit_state(unit.as_bytes()), expected, "{unit}");
        }
    }

    #[test]
    fn without_systemd_or_the_whole_hierarchy_it_is_unknown() {
        let events = ("cg/system.slice/on.service/cgroup.events", "populated 1\n");
        let part = ("proc/self/mountinfo", "1 1 0:1 /part /cg rw - cgroup2 none rw\n");
        let missing = ("proc/self/mountinfo", "1 1 0:1 / /elsewhere rw - cgroup2 none rw\n");
        for files in
            [[WHOLE, events].as_slice(), &[BOOTED, part, events], &[BOOTED, missing], &[BOOTED]]
        {
            let (_root, host) = fake::host(files);
            assert_eq!(host.read_unit_state(b"on.service"), UnitState::Unknown, "{files:?}");
        }
    }
}
