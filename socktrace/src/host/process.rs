//! One process: its name, owner, start, cgroup and descriptor limit, by pid.
//!
//! Owns `/proc/PID/{comm,status,stat,cgroup,limits}` and the count of `/proc/PID/fd`. Does not own
//! what the descriptors are (`sockets`). A pid is reused: before a name read here is given to an
//! event, compare the start time with [`same_start`]. Formats: proc(5).

use std::fs;
use std::io::ErrorKind;

use super::error::{Malformed, read_with};
use super::{Host, HostError, decimal, numbered_lines, words};

/// Nanoseconds in one tick of `/proc/PID/stat`: `USER_HZ` is 100 on every architecture that has
/// the BPF trampoline, whatever `CONFIG_HZ` says.
const TICK_NS: u64 = 1_000_000_000 / 100;

/// In `flags`: a thread of the kernel (`include/linux/sched.h`).
const PF_KTHREAD: u64 = 0x0020_0000;

/// A number in `/proc/PID/stat`, counted from 1 as in proc(5).
#[derive(Clone, Copy)]
struct StatField {
    number: usize,
    expected: &'static str,
}

const FLAGS: StatField = StatField { number: 9, expected: "a number in field 9 (flags)" };
const START_TIME: StatField =
    StatField { number: 22, expected: "a number in field 22 (starttime)" };

/// `RLIMIT_NOFILE` of a process. `u64::MAX` (`RLIM_INFINITY`) stands for `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NofileLimits {
    /// The limit that accept(2) meets with EMFILE.
    pub soft: u64,
    /// How far the process may raise it without privilege.
    pub hard: u64,
}

/// Whether `/proc/PID/stat` field 22 belongs to the task whose `group_leader->start_boottime` a
/// BPF program read.
///
/// `do_task_stat()` shows the leader's `start_boottime` cut to ticks by `nsec_to_clock_t()`, so two
/// users of one pid within the same 10 ms cannot be told apart. In a time namespace with a boot
/// offset the kernel adds it to the ticks, and nothing matches: the answer then is "another
/// process", never a wrong one.
pub fn same_start(start_boottime_ns: u64, ticks: u64) -> bool {
    start_boottime_ns / TICK_NS == ticks
}

impl Host {
    /// Every pid that `/proc` shows, ascending. `hidepid=` hides those of other users.
    pub fn read_pids(&self) -> Result<Vec<u32>, HostError> {
        let path = self.below("proc");
        let entries = fs::read_dir(&path).map_err(HostError::read(&path))?;
        let mut pids = Vec::new();
        for entry in entries {
            let name = entry.map_err(HostError::read(&path))?.file_name();
            pids.extend(parse_pid(name.as_encoded_bytes()));
        }
        pids.sort_unstable();
        Ok(pids)
    }

    /// Whether `/proc` shows the process now. An error means that it could not be found out.
    pub fn read_exists(&self, pid: u32) -> Result<bool, HostError> {
        let path = self.proc_path(pid, "");
        match fs::symlink_metadata(&path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(HostError::read(&path)(error)),
        }
    }

    /// The command name: at most 15 bytes that the process chose, newlines and all. Names of
    /// kernel workers are longer (`proc_task_name()`).
    pub fn read_comm(&self, pid: u32) -> Result<Vec<u8>, HostError> {
        read_with(&self.proc_path(pid, "comm"), |bytes| Ok(parse_comm(bytes).to_vec()))
    }

    /// The real uid, as seen from the user namespace of the reader.
    pub fn read_uid(&self, pid: u32) -> Result<u32, HostError> {
        read_with(&self.proc_path(pid, "status"), parse_uid)
    }

    /// The file `stat` as it is: one line, with the name raw.
    pub fn read_stat(&self, pid: u32) -> Result<Vec<u8>, HostError> {
        self.read_of(pid, move |host| read_with(&host.proc_path(pid, "stat"), |it| Ok(it.to_vec())))
    }

    /// When the process started, in ticks since boot; for [`same_start`].
    pub fn read_start_ticks(&self, pid: u32) -> Result<u64, HostError> {
        let read = |bytes: &[u8]| parse_stat(bytes, START_TIME);
        self.read_of(pid, move |host| read_with(&host.proc_path(pid, "stat"), read))
    }

    /// Whether it is a thread of the kernel, which has no descriptors and no namespaces of its own. It may hold back the
    /// answer (`patience`).
    pub(super) fn is_kernel_thread(&self, pid: u32) -> bool {
        let flags = read_with(&self.proc_path(pid, "stat"), |bytes| parse_stat(bytes, FLAGS));
        flags.is_ok_and(|flags| flags & PF_KTHREAD != 0)
    }

