//! Splits a file into frames, and uncompresses each. The file is hostile.
//!
//! Owns the limits on what a frame may hold, and how the reading goes on behind a broken one: at the next
//! four bytes with which a frame begins.

use std::io::{self, Read};

use zstd::{bulk::Decompressor, zstd_safe};

use super::format::MAX_FRAME;

/// What a frame begins with (RFC 8878).
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes that are read at once.
const PIECE: usize = 64 << 10;
/// What a whole frame can have at most: what does not compress grows a little.
const MAX_COMPRESSED: usize = MAX_FRAME + (MAX_FRAME >> 7) + 1024;
/// So many frames may be broken: to find that out of one can take as long as to read it.
const MAX_BROKEN: u32 = 100;
/// Behind so many bytes of no frame there is none to be found.
const MAX_GAP: u64 = 4 * MAX_COMPRESSED as u64;

/// Frames of a file, one after the other.
pub(super) struct Frames<R> {
    from: R,
    decompressor: Decompressor<'static>,
    read: Vec<u8>,
    /// What lies before this, in `read`, is done with.
    at: usize,
    ended: bool,
    broken: u32,
    /// Bytes of no frame since the last one.
    gap: u64,
    /// Bytes that belong to no whole frame.
    pub(super) lost: u64,
    /// Bytes of whole frames.
    pub(super) compressed: u64,
    /// What those held.
    pub(super) uncompressed: u64,
}

impl<R: Read> Frames<R> {
    pub(super) fn new(from: R) -> io::Result<Self> {
        Ok(Self {
            from,
            decompressor: Decompressor::new()?,
            read: Vec::new(),
            at: 0,
            ended: false,
            broken: 0,
            gap: 0,
            lost: 0,
            compressed: 0,
            uncompressed: 0,
        })
    }

    /// The frame with which the file begins, uncompressed; `None` where it begins with none.
    pub(super) fn first(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.next_while(|it| it.lost == 0)
    }

