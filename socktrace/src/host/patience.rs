//! Reading of processes that may hold back what `/proc` says of them.
//!
//! Before the kernel tells of a process what not everybody may know, it asks `ptrace_may_access()`. Some kernels (measured:
//! 6.18.44) wait for `exec_update_lock` first, which `execve()` holds while it closes descriptors; and one of a
//! FUSE file does not close before its server has answered. So a process can hold back, for as long as it likes, `stat`, `wchan`,
//! `syscall`, `attr/*`, and the links below `fd` and `ns`, of `root`, `cwd` and `exe`. It cannot hold back `comm`, `status`,
//! `cgroup`, `limits`, `mountinfo`, `net/*` and the list of descriptors. Only what kills the reader ends the wait.
//!
//! Owns the threads that read such things, and gives one up that waits: it ends when it is answered. A process that holds one of
//! them back is not asked again until then, nor are others of its user when several do.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{Error, ErrorKind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::gettid;

use super::effort::{all_told, counted_here};
use super::{Host, HostError};

/// For how long a process may keep its reader from working.
const PATIENCE: Duration = Duration::from_millis(500);
/// The same while another one holds its reader back.
const LESS_PATIENCE: Duration = Duration::from_millis(100);
/// The same once readers of one pass have waited for [`ALL_PATIENCE`].
const NO_PATIENCE: Duration = Duration::from_millis(10);
/// For how long readers of one pass may be kept from working, all in all.
const ALL_PATIENCE: Duration = Duration::from_secs(2);
/// How often a reader is looked at in the time that it has.
const LOOKS: u32 = 2;

/// Threads that may wait at a time: beyond that, no process is asked.
const MOST_HELD: usize = 16;
/// The same for processes of one user.
const MOST_OF_USER: usize = 4;

/// Processes that hold a reader back, below the root of their host, and the user whose they are.
static HELD: Mutex<BTreeMap<(PathBuf, u32), u32>> = Mutex::new(BTreeMap::new());

/// What is read of one process; `None` for nothing to tell.
pub(super) type Work<T> = Arc<dyn Fn(&Host, u32) -> Option<T> + Send + Sync>;

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told<T> {
    /// By pid, in the order in which they were asked.
    pub(super) answers: Vec<(u32, T)>,
    /// Processes that did not answer.
    pub(super) held_back: Vec<u32>,
}

/// Processes that are being read.
pub(super) struct Reading<T> {
    host: Host,
    work: Work<T>,
    told: Told<T>,
    reader: Option<Reader<T>>,
    /// How long readers have waited for processes that answered in the end, or did not.
    waited: Duration,
}

/// A thread that reads, seen from the one that waits for it.
struct Reader<T> {
    state: Arc<Mutex<State<T>>>,
    /// Nothing is sent: the other end goes with the thread.
    ended: Receiver<()>,
    thread: JoinHandle<()>,
    begun: Instant,
    /// Which question it was at when it was looked at first, when, and its CPU time then.
    seen: Option<(usize, Instant, Duration)>,
}

/// What both have.
struct State<T> {
    thread: i32,
    left: VecDeque<u32>,
    /// Which process it asks.
    current: Option<u32>,
    /// CPU time, once it has ended.
    took: Duration,
    answers: Vec<(u32, T)>,
    given_up: bool,
}

impl Host {
    /// Begins to do `work` for each of these processes.
    pub(super) fn begin_reading<T: Send + 'static>(
        &self,
        pids: impl IntoIterator<Item = u32>,
        work: &Work<T>,
    ) -> Reading<T> {
        let told = Told { answers: Vec::new(), held_back: Vec::new() };
        let mut reading = Reading {
            host: self.clone(),
            work: Arc::clone(work),
            told,
            reader: None,
            waited: Duration::ZERO,
        };
        reading.go_on(pids.into_iter().collect());
        reading
    }

    /// Does `work` for each of these processes, and waits for it.
    pub(super) fn read_each<T: Send + 'static>(
        &self,
        pids: impl IntoIterator<Item = u32>,
        work: &Work<T>,
    ) -> Told<T> {
        self.begin_reading(pids, work).finish()
    }

    /// Reads something of one process.
    pub(super) fn read_of<T: Send + 'static>(
        &self,
        pid: u32,
        read: impl Fn(&Self) -> Result<T, HostError> + Send + Sync + 'static,
    ) -> Result<T, HostError> {
        let work: Work<_> = Arc::new(move |host, _| Some(read(host)));
        let answer = self.read_each([pid], &work).answers.pop();
        answer.map_or_else(|| Err(held_back(self, pid)), |(_, answer)| answer)
    }
}