    /// The cgroup path: that of the v2 hierarchy, else of the first named v1 one; `None` when the
    /// process is in neither.
    pub fn read_cgroup_path(&self, pid: u32) -> Result<Option<Vec<u8>>, HostError> {
        read_with(&self.proc_path(pid, "cgroup"), |bytes| {
            Ok(parse_cgroup_path(bytes).map(<[u8]>::to_vec))
        })
    }

    /// The descriptor limit.
    pub fn read_nofile_limits(&self, pid: u32) -> Result<NofileLimits, HostError> {
        read_with(&self.proc_path(pid, "limits"), parse_nofile_limits)
    }

    /// How many descriptors are open now. For another user's process it takes `CAP_SYS_PTRACE`
    /// or `CAP_DAC_READ_SEARCH`.
    pub fn read_open_fds(&self, pid: u32) -> Result<usize, HostError> {
        let path = self.proc_path(pid, "fd");
        let entries = fs::read_dir(&path).map_err(HostError::read(&path))?;
        let mut open = 0;
        for entry in entries {
            entry.map_err(HostError::read(&path))?;
            open += 1;
        }
        Ok(open)
    }
}

/// A `/proc` entry that is a process.
pub(super) fn parse_pid(name: &[u8]) -> Option<u32> {
    decimal(name).and_then(|pid| pid.try_into().ok())
}

/// The name without the one newline that `comm_show()` adds.
pub(super) fn parse_comm(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\n").unwrap_or(bytes)
}

/// The real uid, first of the four. Lines are safe to split: `Name:` is printed with its newlines
/// escaped.
pub(super) fn parse_uid(bytes: &[u8]) -> Result<u32, Malformed> {
    let mut last = 1;
    for (line, text) in numbered_lines(bytes) {
        last = line;
        if let Some(values) = text.strip_prefix(b"Uid:") {
            return words(values)
                .next()
                .and_then(decimal)
                .and_then(|uid| uid.try_into().ok())
                .ok_or(Malformed { line, expected: "a real uid after `Uid:`" });
        }
    }
    Err(Malformed { line: last, expected: "a line `Uid:`" })
}

/// A field of `/proc/PID/stat` behind the name. The name in field 2 is printed raw and may hold `)`,
/// spaces and newlines; nothing after it can hold `)`, so the last one ends it.
fn parse_stat(bytes: &[u8], field: StatField) -> Result<u64, Malformed> {
    let malformed = Malformed { line: 1, expected: field.expected };
    let name_end = bytes.iter().rposition(|&byte| byte == b')').ok_or(malformed)?;
    let after_name = bytes.get(name_end + 1..).ok_or(malformed)?;
    words(after_name).nth(field.number - 3).and_then(decimal).ok_or(malformed)
}

