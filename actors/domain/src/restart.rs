//! Restart policy: how long a failed actor waits, and when it is broken.

use std::collections::VecDeque;
use std::time::Duration;

/// The supervisor's answer to a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start a fresh actor after this delay.
    RestartAfter(Duration),
    /// Too many failures in the window: do not restart; an operator must look.
    Broken,
}

/// Limits of [`RestartHistory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Delay after the first failure; it doubles with each further one.
    pub first_delay: Duration,
    /// The delay's cap.
    pub max_delay: Duration,
    /// So many failures are answered with a restart within `window`; the next one breaks.
    pub intensity: usize,
    /// Length of the window that failures are counted in.
    pub window: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(50),
            max_delay: Duration::from_secs(10),
            intensity: 20,
            window: Duration::from_secs(120),
        }
    }
}

/// The recent failures of one actor.
#[derive(Debug, Clone, Default)]
pub struct RestartHistory {
    failures: VecDeque<Duration>,
    total: u64,
}

impl RestartHistory {
    /// Notes a failure at `now` and decides. `jitter` in `[0, 1)` spreads the
    /// delay over its upper half, so that actors that fell together do not rise together.
    pub fn failed(&mut self, policy: &RestartPolicy, now: Duration, jitter: f64) -> Verdict {
        let horizon = now.saturating_sub(policy.window);
        while self.failures.front().is_some_and(|at| *at < horizon) {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        self.total += 1;
        if self.failures.len() > policy.intensity {
            return Verdict::Broken;
        }
        let doublings = (self.failures.len() - 1).min(20) as u32;
        let full = policy
            .first_delay
            .saturating_mul(1 << doublings)
            .min(policy.max_delay);
        Verdict::RestartAfter(full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0)))
    }

    /// Failures since the actor was first started.
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_the_cap_and_then_the_actor_is_broken() {
        let policy = RestartPolicy {
            first_delay: Duration::from_millis(100),
            max_delay: Duration::from_millis(350),
            intensity: 3,
            window: Duration::from_secs(60),
        };
        let mut history = RestartHistory::default();
        let delays: Vec<_> = (0..4)
            .map(|i| history.failed(&policy, Duration::from_secs(i), 1.0))
            .collect();
        assert_eq!(
            delays,
            [
                Verdict::RestartAfter(Duration::from_millis(100)),
                Verdict::RestartAfter(Duration::from_millis(200)),
                Verdict::RestartAfter(Duration::from_millis(350)),
                Verdict::Broken,
            ]
        );
        assert_eq!(history.total(), 4);
    }

    #[test]
    fn failures_outside_the_window_are_forgotten() {
        let policy = RestartPolicy {
            intensity: 1,
            window: Duration::from_secs(10),
            ..RestartPolicy::default()
        };
        let mut history = RestartHistory::default();
        for minute in 0..5 {
            let verdict = history.failed(&policy, Duration::from_secs(60 * minute), 0.0);
            assert_eq!(verdict, Verdict::RestartAfter(policy.first_delay / 2));
        }
    }

    #[test]
    fn a_failure_is_forgotten_once_it_is_older_than_the_window_and_not_before() {
        let policy = RestartPolicy {
            intensity: 1,
            window: Duration::from_secs(10),
            ..RestartPolicy::default()
        };
        for (millis, broken) in [(9_999, true), (10_000, true), (10_001, false)] {
            let mut history = RestartHistory::default();
            history.failed(&policy, Duration::ZERO, 0.0);
            let second = history.failed(&policy, Duration::from_millis(millis), 0.0);
            assert_eq!(second == Verdict::Broken, broken, "{millis} ms later");
        }
    }

    #[test]
    fn jitter_spreads_a_delay_over_its_upper_half() {
        let policy = RestartPolicy {
            first_delay: Duration::from_secs(8),
            ..RestartPolicy::default()
        };
        for (jitter, seconds) in [(0.0, 4), (0.25, 5), (0.5, 6), (1.0, 8), (7.0, 8), (-7.0, 4)] {
            let verdict = RestartHistory::default().failed(&policy, Duration::ZERO, jitter);
            let delay = Duration::from_secs(seconds);
            assert_eq!(verdict, Verdict::RestartAfter(delay), "{jitter}");
        }
    }
}
