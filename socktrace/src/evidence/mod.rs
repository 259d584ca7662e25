//! Gathers the facts of an incident for `diagnose`: who failed, what lies on the path, which sockets
//! there are, what holds their owners up.
//!
//! Owns what is read for which question, and what a fact is worth that was read after the event. Decides
//! nothing. Everything here may be slow by the measure of the live source, and runs on a thread of its
//! own there (`worker`).

mod accept;
mod accepted;
mod client;
mod holders;
mod namespaces;
mod process;
mod security;
mod tcp_target;
mod units;
mod unix_target;
mod worker;

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use nix::errno::Errno;
use socktrace_common::TaskKey;

pub use client::Someone;
pub use namespaces::Namespaces;
pub use process::check_process;
pub use worker::{Assignment, Worker};

use self::units::UnitFiles;
use crate::{
    diagnose::{Case, Question, diagnose, listener_met},
    event::{Actor, Address, Diagnosis, FailureClass, Incident},
    host::{Accounts, Host},
    transport::monotonic_now_ns,
};

/// Gathers facts, one incident after the other.
pub struct Investigator {
    host: Host,
    namespaces: Namespaces,
    units: UnitFiles,
    accounts: Accounts,
    has_lsm_programs: Option<bool>,
}

impl Investigator {
    /// Ready to gather; `namespaces` were opened, and whether BPF programs decide as a security module was asked, while
    /// that was allowed.
    pub fn new(host: Host, namespaces: Namespaces, has_lsm_programs: Option<bool>) -> Self {
        let accounts = host.read_accounts().unwrap_or_default();
        let units = UnitFiles::new(host.clone());
        Self { host, namespaces, units, accounts, has_lsm_programs }
    }

    /// Lets all network namespaces but these go.
    fn keep_only(&mut self, namespaces: &HashSet<u32>) {
        self.namespaces.keep_only(namespaces);
    }

    /// What is to be said of an incident that happened at `time_ns` (monotonic) to `actor`; `None` where
    /// no rule is about its kind.
    pub fn investigate(&mut self, of: &Incident, actor: &Actor, time_ns: u64) -> Option<Diagnosis> {
        let case = match of {
            Incident::ConnectFailure(class) => self.connect_failure(class, actor, time_ns)?,
            Incident::AcceptError { errno, .. } => self.accept_error(actor, *errno, time_ns),
        };
        let findings = diagnose(&case);
        let (time_ns, listener) = (monotonic_now_ns(), listener_met(&case));
        Some(Diagnosis { time_ns, of: of.clone(), listener, findings })
    }

    /// What would become of a connect, if `someone` tried it now.
    pub fn ask(&mut self, target: &Address, someone: &Someone) -> Case {
        let question = match target {
            Address::Unix(name) => Question::Unix(name.clone()),
            Address::Inet(at) => Question::Tcp(*at),
        };
        let mut case = self.open(question, None, None);
        let view = client::imagine(&self.host, someone, &mut case);
        self.gather(&mut case, view);
        case
    }

    fn connect_failure(
        &mut self,
        class: &FailureClass,
        actor: &Actor,
        time_ns: u64,
    ) -> Option<Case> {
        let question = match class.target.address.as_ref()? {
            Address::Unix(name) => Question::Unix(name.clone()),
            Address::Inet(at) => Question::Tcp(*at),
        };
        let mut case = self.open(question, Some(class.errno), Some(time_ns));
        case.client.kind = class.target.kind;
        let view = client::recall(&self.host, actor, class.credentials.as_deref(), &mut case);
        self.gather(&mut case, view);
        Some(case)
    }

    fn gather(&mut self, case: &mut Case, view: Option<client::Sight>) {
        match &case.question {
            Question::Unix(_) => {
                unix_target::gather(&self.host, &mut self.namespaces, &mut self.units, case, view);
            }
            Question::Tcp(_) => {
                tcp_target::gather(&self.host, &mut self.namespaces, &mut self.units, case);
            }
            Question::Accept => return,
        }
        security::gather(&self.host, self.has_lsm_programs, case);
    }

    fn accept_error(&mut self, actor: &Actor, errno: u32, time_ns: u64) -> Case {
        let mut case = self.open(Question::Accept, Some(errno), Some(time_ns));
        accept::gather(&self.host, actor, &mut case);
        case
    }

    fn open(&self, question: Question, errno: Option<u32>, time_ns: Option<u64>) -> Case {
        let errno = errno.and_then(|errno| i32::try_from(errno).ok()).map(Errno::from_raw);
        let mut case = Case::new(question, errno);
        case.time = time_ns.and_then(wall_time);
        case.accounts = self.accounts.clone();
        case
    }
}

/// The wall time of a monotonic one, by both clocks as they are now.
fn wall_time(monotonic_ns: u64) -> Option<SystemTime> {
    let ago = Duration::from_nanos(monotonic_now_ns().saturating_sub(monotonic_ns));
    SystemTime::now().checked_sub(ago)
}

