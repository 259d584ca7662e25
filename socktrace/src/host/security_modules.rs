//! What may forbid a call although files and addresses are in order: security modules and seccomp.
//!
//! Owns the list of active modules, `SELinux`'s switch, a process's labels, and its seccomp mode. Does
//! not own their policies, nor whether one of them refused a certain call: only its log tells.
//!
//! Sources: `/sys/kernel/security/lsm` (`lsm_read()`), without it `lsm_list_modules(2)`, `/sys/fs/selinux/enforce`
//! (`sel_read_enforce()`), `/proc/PID/attr` (`proc_pid_attr_read()`), `/proc/PID/status`
//! (`task_seccomp()`). Whether a process restricted itself with Landlock the kernel shows nowhere:
//! [`SecurityModules::has`] tells that it may have.

use std::path::Path;

use super::bounded::read_bounded;
use super::error::HostError;
use super::{Host, decimal, numbered_lines, words};

/// Longest file here that is read: a label is at most a page, `status` some 2 KiB and a mask of CPUs.
const MOST_BYTES: u64 = 64 << 10;

/// The active security modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityModules {
    /// Their names in the order in which they are asked: `capability`, `landlock`, `yama`,
    /// `apparmor`, `selinux`, `bpf` and so on. `bpf` is there where BPF programs may decide,
    /// whether or not one is attached.
    pub names: Vec<Vec<u8>>,
}

impl SecurityModules {
    /// Whether the module of this name is active in the kernel.
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|found| found == name.as_bytes())
    }
}

/// What security modules call a process. `None` where the module is not active or does not tell.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SecurityLabels {
    /// `attr/current`: the label of the first module that shows one; a context such as
    /// `system_u:system_r:httpd_t:s0` with `SELinux`.
    pub current: Option<Vec<u8>>,
    /// `attr/apparmor/current`, since Linux 5.8: the `AppArmor` label, for [`parse_apparmor_label`].
    pub apparmor: Option<Vec<u8>>,
}

/// What `AppArmor` does with a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppArmorMode {
    /// No profile, or one that allows all: nothing is refused.
    Unconfined,
    /// What the profile does not allow is refused.
    Enforce,
    /// What the profile does not allow is logged only.
    Complain,
    /// What the profile does not allow ends the process.
    Kill,
    /// Several profiles with different modes (`mixed`), or a mode that is not known here.
    Other,
}

/// A process's `AppArmor` profile and mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppArmor<'a> {
    /// The profile's name, or `unconfined`; stacked ones are joined by `//&`.
    pub profile: &'a [u8],
    /// What it does.
    pub mode: AppArmorMode,
}

/// Which seccomp filtering a process is under (`include/uapi/linux/seccomp.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeccompMode {
    /// None.
    Disabled,
    /// read(2), write(2), exit and return from signals only.
    Strict,
    /// BPF filters decide; which calls they refuse is not readable without `CAP_SYS_ADMIN` and a
    /// stop of the process.
    Filter,
}

/// What restrictions a process took on for itself and its descendants. `None` where the kernel does
/// not show it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sandbox {
    /// The mode of its first thread; others may have their own.
    pub seccomp: Option<SeccompMode>,
    /// How many filters decide; since Linux 5.9.
    pub seccomp_filters: Option<u64>,
    /// `no_new_privs`: execve(2) gives no privilege.
    pub no_new_privs: Option<bool>,
}

impl Host {
    /// The active modules. An error where securityfs is not mounted, and the kernel (before 6.8) does not tell
    /// without: then it is unknown.
    pub fn read_security_modules(&self) -> Result<SecurityModules, HostError> {
        let path = self.below("sys/kernel/security/lsm");
        match read_bounded(&path, MOST_BYTES) {
            Ok(read) => Ok(SecurityModules { names: parse_modules(&read.bytes) }),
            Err(error) if error.is_gone() && self.root == Path::new("/") => {
                let names = list_modules().ok_or(error)?.into_iter().map(module_name).collect();
                Ok(SecurityModules { names })
            }
            Err(error) => Err(error),
        }
    }

    /// Whether `SELinux` enforces (`false`: permissive, it only logs). An error that
    /// [`HostError::is_gone`] means that selinuxfs is not there: `SELinux` is off, or not mounted.
    pub fn read_selinux_enforcing(&self) -> Result<bool, HostError> {
        let path = self.below("sys/fs/selinux/enforce");
        match read_bounded(&path, MOST_BYTES)?.bytes.trim_ascii() {
            b"0" => Ok(false),
            b"1" => Ok(true),
            _ => Err(HostError::Malformed { path, line: 1, expected: "0 or 1" }),
        }
    }

