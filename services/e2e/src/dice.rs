//! Random choices of a test that can be made again.

use std::env;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// Fixes the seed, to repeat a run.
const SEED_VARIABLE: &str = "REFOLD_E2E_SEED";

/// A splitmix64 generator whose seed is printed.
#[derive(Debug, Clone)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// Dice from the variable `REFOLD_E2E_SEED`, or from the clock. Prints the seed.
    ///
    /// # Panics
    /// When the variable holds no number.
    pub fn printed(test: &str) -> Self {
        let seed = match env::var(SEED_VARIABLE) {
            Ok(text) => text.parse().expect("REFOLD_E2E_SEED is a number"),
            Err(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(1, |now| u64::from(now.subsec_nanos()) ^ now.as_secs()),
        };
        println!("{test}: REFOLD_E2E_SEED={seed}");
        Self { state: seed }
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A time in `[from, to)` milliseconds.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.draw() % (to - from).max(1))
    }

    /// A number in `[0, below)`.
    pub fn below(&mut self, below: u64) -> u64 {
        self.draw() % below.max(1)
    }
}
