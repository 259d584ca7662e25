//! Writing an initramfs: a cpio archive in the "newc" format, which is all that a kernel unpacks.
//!
//! Uncompressed: it goes from the page cache into the guest's memory, and saving disk saves nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process;

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const CONSOLE: u32 = 0o020_600;
/// Character device 5:1.
const CONSOLE_DEVICE: (u32, u32) = (5, 1);
const TRAILER: &str = "TRAILER!!!";

/// An initramfs in the making.
pub(crate) struct Initramfs {
    archive: Vec<u8>,
    directories: BTreeSet<String>,
    libraries: BTreeSet<String>,
    entries: u32,
}

impl Initramfs {
    /// An archive with `/dev/console`, from which the kernel gives init its stdout.
    pub(crate) fn new() -> Result<Self> {
        let mut this = Self {
            archive: Vec::new(),
            directories: BTreeSet::new(),
            libraries: BTreeSet::new(),
            entries: 0,
        };
        this.directory("dev")?;
        this.entry("dev/console", CONSOLE, CONSOLE_DEVICE, &[])?;
        Ok(this)
    }

    /// Adds a directory and those above it; a second time is no error.
    pub(crate) fn directory(&mut self, path: &str) -> Result<()> {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent)?;
        }
        if self.directories.insert(path.to_owned()) {
            self.entry(path, DIRECTORY, (0, 0), &[])?;
        }
        Ok(())
    }

    /// Adds a plain file, and the directories above it.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.content(path, FILE, content)
    }

    /// Adds a program of this machine at `path`, and the libraries that it needs, where they are here.
    pub(crate) fn program(&mut self, path: &str, program: &Path) -> Result<()> {
        for library in libraries(program)? {
            if self.libraries.insert(library.clone()) {
                self.executable(library.trim_start_matches('/'), Path::new(&library))?;
            }
        }
        self.executable(path, program)
    }

    fn executable(&mut self, path: &str, file: &Path) -> Result<()> {
        let content =
            fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        self.content(path, EXECUTABLE, &content)
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry(TRAILER, 0, (0, 0), &[])?;
        Ok(self.archive)
    }

    fn content(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent)?;
        }
        self.entry(path, mode, (0, 0), content)
    }

    /// One entry: header, name, content, each padded to four bytes.
    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        let size = u32::try_from(content.len())
            .with_context(|| format!("{path} is too big for an initramfs (4 GiB)"))?;
        let name_size = u32::try_from(path.len() + 1).context("a path is too long for cpio")?;
        self.entries += 1;
        let (uid, gid, links, mtime, on_major, on_minor, checksum) = (0, 0, 1, 0, 0, 0, 0);
        let (major, minor) = device;
        let fields = [
            self.entries,
            mode,
            uid,
            gid,
            links,
            mtime,
            size,
            on_major,
            on_minor,
            major,
            minor,
            name_size,
            checksum,
        ];
        self.archive.extend(b"070701");
        for field in fields {
            self.archive.extend(format!("{field:08x}").bytes());
        }
        self.archive.extend(path.bytes().chain([0]));
        self.pad();
        self.archive.extend(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.archive.resize(self.archive.len().next_multiple_of(4), 0);
    }
}

/// The libraries that a program of this machine needs, by path, and its loader.
pub(crate) fn libraries(program: &Path) -> Result<Vec<String>> {
    let listing = process::capture(Command::new("ldd").arg(program))?;
    parse_ldd(&listing).with_context(|| format!("{} would not run here", program.display()))
}

fn parse_ldd(listing: &str) -> Result<Vec<String>> {
    if let Some(line) = listing.lines().find(|line| line.ends_with("=> not found")) {
        bail!("{}: is its package installed?", line.trim());
    }
    let words = listing.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(words.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_missing_is_named() {
        let found = parse_ldd("\tlibc.so.6 => /lib/libc.so.6 (0x1)\n\tlibelf.so.1 => not found\n");
        let error = found.map_or_else(|error| error.to_string(), |found| format!("{found:?}"));
        assert!(error.contains("libelf.so.1"), "{error}");
    }

    #[test]
    fn libraries_and_the_loader_are_taken_and_the_vdso_is_not() -> Result<()> {
        let listing = "\tlinux-vdso.so.1 (0x00007ffc)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f1)\n";
        let paths = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(parse_ldd(listing)?, paths);
        Ok(())
    }

    #[test]
    fn an_entry_has_the_header_that_the_kernel_reads() -> Result<()> {
        let mut archive = Initramfs::new()?;
        let before = archive.archive.len();
        archive.file("hi", b"abc")?;
        let entry = &archive.archive[before..];
        let header = "070701000000030000\
                      81a40000000000000000000000010000000000000003\
                      00000000000000000000000000000000\
                      0000000300000000";
        assert_eq!(&entry[..110], header.as_bytes());
        assert_eq!(&entry[110..], b"hi\0\0\0\0abc\0".get(..).unwrap_or_default());
        Ok(())
    }

    #[test]
    fn parents_are_added_once() -> Result<()> {
        let mut archive = Initramfs::new()?;
        archive.file("a/b/one", b"")?;
        archive.file("a/b/two", b"")?;
        let text = String::from_utf8(archive.finish()?)?;
        assert_eq!(text.matches("a/b\0").count(), 1);
        Ok(())
    }
}
