//! Pseudonyms of names: paths, abstract names, programs, users, units, cgroups.
//!
//! One function for all of them, word by word between slashes, so that `nginx` is the same in
//! `/run/nginx/nginx.sock`, `nginx.service` and as a program. What every host has stays: the
//! directories of the filesystem hierarchy, endings such as `.sock`, and how runtimes name the
//! cgroups of containers.

use super::keyed::{Key, Of};

/// What a Unix address holds; what is longer would be cut off in the keys of the kernel's totals.
const LONGEST: usize = 108;
/// Characters of a pseudonym: `x`, then 50 bits.
const TOKEN: usize = 11;

/// Directories and cgroups that every host has, each with those above it.
const EVERYWHERE: [&str; 46] = [
    "/bin",
    "/boot",
    "/dev",
    "/dev/shm",
    "/docker",
    "/etc",
    "/home",
    "/init.scope",
    "/kubepods",
    "/kubepods.slice",
    "/lib",
    "/lib64",
    "/machine.slice",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/run/lock",
    "/run/systemd",
    "/run/user",
    "/sbin",
    "/srv",
    "/sys",
    "/sys/fs",
    "/sys/fs/cgroup",
    "/system.slice",
    "/tmp",
    "/user.slice",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/libexec",
    "/usr/local",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/share",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/lock",
    "/var/log",
    "/var/run",
    "/var/spool",
    "/var/tmp",
];

/// Endings that tell what kind of thing it is.
const ENDINGS: [&[u8]; 8] =
    [b".sock", b".socket", b".service", b".slice", b".scope", b".mount", b".target", b".conf"];

/// What runtimes put before the id of a container, and between it and its slice.
const RUNTIMES: [&[u8]; 4] = [b"docker-", b"cri-containerd-", b"crio-", b"libpod-"];
const BETWEEN: [&[u8]; 2] = [b":cri-containerd:", b":crio:"];

/// The pseudonym of any name. A leading NUL (of an abstract one) and slashes stay.
pub(super) fn name(key: &Key, bytes: &[u8]) -> Vec<u8> {
    let known = known_start(bytes);
    let mut redacted = bytes[..known].to_vec();
    for (index, one) in bytes[known..].split(|byte| *byte == b'/').enumerate() {
        if index != 0 {
            redacted.push(b'/');
        }
        word(key, one, &mut redacted);
    }
    redacted
}

/// The same of what may be the name of a socket: where it would not fit an address, the words at its
/// end become one.
pub(super) fn socket_name(key: &Key, bytes: &[u8]) -> Vec<u8> {
    let whole = name(key, bytes);
    if whole.len() <= LONGEST {
        return whole;
    }
    let slashes = (0..bytes.len()).filter(|at| bytes[*at] == b'/');
    let starts = slashes.map(|at| (name(key, &bytes[..at]), at + 1));
    let fitting = starts.take_while(|(start, _)| start.len() + 1 + TOKEN <= LONGEST).last();
    let (mut redacted, rest) = match fitting {
        Some((start, rest)) => ([start, vec![b'/']].concat(), rest),
        None => (Vec::new(), 0),
    };
    redacted.extend(token(key.hash(Of::Tail, &bytes[rest..])));
    redacted
}

/// How many bytes at the start of a path are on every host: `/var/lib` of `/var/lib/app`.
fn known_start(path: &[u8]) -> usize {
    match path.first() {
        Some(b'/') => {}
        Some(0) => return 1,
        _ => return 0,
    }
    let tree = other_tree(path);
    let ends = (tree + 1..=path.len()).filter(|end| matches!(path.get(*end), None | Some(b'/')));
    let is_known = |end: &usize| EVERYWHERE.iter().any(|it| it.as_bytes() == &path[tree..*end]);
    ends.take_while(is_known).last().unwrap_or(tree)
}

/// The length of a leading `/proc/PID/root` or `/proc/PID/cwd`: a path as another process sees it.
pub(super) fn other_tree(path: &[u8]) -> usize {
    let mut parts = path.split(|byte| *byte == b'/');
    let start = [parts.next(), parts.next(), parts.next(), parts.next()];
    match start {
        [Some(b""), Some(b"proc"), Some(pid), Some(link @ (b"root" | b"cwd"))]
            if !pid.is_empty() && pid.iter().all(u8::is_ascii_digit) =>
        {
            "/proc/".len() + pid.len() + 1 + link.len()
        }
        _ => 0,
    }
}

/// One word between slashes.
fn word(key: &Key, word: &[u8], redacted: &mut Vec<u8>) {
    if matches!(word, b"" | b"." | b"..") {
        redacted.extend(word);
        return;
    }
    if container(key, word, redacted) {
        return;
    }
    let (stem, ending) = split_ending(word);
    redacted.extend(token(key.hash(Of::Word, stem)));
    redacted.extend(ending);
}

fn split_ending(word: &[u8]) -> (&[u8], &[u8]) {
    let known = ENDINGS.iter().find(|ending| word.ends_with(ending) && word != **ending);
    word.split_at(word.len() - known.map_or(0, |ending| ending.len()))
}