fn held_back(host: &Host, pid: u32) -> HostError {
    let why = "the process does not answer, as in an execve() that is not done; or others of its user do not";
    HostError::Read { path: host.proc_path(pid, ""), source: Error::new(ErrorKind::TimedOut, why) }
}

impl<T: Send + 'static> Reading<T> {
    /// Waits for the answers.
    pub(super) fn finish(mut self) -> Told<T> {
        while let Some(mut reader) = self.reader.take() {
            let patience = self.patience(&reader);
            let look = reader.ended.recv_timeout(patience / LOOKS);
            let ended = look != Err(RecvTimeoutError::Timeout);
            let state = Arc::clone(&reader.state);
            let mut state = lock(&state);
            if !ended && !reader.is_held_back(&state, patience) {
                self.reader = Some(reader);
                continue;
            }
            self.waited += reader.waited(&state);
            // One that has ended is still at work only after a panic.
            if let Some(pid) = state.current {
                self.told.held_back.push(pid);
                state.given_up = !ended;
                if state.given_up {
                    let owner = owner(&self.host, pid);
                    lock(&HELD).insert((self.host.root.clone(), pid), owner);
                }
            }
            self.told.answers.append(&mut state.answers);
            counted_here(((), state.worked()));
            let left = std::mem::take(&mut state.left);
            drop(state);
            if ended {
                // Who forks afterwards relies on there being no other thread.
                let _panic_is_told = reader.thread.join();
            }
            self.go_on(left);
        }
        self.told
    }

    /// For how long one process may keep this reader waiting.
    fn patience(&self, reader: &Reader<T>) -> Duration {
        if self.waited + reader.waited(&lock(&reader.state)) >= ALL_PATIENCE {
            NO_PATIENCE
        } else if held(&self.host).is_empty() {
            PATIENCE
        } else {
            LESS_PATIENCE
        }
    }

    /// Has another thread read the rest, but for those that hold one back already.
    fn go_on(&mut self, mut left: VecDeque<u32>) {
        let held = held(&self.host);
        if !held.is_empty() {
            left.retain(|&pid| {
                let is_asked = is_asked(&held, pid, || owner(&self.host, pid));
                self.told.held_back.extend((!is_asked).then_some(pid));
                is_asked
            });
        }
        if left.is_empty() {
            return;
        }
        match Reader::start(&self.host, &self.work, left) {
            Ok(reader) => self.reader = Some(reader),
            Err(left) => self.told.held_back.extend(left),
        }
    }
}

impl<T: Send + 'static> Reader<T> {
    /// The processes again where there is no thread to be had.
    fn start(host: &Host, work: &Work<T>, left: VecDeque<u32>) -> Result<Self, VecDeque<u32>> {
        let state = Arc::new(Mutex::new(State {
            thread: 0,
            left,
            current: None,
            took: Duration::ZERO,
            answers: Vec::new(),
            given_up: false,
        }));
        let (end, ended) = channel();
        let (host, work, theirs) = (host.clone(), Arc::clone(work), Arc::clone(&state));
        let run = move || read_all(&host, &work, &theirs, &end);
        match Builder::new().name("read-processes".into()).spawn(run) {
            Ok(thread) => Ok(Self { state, ended, thread, begun: Instant::now(), seen: None }),
            Err(_) => Err(std::mem::take(&mut lock(&state).left)),
        }
    }

    /// How long it has not worked since it began.
    fn waited(&self, state: &State<T>) -> Duration {
        self.begun.elapsed().saturating_sub(state.worked())
    }

    /// Whether it sleeps, and has not worked for so long since it was first seen to ask the process that it asks. One that has
    /// not come to a CPU, or a machine that stood still, does not make it so.
    fn is_held_back(&mut self, state: &State<T>, patience: Duration) -> bool {
        let (left, ran) = (state.left.len(), state.worked());
        match self.seen {
            Some((question, since, before)) if question == left && state.current.is_some() => {
                let worked = ran.saturating_sub(before);
                since.elapsed().saturating_sub(worked) >= patience / LOOKS
                    && is_asleep(state.thread)
            }
            _ => {
                self.seen = Some((left, Instant::now(), ran));
                false
            }
        }
    }
}

