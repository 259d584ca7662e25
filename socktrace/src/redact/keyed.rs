//! The two keyed functions that pseudonyms are made with: a hash, and a permutation.
//!
//! Without the key, nobody can try out names to see which pseudonym they get.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

/// What a hash is of: the same bytes give different hashes for different purposes.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Of {
    /// A word of a name.
    Word,
    /// The end of a path that is too long.
    Tail,
    /// The id of a container.
    Container,
    /// The network part of an IPv4 address.
    Network4,
    /// The network part of an IPv6 address.
    Network6,
    /// One round of a permutation.
    Round,
}

/// The key of one session.
pub(super) struct Key([u8; 16]);

impl Key {
    pub(super) const fn new(key: [u8; 16]) -> Self {
        Self(key)
    }

    /// SipHash-2-4, which nobody can tell from random numbers without the key.
    pub(super) fn hash(&self, of: Of, bytes: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(&[of as u8]);
        hasher.write(bytes);
        hasher.finish()
    }

    /// A permutation of the numbers of `2 * half` bits, another one for each `within`: no two numbers
    /// become one.
    pub(super) fn permute(&self, within: u64, half: u32, number: u64) -> u64 {
        const ROUNDS: u8 = 8;
        let mask = (1 << half) - 1;
        let (mut left, mut right) = (number >> half & mask, number & mask);
        for round in 0..ROUNDS {
            let mut bytes = [round; 17];
            bytes[1..9].copy_from_slice(&within.to_le_bytes());
            bytes[9..].copy_from_slice(&right.to_le_bytes());
            (left, right) = (right, left ^ self.hash(Of::Round, &bytes) & mask);
        }
        left << half | right
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_permutation_meets_every_number_once_and_is_another_one_elsewhere() {
        let key = Key::new([7; 16]);
        let all = |within| (0..256).map(|byte| key.permute(within, 4, byte)).collect::<Vec<_>>();
        assert_eq!(all(1).into_iter().collect::<BTreeSet<_>>().len(), 256);
        assert!(all(1).iter().all(|byte| *byte < 256));
        assert_ne!(all(1), all(2));
    }

    #[test]
    fn another_key_or_purpose_gives_another_hash() {
        let hash = |key: u8, of| Key::new([key; 16]).hash(of, b"nginx");
        assert_ne!(hash(1, Of::Word), hash(2, Of::Word));
        assert_ne!(hash(1, Of::Word), hash(1, Of::Tail));
        assert_eq!(hash(1, Of::Word), hash(1, Of::Word));
    }
}
