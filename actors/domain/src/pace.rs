//! Pacing: how long a replay has to wait before it may take more events, and a scan before it may
//! take more rows.

use std::time::Duration;

/// A token bucket over a monotonic clock that the caller brings.
///
/// Tokens are events or rows. The bucket holds little, by default a tenth of a second's worth, so
/// that a pause is not followed by a burst. A batch may be larger than the
/// bucket: it is admitted and the debt is waited for afterwards.
#[derive(Debug, Clone)]
pub struct Pace {
    per_second: Option<f64>,
    /// Seconds whose tokens the bucket holds.
    held: f64,
    tokens: f64,
    last: Duration,
}

impl Pace {
    /// A pace of `per_second` events or rows a second; `None` never waits.
    pub fn new(per_second: Option<u64>, now: Duration) -> Self {
        Self {
            per_second: per_second.filter(|r| *r > 0).map(|r| r as f64),
            held: 0.1,
            tokens: 0.0,
            last: now,
        }
    }

    /// The same with a bucket that holds what comes in during `held`.
    #[must_use]
    pub fn with_bucket(self, held: Duration) -> Self {
        let held = held.as_secs_f64();
        Self { held, ..self }
    }

    /// Takes `count` events or rows at `now` (time since any fixed start) and returns how
    /// long to wait before the next call.
    pub fn take(&mut self, count: u64, now: Duration) -> Duration {
        let Some(rate) = self.per_second else {
            return Duration::ZERO;
        };
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = now;
        self.tokens = (self.tokens + passed * rate).min(rate * self.held) - count as f64;
        if self.tokens >= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(-self.tokens / rate)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_as_told_gives_the_rate() {
        let mut now = Duration::ZERO;
        let mut pace = Pace::new(Some(1_000), now);
        for _ in 0..100 {
            now += pace.take(500, now);
        }
        let rate = 50_000.0 / now.as_secs_f64();
        assert!((950.0..=1_050.0).contains(&rate), "{rate}");
    }

    #[test]
    fn a_long_pause_allows_a_tenth_of_a_second_at_once() {
        let mut pace = Pace::new(Some(1_000), Duration::ZERO);
        let later = Duration::from_secs(3_600);
        assert_eq!(pace.take(100, later), Duration::ZERO);
        assert!(pace.take(100, later) > Duration::ZERO);
    }

    #[test]
    fn a_smaller_bucket_allows_less_at_once() {
        let mut pace = Pace::new(Some(1_000), Duration::ZERO).with_bucket(Duration::from_millis(5));
        let later = Duration::from_secs(3_600);
        assert_eq!(pace.take(5, later), Duration::ZERO);
        assert_eq!(pace.take(5, later), Duration::from_millis(5));
    }

    #[test]
    fn no_rate_never_waits() {
        let mut pace = Pace::new(None, Duration::ZERO);
        assert_eq!(pace.take(u64::MAX, Duration::ZERO), Duration::ZERO);
    }
}
