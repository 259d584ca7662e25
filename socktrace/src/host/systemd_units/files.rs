//! Which files make up a unit: the search path, masks, links and drop-ins, systemd.unit(5).
//!
//! Owns the order and the bounds. Does not own what is in the files (`syntax` and its users).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::super::Host;
use super::super::bounded::read_bounded;

/// Where the system's manager looks, the first wins. `/lib` is the same as `/usr/lib` on most.
const SEARCH: [&str; 13] = [
    "etc/systemd/system.control",
    "run/systemd/system.control",
    "run/systemd/transient",
    "run/systemd/generator.early",
    "etc/systemd/system",
    "etc/systemd/system.attached",
    "run/systemd/system",
    "run/systemd/system.attached",
    "run/systemd/generator",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "run/systemd/generator.late",
];

/// Longest file that is read; a longer one is taken as not readable.
const MOST_FILE_BYTES: u64 = 256 << 10;
/// Bytes of all files of one reading.
const MOST_BYTES: usize = 32 << 20;
/// Entries of one directory.
const MOST_ENTRIES: usize = 1 << 14;

/// A unit's files, as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitText {
    /// Its name, with the type.
    pub(super) name: Vec<u8>,
    /// A link to `/dev/null` or an empty file comes first. What it hides is in `texts` nevertheless.
    pub(super) masked: bool,
    /// Its file, then its drop-ins in the order in which they apply.
    pub(super) texts: Vec<Vec<u8>>,
}

/// What is at a place where a file may be.
enum Content {
    /// Nothing, on purpose.
    Masked,
    /// Another unit's name: this is only a name for it.
    Alias,
    Text(Vec<u8>),
}

/// Reads files and counts what could not be.
#[derive(Default)]
pub(super) struct FileReader {
    bytes: usize,
    /// Files and directories that could not be read, or were too long or too many.
    pub(super) unread: u32,
}

/// The places of units and their drop-in directories, by name.
#[derive(Default)]
struct Places {
    /// Paths in the order of the search path.
    units: BTreeMap<Vec<u8>, Vec<PathBuf>>,
    /// By name and position in the search path.
    drop_ins: BTreeMap<(Vec<u8>, usize), PathBuf>,
}

impl Host {
    /// Every unit of a type, such as `socket`, and how much could not be read.
    pub(super) fn read_unit_texts(&self, kind: &str) -> (Vec<UnitText>, u32) {
        let mut reader = FileReader::default();
        let places = self.read_places(kind.as_bytes(), &mut reader);
        let mut units = Vec::new();
        for (name, paths) in &places.units {
            units.extend(self.read_unit_text(name, paths, kind, &places, &mut reader));
        }
        (units, reader.unread)
    }

    fn read_places(&self, kind: &[u8], reader: &mut FileReader) -> Places {
        let mut places = Places::default();
        let unit_end = [b".", kind].concat();
        let drop_in_end = [&unit_end, b".d".as_slice()].concat();
        let for_all = [kind, b".d".as_slice()].concat();
        for (position, dir) in SEARCH.iter().enumerate() {
            for (name, path) in reader.entries(&self.below(dir)) {
                if name == for_all || is_named(&name, &drop_in_end) {
                    places.drop_ins.insert((name, position), path);
                } else if is_named(&name, &unit_end) {
                    places.units.entry(name).or_default().push(path);
                }
            }
        }
        places
    }

    /// `None` for an alias, and for a unit whose file could not be read.
    fn read_unit_text(
        &self,
        name: &[u8],
        paths: &[PathBuf],
        kind: &str,
        places: &Places,
        reader: &mut FileReader,
    ) -> Option<UnitText> {
        let mut unit = UnitText { name: name.to_vec(), masked: false, texts: Vec::new() };
        for path in paths {
            match reader.content(self, path)? {
                Content::Masked => unit.masked = true,
                Content::Alias => return None,
                Content::Text(text) => {
                    unit.texts.push(text);
                    break;
                }
            }
        }
        let mut files = BTreeMap::new();
        for dir in places.drop_ins_of(name, kind) {
            for (file, path) in reader.entries(dir) {
                if is_named(&file, b".conf") {
                    files.entry(file).or_insert(path);
                }
            }
        }
        for path in files.values() {
            if let Some(Content::Text(text)) = reader.content(self, path) {
                unit.texts.push(text);
            }
        }
        Some(unit)
    }
}

