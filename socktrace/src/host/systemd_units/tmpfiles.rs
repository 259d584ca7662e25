//! Directories that `systemd-tmpfiles` makes at boot: tmpfiles.d(5).
//!
//! Owns lines of type `d`, `D`, `v`, `q` and `Q`, which all make a directory. Does not own whether
//! they were made, nor the clean-up.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Host;
use super::super::numbered_lines;
use super::files::FileReader;
use super::syntax::{expand, list, mode, normal_path};

/// Where the lines are, the first file of a name wins.
const SEARCH: [&str; 4] =
    ["etc/tmpfiles.d", "run/tmpfiles.d", "usr/local/lib/tmpfiles.d", "usr/lib/tmpfiles.d"];

/// Lines that are kept.
const MOST_DIRECTORIES: usize = 1 << 16;

/// A directory that a line asks for. What it leaves out has the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TmpfilesDirectory {
    /// The name of the file that asks for it, raw.
    pub file: Vec<u8>,
    /// The line, from 1.
    pub line: usize,
    /// Its path, made normal.
    pub path: Vec<u8>,
    /// Its mode.
    pub mode: u32,
    /// Its owner; `None`: root.
    pub user: Option<Vec<u8>>,
    /// Its group; `None`: root.
    pub group: Option<Vec<u8>>,
    /// It is made at boot only, not when packages are installed (`!`).
    pub at_boot_only: bool,
}

/// Every directory that `systemd-tmpfiles` would make.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TmpfilesDirectories {
    /// In the order of the files' names. Of lines for one path the first holds.
    pub directories: Vec<TmpfilesDirectory>,
    /// Files and directories that could not be read, or were too long or too many.
    pub unread: u32,
}

impl Host {
    /// Reads every line that asks for a directory.
    pub fn read_tmpfiles_directories(&self) -> TmpfilesDirectories {
        let mut reader = FileReader::default();
        let mut files = BTreeMap::new();
        for dir in SEARCH {
            for (name, path) in reader.entries(&self.below(dir)) {
                if name.ends_with(b".conf") {
                    files.entry(name).or_insert(path);
                }
            }
        }
        let (mut found, mut paths) = (TmpfilesDirectories::default(), BTreeSet::new());
        for (name, path) in files {
            let text = reader.read_unless_masked(self, &path).unwrap_or_default();
            let lines = numbered_lines(&text).filter_map(|(line, text)| parse(&name, line, text));
            for directory in lines {
                if found.directories.len() >= MOST_DIRECTORIES {
                    reader.unread += 1;
                    break;
                }
                if paths.insert(directory.path.clone()) {
                    found.directories.push(directory);
                }
            }
        }
        found.unread = reader.unread;
        found
    }
}

impl TmpfilesDirectories {
    /// The line that asks for this directory.
    pub fn by_path(&self, path: &[u8]) -> Option<&TmpfilesDirectory> {
        let path = normal_path(path)?;
        self.directories.iter().find(|directory| directory.path == path)
    }
}

/// `TYPE PATH MODE USER GROUP AGE ARGUMENT`, with `-` for what is left out. Of specifiers, those of
/// systemd.unit(5) that are no unit's are known.
fn parse(file: &[u8], line: usize, text: &[u8]) -> Option<TmpfilesDirectory> {
    let mut fields = list(text);
    let (kind, modifiers) = fields.next()?.split_first()?;
    let is_known = modifiers.iter().all(|byte| b"!+-=~^$?".contains(byte));
    if !b"dDvqQ".contains(kind) || !is_known {
        return None;
    }
    let no_unit = b"";
    let path = normal_path(&expand(fields.next()?, no_unit)?)?;
    let mut given = || fields.next().filter(|field| !matches!(*field, b"-" | b""));
    let mode_field = given();
    let owner = |field: Option<&[u8]>| {
        // A colon in front: only if it is made now.
        Some(field?.strip_prefix(b":").unwrap_or(field?).to_vec())
    };
    Some(TmpfilesDirectory {
        file: file.to_vec(),
        line,
        path,
        mode: mode_field.and_then(parse_mode).unwrap_or(0o755),
        user: owner(given()),
        group: owner(given()),
        at_boot_only: modifiers.contains(&b'!'),
    })
}

/// `~` masks it by what is there, `:` leaves a directory that exists alone.
fn parse_mode(field: &[u8]) -> Option<u32> {
    let start = field.iter().take_while(|byte| matches!(byte, b'~' | b':')).count();
    mode(field.get(start..)?)
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn directories_are_read_once_each_from_the_first_file_of_a_name() {
        let (root, host) = fake::host(&[
            (
                "usr/lib/tmpfiles.d/a.conf",
                "# no\nd /run/a 0750 www data 10d\nD! /var/run/b\nf /run/c 0644\nd %t/e ~:0700 :x -\n\
                 d /run/%p\nd\n",
            ),
            ("usr/lib/tmpfiles.d/b.conf", "d /run/a 0777\nd /run/own - - grp\n"),
            ("usr/lib/tmpfiles.d/masked.conf", "d /run/masked\n"),
            ("run/tmpfiles.d/b.conf", "d /run/a 0777\nd \"/run/first\"\n"),
        ]);
        std::fs::create_dir_all(root.path().join("etc/tmpfiles.d")).expect("a directory");
        symlink("/dev/null", root.path().join("etc/tmpfiles.d/masked.conf")).expect("a link");
        let found = host.read_tmpfiles_directories();
        let directory =
            |file: &str, line, path: &str, mode, user: Option<&str>| TmpfilesDirectory {
                file: file.into(),
                line,
                path: path.into(),
                mode,
                user: user.map(Into::into),
                group: None,
                at_boot_only: false,
            };
        let expected = [
            TmpfilesDirectory {
                group: Some(b"data".to_vec()),
                ..directory("a.conf", 2, "/run/a", 0o750, Some("www"))
            },
            TmpfilesDirectory {
                at_boot_only: true,
                ..directory("a.conf", 3, "/run/b", 0o755, None)
            },
            directory("a.conf", 5, "/run/e", 0o700, Some("x")),
            directory("b.conf", 2, "/run/first", 0o755, None),
        ];
        assert_eq!((found.directories.as_slice(), found.unread), (expected.as_slice(), 0));
        assert!(found.by_path(b"/run/a/").is_some_and(|found| found.mode == 0o750));
        assert_eq!(found.by_path(b"/run/own"), None);
    }
}
