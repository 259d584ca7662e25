//! Log-linear buckets with a bounded error: H2 with grouping power 4, as the `histogram` crate.
//!
//! Values below 32 have a bucket each; above, every power of two is cut into 16 buckets, so a
//! bucket is at most 1/16 (6.25 %) as wide as its lower bound. The last bucket also takes
//! everything of 2^42 ns (73 minutes) and more.

/// log2 of the number of buckets per power of two.
pub const GROUPING_POWER: u8 = 4;
/// log2 of the first value that no longer has its own bucket.
pub const MAX_VALUE_POWER: u8 = 42;
/// Number of buckets.
pub const BUCKETS: usize = 624;

const CUTOFF_POWER: u32 = GROUPING_POWER as u32 + 1;

/// The bucket that `value` falls into.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "below 32, and below 2^5 after the shift")]
pub fn bucket(value: u64) -> usize {
    if value < 1 << CUTOFF_POWER {
        return value as usize;
    }
    if value >= 1 << MAX_VALUE_POWER {
        return BUCKETS - 1;
    }
    let power = floor_log2(value);
    let within = (value >> (power - u32::from(GROUPING_POWER))) as usize - (1 << GROUPING_POWER);
    (1 << CUTOFF_POWER) + ((power - CUTOFF_POWER) as usize) * (1 << GROUPING_POWER) + within
}

/// A de Bruijn sequence: multiplied with 2^(n+1) - 1, its upper six bits name n.
const DE_BRUIJN: u64 = 0x03f7_9d71_b4cb_0a89;

/// What those six bits stand for.
static POWERS: [u8; 64] = {
    let mut powers = [0; 64];
    let mut power: u8 = 0;
    while power < 64 {
        powers[(DE_BRUIJN.wrapping_mul(u64::MAX >> (63 - power)) >> 58) as usize] = power;
        power += 1;
    }
    powers
};

/// `floor(log2(value))` of a value that is not 0, without the count-leading-zeros instruction,
/// which BPF lacks, and without a branch, each of which the verifier would follow twice.
#[inline(always)]
fn floor_log2(mut value: u64) -> u32 {
    value |= value >> 1;
    value |= value >> 2;
    value |= value >> 4;
    value |= value >> 8;
    value |= value >> 16;
    value |= value >> 32;
    u32::from(POWERS[(DE_BRUIJN.wrapping_mul(value) >> 58) as usize])
}

/// Smallest and largest value of a bucket (the last one is open above).
#[expect(clippy::cast_possible_truncation, reason = "there are 624 buckets")]
pub const fn bounds(bucket: usize) -> (u64, u64) {
    let linear = 1 << CUTOFF_POWER;
    if bucket < linear {
        return (bucket as u64, bucket as u64);
    }
    let power = CUTOFF_POWER + ((bucket - linear) >> GROUPING_POWER) as u32;
    let within = ((bucket - linear) & ((1 << GROUPING_POWER) - 1)) as u64;
    let width = 1u64 << (power - GROUPING_POWER as u32);
    let low = (1u64 << power) + within * width;
    if bucket >= BUCKETS - 1 { (low, u64::MAX) } else { (low, low + width - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_cover_every_value() {
        let mut next = 0;
        for index in 0..BUCKETS {
            let (low, high) = bounds(index);
            assert_eq!(low, next, "bucket {index} starts where the one before ends");
            assert_eq!((bucket(low), bucket(high)), (index, index));
            next = high.wrapping_add(1);
        }
        assert_eq!(next, 0, "the last bucket ends at u64::MAX");
    }

    #[test]
    fn a_bucket_is_at_most_a_sixteenth_as_wide_as_its_lower_bound() {
        for index in 0..BUCKETS - 1 {
            let (low, high) = bounds(index);
            assert!((high - low) * 16 <= low, "bucket {index}: {low}..={high}");
        }
    }
}