/// Asks one process after the other, until there are no more or nobody waits for the answers.
fn read_all<T>(host: &Host, work: &Work<T>, state: &Mutex<State<T>>, _end: &Sender<()>) {
    let mut next = {
        let mut state = lock(state);
        state.thread = gettid().as_raw();
        state.turn()
    };
    while let Some(pid) = next {
        let answer = work(host, pid);
        let mut state = lock(state);
        if state.given_up {
            lock(&HELD).remove(&(host.root.clone(), pid));
            return;
        }
        state.answers.extend(answer.map(|answer| (pid, answer)));
        next = state.turn();
    }
    let ((), took) = all_told(|| ());
    lock(state).took = took;
}

impl<T> State<T> {
    /// CPU time so far. The clock of one that has ended may be another thread's.
    fn worked(&self) -> Duration {
        if self.took.is_zero() { thread_time(self.thread) } else { self.took }
    }

    /// Goes on to the next process.
    fn turn(&mut self) -> Option<u32> {
        self.current = self.left.pop_front();
        self.current
    }
}

/// Those of this host, by pid.
fn held(host: &Host) -> BTreeMap<u32, u32> {
    let all = lock(&HELD);
    let own = all.iter().filter(|((root, _), _)| *root == host.root);
    own.map(|((_, pid), owner)| (*pid, *owner)).collect()
}

/// Whether the process is asked, while these hold readers back.
fn is_asked(held: &BTreeMap<u32, u32>, pid: u32, owner: impl FnOnce() -> u32) -> bool {
    let of_user = |user| held.values().filter(|it| **it == user).count();
    held.len() < MOST_HELD && !held.contains_key(&pid) && of_user(owner()) < MOST_OF_USER
}

/// The user who started the process: not that of its directory, which is root's where it does not let itself be traced.
fn owner(host: &Host, pid: u32) -> u32 {
    host.read_credentials(pid).map_or(0, |credentials| credentials.uid)
}

