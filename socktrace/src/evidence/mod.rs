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
mod tcp_target;
mod units;
mod unix_target;
mod worker;

use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use socktrace_common::TaskKey;

pub use client::Someone;
pub use namespaces::Namespaces;
pub use process::check_process;
pub use worker::{Assignment, Worker};

use self::units::UnitFiles;
use crate::{
    diagnose::{Case, Question, diagnose},
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
}

impl Investigator {
    /// Ready to gather; `namespaces` were opened while that was allowed.
    pub fn new(host: Host, namespaces: Namespaces) -> Self {
        let accounts = host.read_accounts().unwrap_or_default();
        Self { units: UnitFiles::new(host.clone()), host, namespaces, accounts }
    }

    /// What is to be said of an incident that happened at `time_ns` (monotonic) to `actor`; `None` where
    /// no rule is about its kind.
    pub fn investigate(&mut self, of: &Incident, actor: &Actor, time_ns: u64) -> Option<Diagnosis> {
        let case = match of {
            Incident::ConnectFailure(class) => self.connect_failure(class, actor, time_ns)?,
            Incident::AcceptError { errno, .. } => self.accept_error(actor, *errno, time_ns),
        };
        let findings = diagnose(&case);
        let (time_ns, listener) = (monotonic_now_ns(), case.unix_listener());
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
            Question::Accept => {}
        }
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
    use std::{fs, os::unix::fs::symlink, path::Path, time::Instant};

    use super::*;
    use crate::diagnose::checkup;

    /// `/proc` of a host with many processes, each with some sockets open.
    fn busy_host(root: &Path, processes: u32) -> Host {
        let own = Host::default().read_netns(std::process::id()).expect("a namespace");
        let link = |process: &Path, name: &str, to: &str| {
            let at = process.join(name);
            fs::create_dir_all(at.parent().expect("a directory")).expect("directories");
            symlink(to, at).expect("a link");
        };
        let proc = root.join("proc");
        link(&proc.join("thread-self"), "ns/net", &format!("net:[{own}]"));
        fs::create_dir_all(proc.join("self")).expect("a directory");
        fs::write(proc.join("self/mountinfo"), "").expect("a file");
        for pid in 2..processes + 2 {
            let process = proc.join(pid.to_string());
            link(&process, "ns/net", &format!("net:[{own}]"));
            link(&process, "ns/mnt", "mnt:[4026531841]");
            for fd in 0..4 {
                link(&process, &format!("fd/{fd}"), &format!("socket:[{}]", pid * 10 + fd));
            }
            fs::write(process.join("comm"), "busy\n").expect("a file");
        }
        Host::at(root)
    }

    #[test]
    fn a_host_with_ten_thousand_processes_is_asked_within_two_seconds() {
        // In memory: it is 80,000 files.
        let root = tempfile::tempdir_in("/dev/shm").expect("a temporary directory");
        let host = busy_host(root.path(), 10_000);
        let path = root.path().join("app.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("a listener");
        let begin = Instant::now();
        let mut investigator = Investigator::new(host.clone(), Namespaces::open(host));
        let target = Address::Unix(path.into_os_string().into_encoded_bytes());
        let case = investigator.ask(&target, &Someone::Myself);
        let checks = checkup(&case);
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
        let sockets = checks.iter().find(|check| check.name == "sockets").expect("a step");
        assert!(
            format!("{sockets:?}").contains("bound there: stream socket, listens"),
            "{sockets:?}"
        );
    }
}
