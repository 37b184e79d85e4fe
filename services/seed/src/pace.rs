//! A bound on events per second over all threads of a process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counts what was admitted since it was made and says how long to wait.
#[derive(Debug)]
pub(crate) struct Pacer {
    started: Instant,
    /// Events per second; 0 for no bound.
    rate: u64,
    admitted: AtomicU64,
}

impl Pacer {
    pub(crate) fn new(rate: u64) -> Self {
        Self {
            started: Instant::now(),
            rate,
            admitted: AtomicU64::new(0),
        }
    }

    /// Admits `events` and returns how long the caller must wait before it
    /// goes on.
    pub(crate) fn admit(&self, events: u64) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        let admitted = self.admitted.fetch_add(events, Ordering::Relaxed) + events;
        let due = Duration::from_secs_f64(admitted as f64 / self.rate as f64);
        due.saturating_sub(self.started.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_rate_nothing_waits() {
        assert_eq!(Pacer::new(0).admit(u64::MAX / 2), Duration::ZERO);
    }

    #[test]
    fn what_was_admitted_early_has_to_wait_for_its_time() {
        let pacer = Pacer::new(1000);
        assert!(pacer.admit(500) > Duration::from_millis(400));
        let wait = pacer.admit(9_500);
        assert!(wait > Duration::from_secs(9) && wait <= Duration::from_secs(10));
    }
}