/// CPU time of a thread of this process (`CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED`, `include/linux/posix-timers.h`).
fn thread_time(thread: i32) -> Duration {
    let clock = ClockId::from_raw(!thread << 3 | 6);
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

/// Whether a thread of this process neither runs nor waits for a CPU. One that cannot be looked at is not waited for.
fn is_asleep(thread: i32) -> bool {
    let status = fs::read(format!("/proc/self/task/{thread}/status")).unwrap_or_default();
    !status.windows(8).any(|bytes| bytes == b"State:\tR")
}

/// Nothing is done under a lock that could panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use std::fs::OpenOptions;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Processes of a fake tree with an answer each; a FIFO that nobody writes to holds the reader of these back.
    struct Tree {
        root: tempfile::TempDir,
        silent: Vec<u32>,
    }

    impl Tree {
        fn new(pids: impl Iterator<Item = u32>, silent: &[u32]) -> Self {
            let root = tempfile::tempdir().expect("a temporary directory");
            let tree = Self { root, silent: silent.to_vec() };
            for pid in pids {
                fs::create_dir_all(tree.file(pid).parent().expect("a directory"))
                    .expect("a fake process");
                if silent.contains(&pid) {
                    mkfifo(&tree.file(pid), Mode::S_IRUSR | Mode::S_IWUSR).expect("a FIFO");
                } else {
                    fs::write(tree.file(pid), "7").expect("a file");
                }
            }
            tree
        }

        fn file(&self, pid: u32) -> PathBuf {
            self.root.path().join(format!("proc/{pid}/answer"))
        }

        fn read(&self, pids: impl IntoIterator<Item = u32>) -> (Vec<u32>, Vec<u32>) {
            let read: Work<()> =
                Arc::new(|host, pid| fs::read(host.proc_path(pid, "answer")).ok().map(|_| ()));
            let told = Host::at(self.root.path()).read_each(pids, &read);
            (told.answers.into_iter().map(|(pid, ())| pid).collect(), told.held_back)
        }
    }

    impl Drop for Tree {
        /// Lets the readers go.
        fn drop(&mut self) {
            for pid in &self.silent {
                let host = Host::at(self.root.path());
                let held = || held(&host).contains_key(pid);
                if held() {
                    drop(OpenOptions::new().write(true).open(self.file(*pid)));
                }
                while held() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    #[test]
    fn a_process_that_holds_back_is_left_out_and_the_others_are_read() {
        let tree = Tree::new(1..=9, &[4]);
        let others = vec![1, 2, 3, 5, 6, 7, 8, 9];
        assert_eq!(tree.read(1..=9), (others.clone(), vec![4]));
        let begun = Instant::now();
        assert_eq!(tree.read(1..=9), (others, vec![4]), "while it still does");
        assert_eq!(tree.read([4]), (vec![], vec![4]));
        assert!(begun.elapsed() < LESS_PATIENCE, "it was waited for again");
        let held = Host::at(tree.root.path()).read_of(4, |_| Ok(())).expect_err("held back");
        assert!(!held.is_gone() && held.to_string().contains("does not answer"), "{held}");
    }

    #[test]
    fn processes_that_answer_late_use_up_the_patience_for_all() {
        let late: Work<()> = Arc::new(|_, pid| {
            std::thread::sleep(Duration::from_millis(if pid < 900 { 300 } else { 1 }));
            Some(())
        });
        let tree = Tree::new(std::iter::empty(), &[]);
        let host = Host::at(tree.root.path());
        let begun = Instant::now();
        let told = host.read_each(1..=900, &late);
        assert!(begun.elapsed() < 2 * ALL_PATIENCE, "{:?}", begun.elapsed());
        // Nobody knows how many come to answer on a busy machine until then.
        assert!(!told.answers.is_empty() && told.held_back.len() >= 800, "{told:?}");
        while !held(&host).is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn once_it_answers_it_is_asked_again() {
        let tree = Tree::new(1..=2, &[2]);
        assert_eq!(tree.read(1..=2), (vec![1], vec![2]));
        drop(OpenOptions::new().write(true).open(tree.file(2)).expect("its reader waits"));
        fs::remove_file(tree.file(2)).expect("the FIFO");
        fs::write(tree.file(2), "7").expect("a file");
        let answers = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            tree.read(1..=2) == (vec![1, 2], vec![])
        });
        assert!(answers);
    }

    #[test]
    fn of_a_user_with_several_that_hold_back_nobody_is_asked() {
        let silent: Vec<u32> = (1..=8).collect();
        let tree = Tree::new(1..=9, &silent);
        let (answers, held_back) = tree.read(1..=9);
        assert_eq!((answers, held_back.len()), (vec![], 9));
        assert_eq!(held(&Host::at(tree.root.path())).len(), MOST_OF_USER);
    }

    #[test]
    fn others_are_asked_as_long_as_threads_may_wait() {
        let held =
            |count: u32, user: fn(u32) -> u32| (1..=count).map(|pid| (pid, user(pid))).collect();
        let by_many = held(15, |pid| pid);
        assert!(is_asked(&by_many, 90, || 3));
        assert!(!is_asked(&by_many, 7, || 3), "it holds a reader back itself");
        assert!(!is_asked(&held(16, |pid| pid), 90, || 3), "too many wait");
        let by_one = held(4, |_| 1000);
        assert!(!is_asked(&by_one, 90, || 1000) && is_asked(&by_one, 90, || 0));
    }

    #[test]
    fn a_reader_that_is_at_work_is_waited_for() {
        let until = Instant::now() + 3 * PATIENCE;
        let busy: Work<()> = Arc::new(move |_, _| {
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            Some(())
        });
        let told = Host::default().read_each([1], &busy);
        assert_eq!(told, Told { answers: vec![(1, ())], held_back: vec![] });
    }

    #[test]
    fn who_waits_for_a_cpu_is_not_asleep() {
        let spins = AtomicBool::new(true);
        let (say, said) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                say.send(gettid().as_raw()).expect("somebody listens");
                while spins.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let spinning = said.recv().expect("a thread");
            let asleep = (0..100).filter(|_| is_asleep(spinning)).count();
            spins.store(false, Ordering::Relaxed);
            assert_eq!(asleep, 0);
        });
        let (sleeping, ended) = channel::<()>();
        let sleeper = std::thread::spawn(move || {
            say.send(gettid().as_raw()).expect("somebody listens");
            let _it_is_dropped = ended.recv();
        });
        let thread = said.recv().expect("a thread");
        let asleep = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            is_asleep(thread)
        });
        drop(sleeping);
        sleeper.join().expect("it ends");
        assert!(asleep);
    }

    #[test]
    fn a_process_at_which_the_reader_fails_is_left_out() {
        let work: Work<()> = Arc::new(|_, pid| {
            assert_ne!(pid, 2, "on purpose");
            Some(())
        });
        let told = Host::default().read_each([1, 2, 3], &work);
        assert_eq!(told, Told { answers: vec![(1, ()), (3, ())], held_back: vec![2] });
        assert!(held(&Host::default()).is_empty());
    }
}