    /// What the modules call a process. A module that is not active answers EINVAL, or its file is
    /// not there.
    pub fn read_security_labels(&self, pid: u32) -> SecurityLabels {
        let label = move |host: &Self, entry: &str| {
            let read = read_bounded(&host.proc_path(pid, entry), MOST_BYTES).ok()?;
            parse_label(&read.bytes)
        };
        let labels = move |host: &Self| {
            let (current, apparmor) = ("attr/current", "attr/apparmor/current");
            Ok(SecurityLabels { current: label(host, current), apparmor: label(host, apparmor) })
        };
        self.read_of(pid, labels).unwrap_or_default()
    }

    /// The restrictions that a process took on.
    pub fn read_sandbox(&self, pid: u32) -> Result<Sandbox, HostError> {
        Ok(parse_sandbox(&read_bounded(&self.proc_path(pid, "status"), MOST_BYTES)?.bytes))
    }
}

/// The ids of the active modules in the order in which they are asked; `None` where the kernel has no such call.
fn list_modules() -> Option<Vec<u64>> {
    let call = syscalls::Sysno::lsm_list_modules as libc::c_long;
    let mut ids = [0_u64; 64];
    // 6.8.0 and 6.8.1 take a `size_t` for it, later ones the lower half.
    let mut bytes = u64::try_from(size_of_val(&ids)).ok()?;
    // SAFETY: the kernel writes no more than `bytes` bytes to `ids`, and how many it needed to `bytes`, four or eight
    // bytes; both live through the call. A kernel that does not know the call writes nothing.
    let count = unsafe { libc::syscall(call, ids.as_mut_ptr(), &raw mut bytes, 0_u32) };
    let count = usize::try_from(count).ok()?;
    Some(ids.get(..count)?.to_vec())
}

/// `LSM_ID_*`, `include/uapi/linux/lsm.h`.
fn module_name(id: u64) -> Vec<u8> {
    const FIRST: u64 = 100;
    const NAMES: [&str; 14] = [
        "capability",
        "selinux",
        "smack",
        "tomoyo",
        "apparmor",
        "yama",
        "loadpin",
        "safesetid",
        "lockdown",
        "bpf",
        "landlock",
        "ima",
        "evm",
        "ipe",
    ];
    let known = id.checked_sub(FIRST).and_then(|at| NAMES.get(usize::try_from(at).ok()?));
    known.map_or_else(|| format!("module {id}"), |name| (*name).to_owned()).into_bytes()
}

/// Names with commas between, without a newline.
fn parse_modules(bytes: &[u8]) -> Vec<Vec<u8>> {
    let names = bytes.trim_ascii().split(|&byte| byte == b',');
    names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

/// `SELinux` ends a context with NUL, `AppArmor` a label with a newline.
fn parse_label(bytes: &[u8]) -> Option<Vec<u8>> {
    let end = bytes.iter().rposition(|byte| !matches!(byte, 0 | b'\n'))?;
    bytes.get(..=end).map(<[u8]>::to_vec)
}

/// `NAME (MODE)` or `unconfined` (`aa_label_snxprint()`). A name may hold spaces and parentheses;
/// the mode is last. `None` for what has neither form.
pub fn parse_apparmor_label(label: &[u8]) -> Option<AppArmor<'_>> {
    if label == b"unconfined" {
        return Some(AppArmor { profile: label, mode: AppArmorMode::Unconfined });
    }
    let inner = label.strip_suffix(b")")?;
    let open = inner.iter().rposition(|&byte| byte == b'(')?;
    let mode = match inner.get(open + 1..)? {
        b"enforce" => AppArmorMode::Enforce,
        b"complain" => AppArmorMode::Complain,
        b"kill" => AppArmorMode::Kill,
        b"unconfined" => AppArmorMode::Unconfined,
        _ => AppArmorMode::Other,
    };
    let profile = inner.get(..open)?.strip_suffix(b" ")?;
    (!profile.is_empty()).then_some(AppArmor { profile, mode })
}

/// Lines are safe to split: `Name:` is printed with its newlines escaped.
fn parse_sandbox(bytes: &[u8]) -> Sandbox {
    let value_of = |name: &[u8]| {
        let mut values = numbered_lines(bytes).filter_map(|(_, line)| line.strip_prefix(name));
        words(values.next()?).next().and_then(decimal)
    };
    Sandbox {
        seccomp: value_of(b"Seccomp:").and_then(seccomp_mode),
        seccomp_filters: value_of(b"Seccomp_filters:"),
        no_new_privs: value_of(b"NoNewPrivs:").and_then(|value| match value {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }),
    }
}

