//! Listeners whose owner does something else for a while: stopped, spinning, asleep, out of
//! descriptors, throttled, short of memory.
//!
//! The scenario itself is the server, so that each listener has one owner; the client is an actor.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::socket::{SockFlag, SockType};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getppid};

use super::actor::{Role, prepare};
use super::clock::{now_ns, sleep_ms};
use super::listener::{accepts, loopback};
use super::record::Stalled;
use super::socket::{Address, Listener, accept, bound, listen};
use super::stage::Stage;

/// How long nobody accepts: more than three times the threshold of a stall, as looks at the listeners keep to their share of a
/// CPU, and are rare on one that is emulated.
pub const INSTEAD: Duration = Duration::from_millis(3600);
/// The name of the client.
pub const CLIENT: &str = "st-waiter";
/// Memory of a group that is short of it, bytes.
const LITTLE: usize = 8 << 20;
/// Connections per client.
const CONNECTIONS: u32 = 2;

/// Stopped by SIGSTOP; its client lets it go on.
///
/// # Errors
/// When something does not happen as it is meant to.
pub fn stopped(stage: &mut Stage) -> Result<()> {
    stalled(stage, "stall_stopped", "stopped (SIGSTOP)", |_| {
        raise(Signal::SIGSTOP).context("SIGSTOP")
    })
}

/// Computes.
///
/// # Errors
/// As [`stopped`].
pub fn spinning(stage: &mut Stage) -> Result<()> {
    stalled(stage, "stall_spinning", "on CPU", |_| {
        spin(Instant::now() + INSTEAD);
        Ok(())
    })
}

/// Sleeps.
///
/// # Errors
/// As [`stopped`].
pub fn sleeping(stage: &mut Stage) -> Result<()> {
    stalled(stage, "stall_sleeping", "asleep", |_| {
        std::thread::sleep(INSTEAD);
        Ok(())
    })
}

/// Has no descriptor left.
///
/// # Errors
/// As [`stopped`].
pub fn out_of_descriptors(stage: &mut Stage) -> Result<()> {
    stalled(stage, "stall_descriptors", "out of descriptors", |listener| {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit")?;
        setrlimit(Resource::RLIMIT_NOFILE, 64, hard).context("setrlimit")?;
        let mut taken = Vec::new();
        while let Ok(copy) = listener.fd.try_clone() {
            taken.push(copy);
        }
        let end = Instant::now() + INSTEAD;
        while Instant::now() < end {
            let refused = accept(listener, SockFlag::empty()).err();
            ensure!(refused == Some(Errno::EMFILE), "accept without descriptors: {refused:?}");
            sleep_ms(200);
        }
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).context("setrlimit")
    })
}

/// Computes in a cgroup with a tenth of a CPU.
///
/// # Errors
/// As [`stopped`].
pub fn throttled(stage: &mut Stage) -> Result<()> {
    stalled(stage, "stall_throttled", "throttled by its cgroup", |_| {
        let group = Group::make()?;
        group.enter(std::process::id())?;
        spin(Instant::now() + INSTEAD);
        group.leave()
    })
}

/// Sleeps in a cgroup where another process wants more memory than there is; a kernel without that controller has no
/// such group.
///
/// # Errors
/// As [`stopped`].
pub fn short_of_memory(stage: &mut Stage) -> Result<()> {
    let Some(group) = Group::of_little_memory()? else {
        stage.seen.lacks.push("memory".to_owned());
        return Ok(());
    };
    let dir = group.dir.clone();
    let mut hoarder = prepare::<(), _>(Role::named("st-hoarder"), hoard)?;
    group.enter(hoarder.pid())?;
    hoarder.start()?;
    for look in 0.. {
        if waits_for_memory(&dir)? {
            break;
        }
        let told = |name| fs::read_to_string(dir.join(name)).unwrap_or_default();
        ensure!(
            look < 300,
            "nobody waits for memory: {}{}{}",
            told("memory.pressure"),
            told("memory.current"),
            told("memory.events")
        );
        sleep_ms(100);
    }
    group.enter(std::process::id())?;
    stalled(stage, "stall_memory", "short of memory", |_| {
        std::thread::sleep(INSTEAD);
        Ok(())
    })?;
    let hoarder = Pid::from_raw(hoarder.pid().cast_signed());
    kill(hoarder, Signal::SIGKILL).context("the end of the hoarder")?;
    waitpid(hoarder, None).context("waitpid")?;
    group.leave()
}

/// Takes four times the memory of its group and gives it back, until it is killed.
fn hoard() -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("the end with the scenario")?;
    loop {
        let mut memory = vec![0u8; 4 * LITTLE];
        memory.chunks_mut(4096).for_each(|page| page[0] = 1);
        std::hint::black_box(memory);
    }
}

