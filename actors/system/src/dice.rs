//! Randomness as an argument: restarts are spread by it, tests fix it.

use std::hash::BuildHasher;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// A source of numbers in `[0, 1)`.
pub trait Dice: Send + Sync {
    /// The next number.
    fn draw(&self) -> f64;
}

/// A SplitMix64 sequence from a seed.
#[derive(Debug)]
pub struct SeededDice(AtomicU64);

impl SeededDice {
    /// The sequence of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A sequence that differs from process to process.
    pub fn of_this_process() -> Self {
        Self::new(std::hash::RandomState::new().hash_one(std::process::id()))
    }
}

impl Dice for SeededDice {
    fn draw(&self) -> f64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self
            .0
            .fetch_add(GOLDEN, Ordering::Relaxed)
            .wrapping_add(GOLDEN);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // 53 bits fill a double's mantissa.
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_between_zero_and_one() {
        let (left, right) = (SeededDice::new(7), SeededDice::new(7));
        for _ in 0..1_000 {
            let drawn = left.draw();
            assert!((0.0..1.0).contains(&drawn));
            assert!((drawn - right.draw()).abs() < f64::EPSILON);
        }
    }
}