fn seccomp_mode(number: u64) -> Option<SeccompMode> {
    match number {
        0 => Some(SeccompMode::Disabled),
        1 => Some(SeccompMode::Strict),
        2 => Some(SeccompMode::Filter),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn fake(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (path, bytes) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
            fs::write(path, bytes).expect("a fake file");
        }
        let host = Host::at(root.path());
        (root, host)
    }

    #[test]
    fn active_modules_are_listed_and_none_are_known_without_securityfs() {
        let (_root, host) =
            fake(&[("sys/kernel/security/lsm", b"lockdown,capability,landlock,yama,apparmor,bpf")]);
        let modules = host.read_security_modules().expect("modules");
        assert!(modules.has("landlock") && modules.has("bpf") && !modules.has("selinux"));
        assert_eq!(modules.names.len(), 6);
        let (_root, host) = fake(&[]);
        assert!(host.read_security_modules().is_err_and(|error| error.is_gone()));
    }

    #[test]
    fn modules_are_called_as_securityfs_calls_them() {
        let names: Vec<Vec<u8>> = [100, 104, 113, 114, 7].map(module_name).into();
        let wanted: [&[u8]; 5] = [b"capability", b"apparmor", b"ipe", b"module 114", b"module 7"];
        assert_eq!(names, wanted);
        let listed = list_modules().map(|ids| ids.into_iter().map(module_name).collect::<Vec<_>>());
        let file = fs::read("/sys/kernel/security/lsm").map(|bytes| parse_modules(&bytes));
        if let (Some(listed), Ok(file)) = (&listed, file) {
            assert_eq!(*listed, file);
        }
        // No kernel is without.
        let capability = b"capability".to_vec();
        assert!(listed.is_none_or(|listed| listed.contains(&capability)));
    }

    #[test]
    fn selinux_enforces_is_permissive_or_unknown() {
        for (text, enforcing) in
            [(b"1".as_slice(), Some(true)), (b"0\n", Some(false)), (b"x", None)]
        {
            let (_root, host) = fake(&[("sys/fs/selinux/enforce", text)]);
            assert_eq!(host.read_selinux_enforcing().ok(), enforcing);
        }
        let (_root, host) = fake(&[]);
        assert!(host.read_selinux_enforcing().is_err_and(|error| error.is_gone()));
    }

    #[test]
    fn labels_lose_their_end_and_nothing_else() {
        let (_root, host) = fake(&[
            ("proc/7/attr/current", b"u:r:httpd_t:s0\0"),
            ("proc/7/attr/apparmor/current", b"/usr/bin/a (b\xff) (complain)\n"),
            ("proc/8/attr/current", b"\n"),
        ]);
        let labels = host.read_security_labels(7);
        assert_eq!(labels.current.as_deref(), Some(b"u:r:httpd_t:s0".as_slice()));
        let apparmor = labels.apparmor.expect("a label");
        let profile = b"/usr/bin/a (b\xff)".as_slice();
        let expected = AppArmor { profile, mode: AppArmorMode::Complain };
        assert_eq!(parse_apparmor_label(&apparmor), Some(expected));
        assert_eq!(host.read_security_labels(8), SecurityLabels::default());
        assert_eq!(host.read_security_labels(9), SecurityLabels::default());
    }

    #[test]
    fn the_mode_is_what_the_label_says() {
        let mode = |label: &[u8]| parse_apparmor_label(label).map(|found| found.mode);
        assert_eq!(mode(b"unconfined"), Some(AppArmorMode::Unconfined));
        assert_eq!(mode(b"chrome (unconfined)"), Some(AppArmorMode::Unconfined));
        assert_eq!(mode(b"docker-default (enforce)"), Some(AppArmorMode::Enforce));
        assert_eq!(mode(b"a//&b (mixed)"), Some(AppArmorMode::Other));
        assert_eq!(mode(b"a (kill)"), Some(AppArmorMode::Kill));
        for bad in [b"".as_slice(), b")", b"(enforce)", b" (enforce)", b"a(enforce)", b"a"] {
            assert_eq!(mode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_sandbox_is_read_by_name_and_unknown_where_it_is_not_shown() {
        let status = b"Name:\tSeccomp:\\n\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n";
        let expected = Sandbox {
            seccomp: Some(SeccompMode::Filter),
            seccomp_filters: Some(3),
            no_new_privs: Some(true),
        };
        assert_eq!(parse_sandbox(status), expected);
        assert_eq!(parse_sandbox(b"Seccomp:\t9\nNoNewPrivs:\t7\n"), Sandbox::default());
        assert_eq!(parse_sandbox(b""), Sandbox::default());
    }

    #[test]
    fn this_process_has_a_seccomp_mode() {
        let sandbox = Host::default().read_sandbox(std::process::id()).expect("a status");
        assert!(sandbox.no_new_privs.is_some(), "{sandbox:?}");
    }
}