/// Whether the pid is still the process that it was.
fn is_same(host: &Host, task: TaskKey) -> bool {
    let ticks = host.read_start_ticks(task.tgid);
    ticks.is_ok_and(|ticks| crate::host::same_start(task.start_ns, ticks))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        net::{TcpListener, TcpStream},
        os::unix::{
            fs::{MetadataExt, symlink},
            net::{UnixListener, UnixStream},
        },
        path::Path,
        time::Instant,
    };

    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    use super::*;
    use crate::diagnose::{Check, checkup};

    const PROCESSES: u32 = 10_000;
    /// Its first process, which holds what a test makes.
    const FIRST: u32 = 2;
    const BOUND: Duration = Duration::from_secs(2);

    /// `/proc` of a host with many processes, each with some sockets and a pipe open; the first one holds
    /// `held` besides.
    fn busy_host(held: &[String]) -> (tempfile::TempDir, Host) {
        // In memory: it is 100,000 files.
        let root = tempfile::tempdir_in("/dev/shm").expect("a temporary directory");
        let own = Host::default().read_netns(std::process::id()).expect("a namespace");
        let link = |process: &Path, name: &str, to: &str| {
            let at = process.join(name);
            fs::create_dir_all(at.parent().expect("a directory")).expect("directories");
            symlink(to, at).expect("a link");
        };
        let proc = root.path().join("proc");
        link(&proc.join("thread-self"), "ns/net", &format!("net:[{own}]"));
        fs::create_dir_all(proc.join("self")).expect("a directory");
        fs::write(proc.join("self/mountinfo"), "").expect("a file");
        // Who asks is one of the host's, too.
        let (all, me) = (FIRST..FIRST + PROCESSES, std::process::id());
        if !all.contains(&me) {
            link(&proc.join(me.to_string()), "ns/net", &format!("net:[{own}]"));
        }
        for pid in all {
            let process = proc.join(pid.to_string());
            link(&process, "ns/net", &format!("net:[{own}]"));
            link(&process, "ns/mnt", "mnt:[4026531841]");
            for fd in 0..4 {
                link(&process, &format!("fd/{fd}"), &format!("socket:[{}]", pid * 10 + fd));
            }
            link(&process, "fd/4", &format!("pipe:[{}]", pid / 100));
            fs::write(process.join("comm"), "busy\n").expect("a file");
        }
        for (fd, to) in held.iter().enumerate() {
            link(&proc.join(FIRST.to_string()), &format!("fd/{}", 100 + fd), to);
        }
        let host = Host::at(root.path());
        (root, host)
    }

    /// As `/proc` shows a descriptor of it.
    fn descriptor(socket: &impl std::os::fd::AsFd) -> String {
        let socket = socket.as_fd().try_clone_to_owned().expect("a copy");
        format!("socket:[{}]", fs::File::from(socket).metadata().expect("its number").ino())
    }

    /// What is asked within the time that an operator waits for it.
    fn asked<T>(question: &str, ask: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let answer = ask();
        let took = begin.elapsed();
        // For whoever wants the figure (`--nocapture`).
        println!("{question}: {} ms", took.as_millis());
        assert!(took < BOUND, "{question}: {took:?}");
        answer
    }

    fn ask(host: &Host, target: &Address) -> Vec<Check> {
        let namespaces = Namespaces::open(host.clone());
        checkup(&Investigator::new(host.clone(), namespaces, None).ask(target, &Someone::Myself))
    }

    fn said(checks: &[Check], step: &str) -> String {
        let step = checks.iter().find(|check| check.name == step).expect("a step");
        format!("{step:?}")
    }

    #[test]
    fn a_host_with_ten_thousand_processes_is_asked_within_two_seconds() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("app.sock");
        let unix = UnixListener::bind(&path).expect("a listener");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let at = tcp.local_addr().expect("its address");
        let _waits = TcpStream::connect(at).expect("a client");
        let (near, far) = UnixStream::pair().expect("a pair");
        let held = [descriptor(&unix), descriptor(&tcp), descriptor(&near), descriptor(&far)];
        let (_root, host) = busy_host(&held);

        let target = Address::Unix(path.into_os_string().into_encoded_bytes());
        let checks = asked("a path of 10,000 processes", || ask(&host, &target));
        let sockets = said(&checks, "sockets");
        assert!(sockets.contains("bound there: stream socket, listens"), "{sockets}");
        let owners = said(&checks, "owners");
        assert!(owners.contains("(pid 2)"), "{owners}");

        let checks = asked("a port of 10,000 processes", || ask(&host, &Address::Inet(at)));
        let owners = said(&checks, "owners");
        assert!(owners.contains("(pid 2)"), "{owners}");
        let queue = said(&checks, "queue");
        assert!(queue.contains("1 connection"), "{queue}");

        let checks = asked("one of 10,000 processes", || {
            check_process(&host, &mut Namespaces::open(host.clone()), FIRST).expect("a process")
        });
        let listeners = said(&checks, "listeners");
        assert!(listeners.contains(&at.port().to_string()), "{listeners}");
    }

    #[test]
    fn two_thousand_sockets_that_had_the_name_before_are_looked_at_in_one_go() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("app.sock");
        let bind = |_| {
            // Of a socket that was bound there before, the name remains.
            let _gone = fs::remove_file(&path);
            UnixListener::bind(&path).expect("a listener")
        };
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit");
        let listeners: Vec<UnixListener> = (0..2000).map(bind).collect();
        let host = Host::default();
        let target = Address::Unix(path.clone().into_os_string().into_encoded_bytes());
        let checks = asked("a name of 2,000 sockets", || ask(&host, &target));
        let sockets = said(&checks, "sockets");
        assert!(sockets.contains("bound there: stream socket, listens"), "{sockets}");
        assert!(sockets.contains("of the same name, not there"), "{sockets}");
        fs::remove_file(&path).expect("the last one");
        let checks = asked("a name of 2,000 sockets", || ask(&host, &target));
        assert!(said(&checks, "sockets").contains("unix-file-removed"), "{checks:?}");
        drop(listeners);
    }
}
