//! Writing an initramfs: a cpio archive in the "newc" format, which is all that a kernel unpacks.
//!
//! Uncompressed: it goes from the page cache into the guest's memory, and saving disk saves nothing.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

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
    entries: u32,
}

impl Initramfs {
    /// An archive with `/dev/console`, from which the kernel gives init its stdout.
    pub(crate) fn new() -> Result<Self> {
        let mut this = Self { archive: Vec::new(), directories: BTreeSet::new(), entries: 0 };
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

    /// Adds a file that can be run, and the directories above it.
    pub(crate) fn executable(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.content(path, EXECUTABLE, content)
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

#[cfg(test)]
mod tests {
    use super::*;

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