    /// The next whole frame, uncompressed; `None` where there is none any more.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.next_while(|it| !it.gave_up())
    }

    /// Whether so much is broken that the rest was not read.
    pub(super) const fn gave_up(&self) -> bool {
        self.broken >= MAX_BROKEN || self.gap >= MAX_GAP
    }

    fn next_while(&mut self, goes_on: impl Fn(&Self) -> bool) -> io::Result<Option<Vec<u8>>> {
        while goes_on(self) {
            if self.rest().is_empty() && !self.fill()? {
                return Ok(None);
            }
            match self.whole_frame() {
                Some(length) => {
                    if let Some(frame) = self.take(length) {
                        return Ok(Some(frame));
                    }
                }
                None if self.may_grow() && self.fill()? => {}
                None => self.skip_to_next(),
            }
        }
        Ok(None)
    }

    /// Bytes that were read and are of no frame yet.
    fn rest(&self) -> &[u8] {
        &self.read[self.at..]
    }

    /// Length of the frame that begins here, if all of it was read.
    fn whole_frame(&self) -> Option<usize> {
        if !self.rest().starts_with(&MAGIC) {
            return None;
        }
        zstd_safe::find_frame_compressed_size(self.rest()).ok()
    }

    /// Whether what begins here can be a frame of which more is to come.
    fn may_grow(&self) -> bool {
        let begins = self.rest().len().min(MAGIC.len());
        self.rest()[..begins] == MAGIC[..begins] && self.rest().len() < MAX_COMPRESSED
    }

    /// Uncompresses; `None` if it is broken, and then it is skipped.
    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        let packed = &self.read[self.at..self.at + length];
        let Ok(frame) = self.decompressor.decompress(packed, MAX_FRAME) else {
            self.skip_to_next();
            return None;
        };
        self.at += length;
        self.gap = 0;
        self.compressed += length as u64;
        self.uncompressed += frame.len() as u64;
        Some(frame)
    }

    /// Forgets what cannot be a frame: all before the next beginning of one.
    fn skip_to_next(&mut self) {
        let rest = &self.read[self.at..];
        self.broken += u32::from(rest.starts_with(&MAGIC));
        let behind = rest.get(1..).unwrap_or_default();
        let next = behind.windows(MAGIC.len()).position(|bytes| bytes == MAGIC);
        // The last bytes may be the first of a beginning.
        let kept = if self.ended { 0 } else { MAGIC.len() - 1 };
        let skipped = next.map_or_else(|| rest.len().saturating_sub(kept).max(1), |at| at + 1);
        self.at += skipped;
        self.gap += skipped as u64;
        self.lost += skipped as u64;
    }

    /// Reads on; `false` at the end. Doubles what is there, so that a long frame is looked at a few times only.
    fn fill(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        self.read.drain(..self.at);
        self.at = 0;
        let wanted = self.read.len().max(PIECE) as u64;
        let got = self.from.by_ref().take(wanted).read_to_end(&mut self.read)?;
        self.ended = got == 0;
        Ok(got != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &[u8]) -> Vec<u8> {
        let mut compressor = zstd::bulk::Compressor::new(3).expect("a level");
        compressor.include_checksum(true).expect("a flag");
        compressor.compress(text).expect("memory")
    }

    /// What is read, and how many bytes were lost.
    fn read(file: &[u8]) -> (Vec<Vec<u8>>, u64) {
        let mut frames = Frames::new(file).expect("memory");
        let mut all = Vec::new();
        while let Some(frame) = frames.next().expect("no I/O") {
            all.push(frame);
        }
        (all, frames.lost)
    }

    #[test]
    fn whole_frames_are_read_and_a_cut_one_is_lost_with_its_length() {
        let (one, two) = (frame(b"one"), frame(&b"two".repeat(9000)));
        let file = [one.as_slice(), &two].concat();
        for cut in 0..file.len() {
            let (found, lost) = read(&file[..cut]);
            let whole = usize::from(cut >= one.len());
            assert_eq!(found.len(), whole, "{cut}");
            assert_eq!(lost, (cut - whole * one.len()) as u64, "{cut}");
        }
        assert_eq!(read(&file), (vec![b"one".to_vec(), b"two".repeat(9000)], 0));
    }

    #[test]
    fn behind_a_broken_frame_the_next_one_is_read() {
        let (one, two, three) = (frame(b"one"), frame(b"two"), frame(b"three"));
        for at in 0..two.len() {
            let mut broken = two.clone();
            broken[at] ^= 0x40;
            let file = [one.as_slice(), &broken, &three].concat();
            let (found, lost) = read(&file);
            assert!(found.contains(&b"one".to_vec()), "{at}");
            assert!(
                found.contains(&b"three".to_vec()) || lost > two.len() as u64,
                "{at}: {found:?}"
            );
        }
    }

    #[test]
    fn a_frame_that_uncompresses_to_more_than_it_may_is_lost() {
        let bomb = frame(&vec![0; MAX_FRAME + 1]);
        let (found, lost) = read(&[bomb.as_slice(), &frame(b"after")].concat());
        assert_eq!((found, lost), (vec![b"after".to_vec()], bomb.len() as u64));
    }

    #[test]
    fn anything_else_is_lost_and_nothing_more() {
        let (found, lost) = read(&[b"no frame".as_slice(), &frame(b"one"), &MAGIC].concat());
        assert_eq!((found, lost), (vec![b"one".to_vec()], 12));
        assert_eq!(read(&vec![7; 300_000]), (Vec::new(), 300_000));
    }

    #[test]
    fn what_never_ends_and_has_no_frame_is_not_read_for_ever() {
        let mut frames = Frames::new(io::repeat(0)).expect("memory");
        assert_eq!(frames.next().expect("no I/O"), None);
        assert!(frames.gave_up() && frames.lost >= MAX_GAP);
        let mut frames = Frames::new(io::repeat(0)).expect("memory");
        assert_eq!(frames.first().expect("no I/O"), None);
        assert!(frames.lost <= PIECE as u64);
    }

    #[test]
    fn beginnings_without_end_are_given_up_and_a_few_are_not() {
        let few = [MAGIC.repeat(50), frame(b"after")].concat();
        assert_eq!(read(&few), (vec![b"after".to_vec()], 200));
        let many = MAGIC.repeat(5 << 20);
        let mut frames = Frames::new(many.as_slice()).expect("memory");
        assert_eq!(frames.next().expect("no I/O"), None);
        assert!(frames.gave_up());
    }
}
