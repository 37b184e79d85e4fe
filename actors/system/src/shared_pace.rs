//! One rate limit for all partitions of a process.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use refold_domain::pace::Pace;
use tokio::time::Instant;

/// A [`Pace`] that several threads take from.
#[derive(Debug)]
pub(crate) struct SharedPace {
    started: Instant,
    pace: Mutex<Pace>,
}

impl SharedPace {
    /// A pace of `events_per_second`; `None` never waits.
    pub(crate) fn new(events_per_second: Option<u64>) -> Self {
        Self {
            started: Instant::now(),
            pace: Mutex::new(Pace::new(events_per_second, Duration::ZERO)),
        }
    }

    /// Takes `events` and returns how long the taker has to wait before its next events.
    pub(crate) fn take(&self, events: u64) -> Duration {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.take(events, self.started.elapsed())
    }
}