/// Lines are `id:controllers:path`; `proc_cgroup_show()` prints the v2 one with id 0 and no
/// controllers, and a named v1 hierarchy as `name=`. A path holds no newline
/// (`cgroup_mkdir()` refuses it) and may hold colons.
pub(super) fn parse_cgroup_path(bytes: &[u8]) -> Option<&[u8]> {
    let mut named = None;
    for (_, line) in numbered_lines(bytes) {
        let mut fields = line.splitn(3, |&byte| byte == b':');
        let (Some(id), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if id == b"0" && controllers.is_empty() {
            return Some(path);
        }
        if controllers.starts_with(b"name=") {
            named = named.or(Some(path));
        }
    }
    named
}

/// The soft and hard limit of the line `Max open files`.
fn parse_nofile_limits(bytes: &[u8]) -> Result<NofileLimits, Malformed> {
    let mut last = 1;
    for (line, text) in numbered_lines(bytes) {
        last = line;
        if let Some(values) = text.strip_prefix(b"Max open files") {
            let mut values = words(values).map(parse_limit);
            return match (values.next().flatten(), values.next().flatten()) {
                (Some(soft), Some(hard)) => Ok(NofileLimits { soft, hard }),
                _ => Err(Malformed { line, expected: "a soft and a hard limit" }),
            };
        }
    }
    Err(Malformed { line: last, expected: "a line `Max open files`" })
}

fn parse_limit(word: &[u8]) -> Option<u64> {
    if word == b"unlimited" { Some(u64::MAX) } else { decimal(word) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Resource, getrlimit, getuid};
    use std::process;

    fn fake(pid: u32, files: &[(&str, &[u8])]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = root.path().join("proc").join(pid.to_string());
        fs::create_dir_all(dir.join("fd")).expect("a fake process");
        for (name, bytes) in files {
            fs::write(dir.join(name), bytes).expect("a fake file");
        }
        let host = Host::at(root.path());
        (root, host)
    }

    #[test]
    fn a_hostile_name_is_read_whole_and_hides_nothing() {
        let stat = b"7 (a) R 1\n\xff) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0\n";
        let (_root, host) = fake(7, &[("comm", b"a) R 1\n\xff\n"), ("stat", stat)]);
        assert_eq!(host.read_comm(7).expect("comm"), b"a) R 1\n\xff");
        assert_eq!(host.read_start_ticks(7).expect("start"), 12345);
        assert!(!host.is_kernel_thread(7));
    }

    #[test]
    fn a_name_of_newlines_loses_only_the_kernels_own() {
        assert_eq!(parse_comm(b"\n\n"), b"\n");
        assert_eq!(parse_comm(b"\n"), b"");
        assert_eq!(parse_comm(b""), b"");
    }

    #[test]
    fn a_thread_of_the_kernel_is_told_by_its_flags() {
        let kernel = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0\n";
        let (_root, host) = fake(2, &[("stat", kernel)]);
        assert!(host.is_kernel_thread(2));
    }

    #[test]
    fn the_real_uid_is_the_first_of_four() {
        let status = b"Name:\tUid:\\n\nUmask:\t0022\nUid:\t1000\t0\t0\t0\nGid:\t5\t5\t5\t5\n";
        assert_eq!(parse_uid(status), Ok(1000));
        let missing = Malformed { line: 2, expected: "a line `Uid:`" };
        assert_eq!(parse_uid(b"Name:\tx\n"), Err(missing));
        assert!(parse_uid(b"Uid:\t\n").is_err());
    }

    #[test]
    fn the_v2_cgroup_wins_and_a_named_v1_hierarchy_stands_in() {
        let hybrid = b"9:name=systemd:/v1\n4:memory:/m\n0::/kubepods.slice:cri:ab\n";
        assert_eq!(parse_cgroup_path(hybrid), Some(b"/kubepods.slice:cri:ab".as_slice()));
        let legacy = b"4:memory:/m\n2:name=a:/first\n1:name=systemd:/second\n";
        assert_eq!(parse_cgroup_path(legacy), Some(b"/first".as_slice()));
        assert_eq!(parse_cgroup_path(b"4:memory:/m\n"), None);
        assert_eq!(parse_cgroup_path(b""), None);
    }

    #[test]
    fn a_descriptor_limit_may_be_unlimited_and_must_be_there() {
        let limits =
            b"Limit  Soft Limit  Hard Limit  Units\nMax open files   1024   unlimited  files\n";
        let expected = NofileLimits { soft: 1024, hard: u64::MAX };
        assert_eq!(parse_nofile_limits(limits), Ok(expected));
        assert!(parse_nofile_limits(b"Max open files   1024\n").is_err());
        assert!(parse_nofile_limits(b"").is_err());
    }

    #[test]
    fn start_times_match_by_whole_ticks() {
        assert!(same_start(123_459_999_999, 12345));
        assert!(same_start(123_450_000_000, 12345));
        assert!(!same_start(123_460_000_000, 12345));
        assert!(!same_start(123_449_999_999, 12345));
    }

    #[test]
    fn pids_are_the_numeric_entries_in_order() {
        let (root, host) = fake(12, &[]);
        for name in ["7", "self", "12x", "99999999999"] {
            fs::create_dir(root.path().join("proc").join(name)).expect("an entry");
        }
        assert_eq!(host.read_pids().expect("pids"), [7, 12]);
        assert!(host.read_exists(12).expect("known"));
        assert!(!host.read_exists(13).expect("known"));
        assert!(host.read_comm(13).is_err_and(|error| error.is_gone()));
    }

    #[test]
    fn an_error_names_its_file_and_line() {
        let (_root, host) = fake(3, &[("stat", b"3 (x) S 1\n")]);
        let error = host.read_start_ticks(3).expect_err("field 22 is missing");
        let text = error.to_string();
        assert!(text.ends_with("/proc/3/stat:1: expected a number in field 22 (starttime)"));
        assert!(!error.is_gone());
    }

    #[test]
    fn this_process_reads_as_itself() {
        let (host, pid) = (Host::default(), process::id());
        let own = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert!(host.read_pids().expect("pids").contains(&pid));
        assert_eq!(host.read_uid(pid).expect("uid"), getuid().as_raw());
        assert_eq!(host.read_nofile_limits(pid).expect("limits").soft, own);
        assert!(host.read_open_fds(pid).expect("fds") >= 3);
        assert!(host.read_start_ticks(pid).expect("start") > 0);
        assert!(host.read_cgroup_path(pid).is_ok());
        assert!(!host.is_kernel_thread(pid));
    }
}
