//! What the incidents share: a directory, a server in a process of its own, an ordinary user, the time
//! that it takes to look.

use std::{
    fs, io,
    io::{Read, Write},
    mem,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::{
        prctl::set_pdeathsig,
        signal::{SigHandler, Signal, kill, signal},
        socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, bind, listen, socket},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{ForkResult, Gid, Pid, Uid, fork, setgroups, setresgid, setresuid, setsid},
};

/// An ordinary user without any right.
pub(super) const NOBODY: u32 = 65534;

/// How whatever a demo makes is named, before its pid.
const NAME: &str = "socktrace-demo-";

/// A directory of a demo's own that goes away with it. It is made and removed by who plays no part in the incident:
/// those who do may be killed.
pub struct OwnDirectory(PathBuf);

impl OwnDirectory {
    /// Makes one, in the temporary directory.
    pub fn make() -> io::Result<Self> {
        let path = std::env::temp_dir().join(Self::name_for(std::process::id()));
        fs::create_dir(&path)?;
        let own = Self(path);
        fs::set_permissions(&own.0, fs::Permissions::from_mode(0o755))?;
        Ok(own)
    }

    /// What the demo of this process names whatever it makes.
    pub(super) fn name_for(pid: u32) -> String {
        format!("{NAME}{pid}")
    }

    pub(super) fn is_name(name: &str) -> bool {
        name.strip_prefix(NAME).is_some_and(|pid| pid.parse::<u32>().is_ok())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for OwnDirectory {
    fn drop(&mut self) {
        // Nobody is left to tell; the directory is in the temporary one.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The directory in which an incident is played.
pub struct Scratch(PathBuf);

impl Scratch {
    /// That which was made for it.
    pub const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

/// Until the files are older than what happens to them, as they would be in an incident: what is read of
/// them then is known to have been so before.
pub(super) fn settle() {
    thread::sleep(Duration::from_millis(50));
}

/// As long as it takes to look into what happened, while all who were part of it are still there.
pub(super) fn linger() {
    thread::sleep(Duration::from_millis(600));
}

pub(super) fn unexpected(what: &'static str) -> io::Error {
    io::Error::other(what)
}

/// Connects that fail, from settled files, and time to look into it.
pub(super) fn fail_to_connect(path: &Path, times: usize) -> io::Result<()> {
    fail(times, || UnixStream::connect(path))
}

/// The same with any way to connect.
pub(super) fn fail<T>(times: usize, connect: impl Fn() -> io::Result<T>) -> io::Result<()> {
    settle();
    for _ in 0..times {
        if connect().is_ok() {
            return Err(unexpected("a connect that had to fail succeeded"));
        }
    }
    linger();
    Ok(())
}

/// Runs as [`NOBODY`], and as root again afterwards: only the effective ids change.
pub(super) fn as_nobody(run: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    setgroups(&[])?;
    let (nobody, root) = (Uid::from_raw(NOBODY), Uid::from_raw(0));
    setresgid(Gid::from_raw(NOBODY), Gid::from_raw(NOBODY), Gid::from_raw(0))?;
    setresuid(nobody, nobody, root)?;
    let result = run();
    setresuid(root, root, root)?;
    result
}

/// A socket that is bound and does not listen.
pub(super) fn bound(
    family: AddressFamily,
    kind: SockType,
    address: &dyn SockaddrLike,
) -> io::Result<OwnedFd> {
    let server = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    bind(server.as_raw_fd(), address)?;
    Ok(server)
}

/// A listener with a backlog of its own.
pub(super) fn listener(
    family: AddressFamily,
    address: &dyn SockaddrLike,
    backlog: i32,
) -> io::Result<OwnedFd> {
    let server = bound(family, SockType::Stream, address)?;
    listen(&server.as_fd(), Backlog::new(backlog)?)?;
    Ok(server)
}

/// Sets an option of a socket that is an `int`.
pub(super) fn set_number(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the value lives through the call, and its size is its own.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length)
    };
    Ok(Errno::result(set).map(drop)?)
}

/// Moves this process, which has one thread, to a network namespace of its own, with a loopback that is up and
/// these settings of `net.ipv4`.
pub(super) fn enter_own_network(settings: &[(&str, &str)]) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    bring_up_loopback()?;
    for (name, value) in settings {
        let path = format!("/proc/sys/net/ipv4/{name}");
        let told = |error| io::Error::other(format!("{path} cannot be set to {value}: {error}"));
        fs::write(&path, value).map_err(told)?;
    }
    Ok(())
}

/// Sets the flag `UP` of `lo` (netdevice(7)).
fn bring_up_loopback() -> io::Result<()> {
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: ifreq is plain data, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = from.cast_signed();
    }
    let up = libc::c_short::try_from(libc::IFF_UP).map_err(io::Error::other)?;
    // SAFETY: both calls get a request that lives through them, with a name and the union's flags; the first
    // fills the flags in before they are read.
    unsafe {
        Errno::result(libc::ioctl(any.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request))?;
        request.ifr_ifru.ifru_flags |= up;
        Errno::result(libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request))?;
    }
    Ok(())
}