impl Places {
    /// The drop-in directories of a unit: those of its own name and of its prefixes in each
    /// directory of the search path, then those of all units of the type.
    fn drop_ins_of(&self, name: &[u8], kind: &str) -> Vec<&PathBuf> {
        let mut found = Vec::new();
        let dirs: Vec<_> = drop_in_names(name, kind)
            .into_iter()
            .map(|name| [&name, b".d".as_slice()].concat())
            .collect();
        for position in 0..SEARCH.len() {
            let own = dirs.iter().filter_map(|dir| self.drop_ins.get(&(dir.clone(), position)));
            found.extend(own);
        }
        let for_all = [kind.as_bytes(), b".d"].concat();
        let for_all = |position| self.drop_ins.get(&(for_all.clone(), position));
        found.extend((0..SEARCH.len()).filter_map(for_all));
        found
    }
}

/// `a-b@c.socket` has drop-ins under its name, `a-b@.socket` and `a-.socket`.
fn drop_in_names(name: &[u8], kind: &str) -> Vec<Vec<u8>> {
    let end = [b".", kind.as_bytes()].concat();
    let stem = name.strip_suffix(end.as_slice()).unwrap_or(name);
    let mut stems = vec![stem];
    let prefix = match stem.iter().position(|&byte| byte == b'@') {
        Some(at) => {
            stems.extend(stem.get(..=at).filter(|template| *template != stem));
            stem.get(..at).unwrap_or_default()
        }
        None => stem,
    };
    let dashes = prefix.iter().enumerate().filter(|(_, byte)| **byte == b'-').map(|(at, _)| at);
    stems.extend(dashes.rev().filter_map(|at| prefix.get(..=at)).filter(|part| *part != stem));
    stems.into_iter().map(|stem| [stem, &end].concat()).collect()
}

/// Whether there is a name in front of the ending.
fn is_named(name: &[u8], end: &[u8]) -> bool {
    name.len() > end.len() && name.ends_with(end)
}