/// For at least a fifth of the last 10 seconds; where the kernel does not measure that, at least once.
fn waits_for_memory(group: &Path) -> Result<bool> {
    let pressure = group.join("memory.pressure");
    if !pressure.exists() {
        let events = fs::read_to_string(group.join("memory.events")).context("memory.events")?;
        return Ok(!events.contains("high 0"));
    }
    let text = fs::read_to_string(&pressure).context("memory.pressure")?;
    let some = text.strip_prefix("some avg10=").and_then(|rest| rest.split(' ').next());
    Ok(some.context("some")?.parse::<f64>().context("avg10")? >= 20.0)
}

fn stalled(
    stage: &mut Stage,
    name: &str,
    instead: &str,
    do_instead: impl FnOnce(&Listener) -> Result<()>,
) -> Result<()> {
    let at = bound(&loopback(), SockType::Stream)?.1;
    let mut client = prepare(Role::named(CLIENT), move || wait_in_queue(at))?;
    let client_pid = client.pid();
    let listener = listen(&at, SockType::Stream, 16)?;
    stage.listens(name, &listener);
    let before = now_ns()?;
    client.start()?;
    super::listener::wait_queued(&listener, CONNECTIONS)?;
    let queued = now_ns()?;
    do_instead(&listener)?;
    let begin = now_ns()?;
    for _ in 0..CONNECTIONS {
        accept(&listener, SockFlag::empty()).context("accept")?;
    }
    let after = now_ns()?;
    client.finish()?;
    stage.accepted(accepts(name, &listener, CONNECTIONS.into())?);
    stage.seen.stalls.push(Stalled {
        name: name.to_owned(),
        pid: stage.seen.pid,
        listener: listener.address.clone(),
        inode: listener.inode,
        instead: instead.to_owned(),
        client: client_pid,
        connections: CONNECTIONS,
        at_least_ns: begin - queued,
        at_most_ns: after - before,
    });
    Ok(())
}

/// The client: connects, and wakes its server where that is stopped.
fn wait_in_queue(at: Address) -> Result<()> {
    let connect = |_| {
        let socket = at.socket(SockType::Stream, SockFlag::empty())?;
        at.connect(&socket).context("connect")?;
        Ok(socket)
    };
    let sockets = (0..CONNECTIONS).map(connect).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(INSTEAD);
    kill(getppid(), Signal::SIGCONT).context("SIGCONT")?;
    // Until the server has accepted: it then closes.
    for socket in sockets {
        let mut end = [0u8; 1];
        let _closed = nix::unistd::read(socket.as_fd(), &mut end);
    }
    Ok(())
}

fn spin(end: Instant) {
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// A cgroup with a tenth of a CPU, of the unified hierarchy or of the `cpu` controller's own; or with little memory.
struct Group {
    dir: PathBuf,
    parent: PathBuf,
    members: &'static str,
}

impl Group {
    fn make() -> Result<Self> {
        let unified = Path::new("/sys/fs/cgroup");
        let name = format!("scenario-{}", std::process::id());
        if unified.join("cgroup.controllers").is_file() {
            fs::write(unified.join("cgroup.subtree_control"), "+cpu").context("+cpu")?;
            let group = Self::at(unified, &name, "cgroup.procs")?;
            fs::write(group.dir.join("cpu.max"), "10000 100000").context("cpu.max")?;
            return Ok(group);
        }
        let controller = unified.join("cpu");
        if !controller.is_dir() {
            bail!("no cgroup hierarchy with a cpu controller below {}", unified.display());
        }
        let group = Self::at(&controller, &name, "cgroup.procs")?;
        fs::write(group.dir.join("cpu.cfs_period_us"), "100000").context("cfs_period_us")?;
        fs::write(group.dir.join("cpu.cfs_quota_us"), "10000").context("cfs_quota_us")?;
        Ok(group)
    }

    fn of_little_memory() -> Result<Option<Self>> {
        let unified = Path::new("/sys/fs/cgroup");
        let controllers =
            fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default();
        if !controllers.split_whitespace().any(|it| it == "memory") {
            return Ok(None);
        }
        fs::write(unified.join("cgroup.subtree_control"), "+memory").context("+memory")?;
        let group = Self::at(unified, &format!("scenario-{}", std::process::id()), "cgroup.procs")?;
        fs::write(group.dir.join("memory.high"), LITTLE.to_string()).context("memory.high")?;
        Ok(Some(group))
    }

    fn at(parent: &Path, name: &str, members: &'static str) -> Result<Self> {
        let dir = parent.join(name);
        fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
        Ok(Self { dir, parent: parent.to_owned(), members })
    }

    fn enter(&self, pid: u32) -> Result<()> {
        fs::write(self.dir.join(self.members), pid.to_string()).context("entering the cgroup")
    }

    fn leave(self) -> Result<()> {
        let members = self.parent.join(self.members);
        fs::write(members, std::process::id().to_string()).context("leaving the cgroup")?;
        fs::remove_dir(&self.dir).context("removing the cgroup")
    }
}
