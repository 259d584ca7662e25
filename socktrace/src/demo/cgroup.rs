//! A cgroup of a demo's own, of version 2 (cgroup-v2.rst). It is removed by who plays no part in the incident, as the
//! directory is.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::stage::{Kept, OwnDirectory, Scratch, Server, cannot_be_staged, unexpected};

/// Where version 2 is mounted: alone, or beside version 1.
const TOPS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Looks at something that must come, and the time between two of them: 20 s.
const LOOKS: u32 = 200;
const BETWEEN: Duration = Duration::from_millis(100);

/// Makes one with these settings, which `controller` has; the freezer belongs to none.
fn make(controller: Option<&str>, settings: &[(&str, &str)]) -> io::Result<Option<Kept>> {
    let top = top()?;
    if let Some(controller) = controller {
        // Only what is on already: what the host's cgroups have is not a demo's to change.
        let on = fs::read_to_string(top.join("cgroup.subtree_control"))?;
        if !on.split_whitespace().any(|it| it == controller) {
            let why = format!("the controller `{controller}` of cgroup version 2 is not on here");
            return Err(cannot_be_staged(why));
        }
    }
    let group = Group(top.join(OwnDirectory::name_for(process::id())));
    // An earlier demo of this pid may have been killed with all that belonged to it.
    let _ = fs::remove_dir(&group.0);
    fs::create_dir(&group.0)?;
    let cleaner = Server::cleaning(|| group.remove())?;
    for (name, value) in settings.iter().filter(|(name, _)| group.0.join(name).exists()) {
        group.set(name, value)?;
    }
    Ok(Some(Box::new(cleaner)))
}

fn top() -> io::Result<PathBuf> {
    let is_unified =
        |top: &&str| statfs(*top).is_ok_and(|it| it.filesystem_type() == CGROUP2_SUPER_MAGIC);
    let found = TOPS.into_iter().find(is_unified);
    found.map(PathBuf::from).ok_or_else(|| {
        cannot_be_staged(format!("no cgroups of version 2 are mounted on {}", TOPS.join(" or ")))
    })
}

/// Any.
pub(super) fn plain() -> io::Result<Option<Kept>> {
    make(None, &[])
}

/// With a twentieth of a CPU.
pub(super) fn with_quota() -> io::Result<Option<Kept>> {
    make(Some("cpu"), &[("cpu.max", "5000 100000")])
}

/// Where tasks are slowed down above so many bytes, and none of it goes to swap.
pub(super) fn with_little_memory() -> io::Result<Option<Kept>> {
    make(Some("memory"), &[("memory.high", "8388608"), ("memory.swap.max", "0")])
}

/// The cgroup of an incident, for who plays it.
pub(super) struct Group(PathBuf);

impl Group {
    /// That which was made for it.
    pub(super) fn of(scratch: &Scratch) -> io::Result<Self> {
        let name = scratch.path().file_name().and_then(|name| name.to_str());
        match name.filter(|name| OwnDirectory::is_name(name)) {
            Some(name) => Ok(Self(top()?.join(name))),
            None => Err(unexpected("only a demo's own cgroup can be frozen or entered")),
        }
    }

    /// Moves this process there.
    pub(super) fn enter(&self) -> io::Result<()> {
        self.set("cgroup.procs", "0")
    }

    /// Until what it returns is dropped.
    pub(super) fn freeze(&self) -> io::Result<Frozen<'_>> {
        self.set("cgroup.freeze", "1")?;
        let frozen = Frozen(self);
        self.comes("cgroup.events", |text| text.contains("frozen 1"))?;
        Ok(frozen)
    }

    /// Until tasks wait for memory for a fifth of the time; where the kernel does not measure that, until the cgroup
    /// has more than it may have.
    pub(super) fn runs_short(&self) -> io::Result<()> {
        if self.0.join("memory.pressure").exists() {
            return self.comes("memory.pressure", |text| waited(text) >= 20.0);
        }
        self.comes("memory.events", |text| {
            text.lines().any(|it| it.starts_with("high ") && it != "high 0")
        })
    }

    /// Once whoever is in it has ended.
    fn remove(&self) {
        // Nobody is left to tell.
        let _ = self.set("cgroup.freeze", "0");
        for _ in 0..3 * LOOKS {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(BETWEEN);
        }
    }

    fn comes(&self, file: &str, is_there: impl Fn(&str) -> bool) -> io::Result<()> {
        for _ in 0..LOOKS {
            if is_there(&fs::read_to_string(self.0.join(file))?) {
                return Ok(());
            }
            thread::sleep(BETWEEN);
        }
        Err(io::Error::other(format!("{}/{file} did not change", self.0.display())))
    }

    fn set(&self, name: &str, value: &str) -> io::Result<()> {
        let path: &Path = &self.0.join(name);
        let told = |error| io::Error::other(format!("{} cannot be set: {error}", path.display()));
        fs::write(path, value).map_err(told)
    }
}

/// A group that is frozen.
pub(super) struct Frozen<'a>(&'a Group);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        // Else its owner does so.
        let _ = self.0.set("cgroup.freeze", "0");
    }
}

/// Per cent of the last 10 seconds in which tasks waited, of `some avg10=1.23 …`.
fn waited(pressure: &str) -> f64 {
    let some = pressure.lines().find_map(|line| line.strip_prefix("some avg10="));
    some.and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(0.0)
}