impl FileReader {
    /// The entries of a directory by name, sorted; none of one that does not exist.
    pub(super) fn entries(&mut self, dir: &Path) -> BTreeMap<Vec<u8>, PathBuf> {
        let mut found = BTreeMap::new();
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) => {
                self.unread += u32::from(error.kind() != std::io::ErrorKind::NotFound);
                return found;
            }
        };
        for entry in entries {
            match entry {
                Ok(entry) if found.len() < MOST_ENTRIES => {
                    found.insert(entry.file_name().as_bytes().to_vec(), entry.path());
                }
                _ => {
                    self.unread += 1;
                    break;
                }
            }
        }
        found
    }

    /// What is in the file; `None` where it could not be read.
    fn content(&mut self, host: &Host, path: &Path) -> Option<Content> {
        let Ok(target) = fs::read_link(path) else { return self.text(path) };
        if target == Path::new("/dev/null") {
            return Some(Content::Masked);
        }
        if target.file_name() != path.file_name() {
            return Some(Content::Alias);
        }
        let parent = path.parent().unwrap_or(Path::new("/"));
        let target = if target.is_absolute() { host.below(target) } else { parent.join(target) };
        self.text(&target)
    }

    fn text(&mut self, path: &Path) -> Option<Content> {
        match self.read(path)? {
            text if text.is_empty() => Some(Content::Masked),
            text => Some(Content::Text(text)),
        }
    }

    /// All bytes of a file that is not too long.
    pub(super) fn read(&mut self, path: &Path) -> Option<Vec<u8>> {
        let read = read_bounded(path, MOST_FILE_BYTES).ok().filter(|read| !read.cut);
        let read = read.filter(|read| self.bytes + read.bytes.len() <= MOST_BYTES);
        let Some(read) = read else {
            self.unread += 1;
            return None;
        };
        self.bytes += read.bytes.len();
        Some(read.bytes)
    }

    /// As [`Self::read`], and `None` as well where the file is a link to `/dev/null`.
    pub(super) fn read_unless_masked(&mut self, host: &Host, path: &Path) -> Option<Vec<u8>> {
        match fs::read_link(path) {
            Ok(target) if target == OsStr::new("/dev/null") => None,
            Ok(target) if target.is_absolute() => self.read(&host.below(target)),
            _ => self.read(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;
    use std::os::unix::fs::symlink;

    fn unit(units: &[UnitText], name: &str) -> Option<(bool, Vec<String>)> {
        let found = units.iter().find(|unit| unit.name == name.as_bytes())?;
        let text = |text: &Vec<u8>| String::from_utf8(text.clone()).expect("a fake text");
        Some((found.masked, found.texts.iter().map(text).collect()))
    }

    #[test]
    fn the_first_file_wins_and_drop_ins_apply_by_name() {
        let (_root, host) = fake::host(&[
            ("etc/systemd/system/a-b.socket", "own"),
            ("usr/lib/systemd/system/a-b.socket", "vendor"),
            ("usr/lib/systemd/system/a-b.socket.d/20.conf", "20 vendor"),
            ("usr/lib/systemd/system/a-b.socket.d/10.conf", "10"),
            ("usr/lib/systemd/system/a-b.socket.d/readme", "no"),
            ("etc/systemd/system/a-b.socket.d/20.conf", "20 own"),
            ("run/systemd/system/a-.socket.d/15.conf", "15"),
            ("usr/lib/systemd/system/socket.d/90.conf", "90"),
            ("usr/lib/systemd/system/.socket", "no name"),
        ]);
        let (units, unread) = host.read_unit_texts("socket");
        assert_eq!((units.len(), unread), (1, 0));
        let texts = ["own", "10", "15", "20 own", "90"].map(str::to_owned).to_vec();
        assert_eq!(unit(&units, "a-b.socket"), Some((false, texts)));
    }

    #[test]
    fn masks_aliases_and_links_are_told_apart() {
        let (root, host) = fake::host(&[
            ("usr/lib/systemd/system/m.socket", "masked"),
            ("usr/lib/systemd/system/e.socket", "emptied"),
            ("etc/systemd/system/e.socket", ""),
            ("usr/lib/systemd/system/a.socket", "a"),
            ("opt/linked.socket", "linked"),
        ]);
        let dir = root.path().join("etc/systemd/system");
        for (name, target) in [
            ("m.socket", "/dev/null"),
            ("none.socket", "/dev/null"),
            ("alias.socket", "/usr/lib/systemd/system/a.socket"),
            ("linked.socket", "/opt/linked.socket"),
            ("gone.socket", "/opt/gone.socket"),
        ] {
            symlink(target, dir.join(name)).expect("a link");
        }
        let (units, unread) = host.read_unit_texts("socket");
        assert_eq!(unit(&units, "m.socket"), Some((true, vec!["masked".into()])));
        assert_eq!(unit(&units, "e.socket"), Some((true, vec!["emptied".into()])));
        assert_eq!(unit(&units, "none.socket"), Some((true, vec![])));
        assert_eq!(unit(&units, "a.socket"), Some((false, vec!["a".into()])));
        assert_eq!(unit(&units, "alias.socket"), None);
        assert_eq!(unit(&units, "linked.socket"), Some((false, vec!["linked".into()])));
        assert_eq!((unit(&units, "gone.socket"), unread), (None, 1));
    }

    #[test]
    fn what_would_block_or_is_too_long_is_counted_and_not_read() {
        let long = "#".repeat(300 << 10);
        let (root, host) = fake::host(&[("etc/systemd/system/long.socket", &long)]);
        let fifo = root.path().join("etc/systemd/system/fifo.socket");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        assert_eq!(host.read_unit_texts("socket"), (vec![], 2));
    }

    #[test]
    fn an_instance_has_the_drop_ins_of_its_template_and_prefixes() {
        let names = drop_in_names(b"a-b-c@i-j.socket", "socket");
        let expected = ["a-b-c@i-j.socket", "a-b-c@.socket", "a-b-.socket", "a-.socket"];
        assert_eq!(names, expected.map(|name| name.as_bytes().to_vec()));
        assert_eq!(drop_in_names(b"-.socket", "socket"), [b"-.socket".to_vec()]);
    }
}
