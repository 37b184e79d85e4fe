//! All randomness of a simulation, from one seed.

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use fastrand::Rng;

/// A sequence of random answers. Everything of a simulation runs on one thread, so the order of
/// questions is part of what the seed decides.
#[derive(Debug)]
pub(crate) struct Chance(Mutex<Rng>);

impl Chance {
    /// The sequence of `seed` for a purpose: two purposes have nothing to do with each other.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mixed = xxhash_rust::xxh3::xxh3_64_with_seed(&seed.to_be_bytes(), purpose);
        Self(Mutex::new(Rng::with_seed(mixed)))
    }

    fn rng(&self) -> MutexGuard<'_, Rng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `true` with this probability.
    pub(crate) fn odds(&self, probability: f64) -> bool {
        probability > 0.0 && self.rng().f64() < probability
    }

    /// A number of an interval.
    pub(crate) fn between(&self, range: RangeInclusive<u64>) -> u64 {
        self.rng().u64(range)
    }

    /// One of some values.
    pub(crate) fn pick<T: Copy>(&self, of: &[T]) -> T {
        of[self.rng().usize(0..of.len())]
    }

    /// A time around a mean, at least 1 ms: mostly shorter, now and then eight times as long.
    pub(crate) fn time(&self, mean: Duration) -> Duration {
        let drawn = -(1.0 - self.rng().f64()).ln();
        let time = mean.mul_f64(drawn.min(8.0));
        Duration::from_millis(time.as_millis().max(1) as u64)
    }
}
