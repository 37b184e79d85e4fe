//! Random numbers that can be asked for by position.
//!
//! Nothing here has a state that advances: a number is a function of a key and
//! a counter. The n-th event of a partition is therefore the same however it is
//! reached, and text can be made for one event without making it for others.

/// A source of numbers, all of which follow from one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source(u64);

impl Source {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x5eed_5eed_5eed_5eed))
    }

    /// Another source that has nothing in common with this one.
    pub(crate) fn derive(self, label: u64) -> Self {
        Self(mix(self.at(label) ^ 0x0d15_ea5e_0d15_ea5e))
    }

    /// The number at `counter`.
    #[inline]
    pub(crate) fn at(self, counter: u64) -> u64 {
        mix(self
            .0
            .wrapping_add(counter.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }
}

/// A bijection on 64 bits in which every input bit flips about half of the
/// output bits (the finaliser of SplitMix64).
#[inline]
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// `random` scaled to `0..bound`.
#[inline]
pub(crate) fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

/// A pseudo-random order of `0..len`, without a table: a Feistel network over
/// the next power of four, walked until the value falls inside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permutation {
    len: u64,
    half_bits: u32,
    rounds: [Source; 4],
}

impl Permutation {
    pub(crate) fn new(source: Source, len: u64) -> Self {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        Self {
            len,
            half_bits: bits.div_ceil(2).max(1),
            rounds: [0, 1, 2, 3].map(|round| source.derive(round)),
        }
    }

    /// Where `index` (below `len`) comes to stand.
    pub(crate) fn of(&self, index: u64) -> u64 {
        let mut value = index;
        loop {
            value = self.pass(value);
            if value < self.len {
                return value;
            }
        }
    }

    fn pass(&self, value: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for round in self.rounds {
            (left, right) = (right, left ^ (round.at(right) & mask));
        }
        left << self.half_bits | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_reaches_every_value_once() {
        for len in [1_u64, 2, 3, 4, 5, 100, 1000, 4096, 4097] {
            let order = Permutation::new(Source::new(len), len);
            let mut seen = vec![false; len as usize];
            for index in 0..len {
                let place = order.of(index) as usize;
                assert!(!std::mem::replace(&mut seen[place], true), "{len}: {place}");
            }
        }
    }

    #[test]
    fn numbers_of_two_sources_differ() {
        let one = Source::new(42);
        let same = (0..1000)
            .filter(|&n| one.derive(1).at(n) == one.derive(2).at(n))
            .count();
        assert_eq!(same, 0);
        assert_eq!(below(u64::MAX, 10), 9);
        assert_eq!(below(0, 10), 0);
    }
}