/// What is kept until the report is written, and goes when it is dropped.
pub type Kept = Box<dyn std::any::Any + Send>;

/// What this host lacks to stage an incident, as a sentence.
pub(super) fn cannot_be_staged(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why.into())
}

/// A server's line to who started it.
struct Line(UnixStream);

impl Line {
    /// Says that it is ready, and waits for its end.
    fn tell_and_wait(&mut self) -> io::Result<()> {
        self.0.write_all(&[1])?;
        match self.0.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(unexpected("a server was spoken to")),
        }
    }
}

/// A server in a process of its own, which ends with it.
pub(super) struct Server {
    pid: Pid,
    /// Its end is what the server waits for.
    line: Option<UnixStream>,
}

impl Server {
    /// Starts one; `open` is what it does before it waits for its end, with what it keeps open meanwhile.
    pub(super) fn start<T>(open: impl FnOnce() -> io::Result<T>) -> io::Result<Self> {
        Self::fork(|line| {
            // Also where it is stopped, and its line is nobody's any more.
            set_pdeathsig(Signal::SIGKILL)?;
            let _open = open()?;
            line.tell_and_wait()
        })
    }

    /// One that does nothing but `clean` when it ends. It keeps the rights that socktrace gives up while it traces, and
    /// ends also where that is killed; what ends the others is not for it.
    pub(super) fn cleaning(clean: impl FnOnce()) -> io::Result<Self> {
        Self::fork(|line| {
            setsid()?;
            for end in [Signal::SIGTERM, Signal::SIGHUP] {
                // SAFETY: no handler runs.
                unsafe { signal(end, SigHandler::SigIgn) }?;
            }
            let waited = line.tell_and_wait();
            clean();
            waited
        })
    }

    fn fork(live: impl FnOnce(&mut Line) -> io::Result<()>) -> io::Result<Self> {
        let (own, its) = UnixStream::pair()?;
        // SAFETY: the callers have one thread (`Incident::prepare`, `Incident::play`), so no lock is held by
        // another.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => {
                drop(its);
                let mut server = Self { pid: child, line: Some(own) };
                server.hear()?;
                Ok(server)
            }
            ForkResult::Child => {
                drop(own);
                let lived = live(&mut Line(its));
                // Without dropping what belongs to the other process.
                std::process::exit(i32::from(lived.is_err()));
            }
        }
    }

    /// Stops it, and returns when it has stopped.
    pub(super) fn stop(&self) -> io::Result<()> {
        kill(self.pid, Signal::SIGSTOP)?;
        waitpid(self.pid, Some(WaitPidFlag::WUNTRACED))?;
        Ok(())
    }

    /// Lets it go on.
    pub(super) fn go_on(&self) -> io::Result<()> {
        Ok(kill(self.pid, Signal::SIGCONT)?)
    }

    fn hear(&mut self) -> io::Result<()> {
        let heard = self.line.as_mut().map_or(Ok(0), |line| line.read(&mut [0]))?;
        if heard == 0 { Err(unexpected("the demo's server could not start")) } else { Ok(()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.line = None;
        // In case that it is stopped.
        let _ = self.go_on();
        // It ends once its line is closed; nobody is left to tell how.
        let _ = waitpid(self.pid, None);
    }
}