/// The cgroup of a container, in the forms that [`crate::host`] knows; false if it is none.
fn container(key: &Key, word: &[u8], redacted: &mut Vec<u8>) -> bool {
    let (stem, ending) = match word.strip_suffix(b".scope") {
        Some(stem) => (stem, b".scope".as_slice()),
        None => (word, b"".as_slice()),
    };
    let Some((start, id)) = stem.split_at_checked(stem.len().wrapping_sub(64)) else {
        return false;
    };
    if !id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return false;
    }
    let between = BETWEEN.iter().find(|it| start.ends_with(it));
    match between {
        Some(between) => {
            let (slice, ending) = split_ending(&start[..start.len() - between.len()]);
            redacted.extend(token(key.hash(Of::Word, slice)));
            redacted.extend(ending);
            redacted.extend(*between);
        }
        None if start.is_empty() || RUNTIMES.contains(&start) => redacted.extend(start),
        None => return false,
    }
    for part in 0..4u8 {
        let digits = key.hash(Of::Container, &[id, &[part]].concat());
        redacted.extend(format!("{digits:016x}").bytes());
    }
    redacted.extend(ending);
    true
}

/// `x` and ten characters: 50 bits of a hash.
fn token(hash: u64) -> [u8; TOKEN] {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let mut token = [b'x'; TOKEN];
    for (place, character) in token[1..].iter_mut().enumerate() {
        let digit = usize::try_from(hash >> (5 * place) & 31);
        *character = DIGITS[digit.unwrap_or_default()];
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{container as container_of, systemd_unit};

    fn of(bytes: impl AsRef<[u8]>) -> String {
        String::from_utf8(name(&Key::new([3; 16]), bytes.as_ref())).expect("printable")
    }

    #[test]
    fn a_path_keeps_its_depth_its_place_and_its_ending() {
        let (app, nginx) = (of("app"), of("nginx"));
        assert_eq!(app.len(), TOKEN);
        assert_eq!(of("/run/nginx/app.sock"), format!("/run/{nginx}/{app}.sock"));
        assert_eq!(of("/var/lib/app"), format!("/var/lib/{app}"));
        assert_eq!(of("/run/user/app/"), format!("/run/user/{app}/"));
        assert_eq!(of("../app//./nginx"), format!("../{app}//./{nginx}"));
        assert_eq!(of("/proc/7/root/run/app"), format!("/proc/7/root/run/{app}"));
        assert_eq!(of("\0app"), format!("\0{app}"));
        for same in ["/", "/run", "/proc/7/cwd", "", "."] {
            assert_eq!(of(same), same);
        }
        for other in ["/app/run", "/runner", "run", "/run.sock", "/proc/x/root", ".sock"] {
            assert!(!of(other).contains("run") && !of(other).contains("root"), "{}", of(other));
        }
    }

    #[test]
    fn units_and_containers_are_still_known_as_such() {
        let id = "0123456789abcdef".repeat(4);
        for path in [
            format!("/system.slice/docker-{id}.scope"),
            format!("/docker/{id}"),
            format!("/kubepods.slice/pod7.slice:cri-containerd:{id}"),
            format!("/machine.slice/libpod-{id}.scope/container"),
        ] {
            let redacted = of(&path);
            let (before, after) =
                (container_of(path.as_bytes()), container_of(redacted.as_bytes()));
            let (before, after) = (before.expect("one"), after.expect("still one"));
            assert_eq!(before.runtime, after.runtime, "{redacted}");
            assert_ne!(after.id, id);
            assert_eq!(
                after.id,
                container_of(of(format!("/docker/{id}")).as_bytes()).expect("one").id
            );
        }
        let path = of("/system.slice/app.service");
        let unit = systemd_unit(path.as_bytes()).expect("a unit");
        assert_eq!(unit, of("app.service").as_bytes());
    }

    #[test]
    fn the_end_of_what_does_not_fit_a_unix_address_becomes_one_word() {
        let of_socket = |text: &str| {
            let redacted = socket_name(&Key::new([3; 16]), text.as_bytes());
            assert!(redacted.len() <= LONGEST, "{text}");
            String::from_utf8(redacted).expect("printable")
        };
        let deep = |last: &str| format!("/tmp{}/{last}", "/a".repeat(50));
        let (one, other) = (of_socket(&deep("b")), of_socket(&deep("c")));
        assert_eq!(one.split('/').count(), 10);
        assert!(one.starts_with(&of("/tmp/a/a/a/a/a/a/")), "{one}");
        assert_ne!(one, other);
        for same in [format!("{}.sock", "/b".repeat(8)), "b".repeat(108)] {
            assert_eq!(of_socket(&same), of(same));
        }
    }

    #[test]
    fn no_two_names_become_one() {
        let mut seen = std::collections::HashSet::new();
        for number in 0..50_000u32 {
            for name in [format!("/run/{number}"), format!("{number}"), format!("\0{number}")] {
                assert!(seen.insert(of(&name)), "{name}");
            }
        }
    }
}
