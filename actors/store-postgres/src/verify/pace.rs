//! The pace of one worker of a scan.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use refold_domain::pace::Pace;

use crate::portions::PORTION;

/// Holds a worker to its rows a second. What it missed while it had to stand back it does not make
/// up for: that would be a burst in the moment after others wanted the processors.
pub(super) struct WorkerPace {
    began: Instant,
    pace: Mutex<Pace>,
}

impl WorkerPace {
    /// A pace of `rate` rows a second; `None` never waits.
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self {
            began: Instant::now(),
            pace: Mutex::new(Pace::new(rate, Duration::ZERO).with_bucket(PORTION)),
        }
    }

    /// Takes `rows` and waits until the next may be read.
    pub(super) async fn wait(&self, rows: u64) {
        let wait = {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.take(rows, self.began.elapsed())
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}
