//! The duty of a rebuild: the share of the time in which it works, moved by what the reads of the
//! serving version take.
//!
//! ```text
//! p99 > limit         -> half of the duty, and no less than a tenth of the time
//! p99 <= limit / 2    -> a tenth of the time more, up to all of it
//! between, or no news -> as it was
//! nobody tells        -> a tenth more
//! ```
//! A rebuild begins with a tenth, which doubles with every look that finds the reads fast, until one
//! does not or the duty is whole (slow start, as in RFC 5681): what a machine can bear is not known
//! before, and reads that have queued up are late however soon the rebuild gives way. Where nobody
//! tells of reads at the first look it begins with all of the time.
//!
//! Additive increase and multiplicative decrease: the only one of the linear rules that shares a
//! resource fairly and settles (Chiu and Jain, "Analysis of the Increase and Decrease Algorithms for
//! Congestion Avoidance in Computer Networks", 1989). The duty never becomes 0: reads may be slow
//! for reasons of their own, and a rebuild that waited for them would never end.

use std::fmt;
use std::time::Duration;

/// Work is begun in the first part of every period of this length and not in the rest of it, so
/// that a read waits for no longer than this whatever the duty is. All threads of a process keep
/// the same periods: what is left over is left over on all cores at once.
pub const PERIOD: Duration = Duration::from_millis(100);

/// What a duty gains where reads are fast, in hundredths of the time.
const STEP: u8 = 10;

/// A share of the time, in hundredths, from [`Duty::LEAST`] to [`Duty::WHOLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duty(u8);

impl Duty {
    /// All of the time.
    pub const WHOLE: Self = Self(100);
    /// The smallest share that a rebuild is left with.
    pub const LEAST: Self = Self(10);

    /// Hundredths of the time.
    pub const fn percent(self) -> u8 {
        self.0
    }

    /// The duty of so many hundredths; more or fewer than there may be are cut.
    pub const fn of_percent(percent: u8) -> Self {
        match percent {
            100.. => Self::WHOLE,
            0..=10 => Self::LEAST,
            _ => Self(percent),
        }
    }

    /// The share as a number from 0 to 1.
    pub fn ratio(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// Whether work may be begun all the time.
    pub fn is_whole(self) -> bool {
        self == Self::WHOLE
    }

    const fn less(self) -> Self {
        Self::of_percent(self.0 / 2)
    }

    const fn twice(self) -> Self {
        Self::of_percent(self.0.saturating_mul(2))
    }

    const fn more(self) -> Self {
        Self::of_percent(self.0.saturating_add(STEP))
    }

    /// How long no work may be begun at the time `at`, measured from the start of the first period.
    pub fn closed_for(self, at: Duration) -> Duration {
        if self.is_whole() {
            return Duration::ZERO;
        }
        let passed = Duration::from_nanos((at.as_nanos() % PERIOD.as_nanos()) as u64);
        if passed < PERIOD.mul_f64(self.ratio()) {
            return Duration::ZERO;
        }
        PERIOD - passed
    }
}

impl Default for Duty {
    /// All of the time.
    fn default() -> Self {
        Self::WHOLE
    }
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

/// What is known of the reads since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadLatency {
    /// Nobody has told for so long that nobody may be reading.
    #[default]
    Silent,
    /// Nothing new.
    Unchanged,
    /// 99 of 100 reads took no longer, at the api where they took longest.
    P99(Duration),
}

/// Moves a duty from one look after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DutyControl {
    limit: Duration,
    duty: Duty,
    start: Start,
}

/// How far the slow start is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Nothing is known yet.
    Blank,
    /// No look has found slow reads.
    Doubling,
    /// Additive increase, multiplicative decrease from here on.
    Over,
}

impl DutyControl {
    /// A control that comes to allow all of the time as long as 99 of 100 reads take no longer than
    /// `limit`.
    pub const fn new(limit: Duration) -> Self {
        Self {
            limit,
            duty: Duty::LEAST,
            start: Start::Blank,
        }
    }

    /// The longest that 99 of 100 reads may take; at it the duty stays.
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// The duty after the last look.
    pub const fn duty(&self) -> Duty {
        self.duty
    }

    /// Takes a look into account and returns the duty from now on.
    pub fn judge(&mut self, reads: ReadLatency) -> Duty {
        let is_slow = matches!(reads, ReadLatency::P99(p99) if p99 > self.limit);
        let is_fast = matches!(reads, ReadLatency::P99(p99) if p99 <= self.limit / 2);
        self.duty = match (self.start, reads) {
            (Start::Blank, ReadLatency::Silent) => Duty::WHOLE,
            _ if is_slow => self.duty.less(),
            (Start::Blank | Start::Doubling, _) if is_fast => self.duty.twice(),
            (_, ReadLatency::Silent) => self.duty.more(),
            _ if is_fast => self.duty.more(),
            _ => self.duty,
        };
        let is_over = !is_fast || self.duty.is_whole() || self.start == Start::Over;
        self.start = match reads {
            ReadLatency::Unchanged => self.start,
            _ if is_over => Start::Over,
            _ => Start::Doubling,
        };
        self.duty
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    fn p99(millis: u64) -> ReadLatency {
        ReadLatency::P99(Duration::from_millis(millis))
    }

    /// The duty, in hundredths, after each of these, of a control that has seen no reads at first.
    fn course(reads: &[ReadLatency]) -> Vec<u8> {
        let mut control = DutyControl::new(LIMIT);
        assert_eq!(control.judge(ReadLatency::Silent), Duty::WHOLE);
        let after = reads.iter().map(|reads| control.judge(*reads).percent());
        after.collect()
    }

    #[test]
    fn slow_reads_halve_the_duty_and_fast_ones_give_a_tenth_back() {
        let slow = [p99(101); 5];
        assert_eq!(course(&slow), [50, 25, 12, 10, 10]);
        let back = [slow.to_vec(), vec![p99(50); 10]].concat();
        let wanted = [20, 30, 40, 50, 60, 70, 80, 90, 100, 100];
        assert_eq!(course(&back)[5..], wanted);
    }

    #[test]
    fn between_the_thresholds_and_without_news_it_stays_and_where_nobody_tells_it_grows() {
        let reads = [
            p99(200),
            p99(100),
            p99(51),
            ReadLatency::Unchanged,
            ReadLatency::Silent,
            p99(50),
        ];
        assert_eq!(course(&reads), [50, 50, 50, 50, 60, 70]);
    }

    #[test]
    fn the_start_doubles_until_the_reads_are_not_fast_or_the_duty_is_whole() {
        let from_the_start = |reads: &[ReadLatency]| -> Vec<u8> {
            let mut control = DutyControl::new(LIMIT);
            assert_eq!((control.duty(), control.limit()), (Duty::LEAST, LIMIT));
            let after = reads.iter().map(|reads| control.judge(*reads).percent());
            after.collect()
        };
        let (fast, slow, between) = (p99(50), p99(101), p99(51));
        let unchanged = ReadLatency::Unchanged;
        assert_eq!(from_the_start(&[fast; 5]), [20, 40, 80, 100, 100]);
        // What comes behind it is no start any more.
        let fallen = from_the_start(&[fast, fast, fast, fast, slow, fast]);
        assert_eq!(fallen[4..], [50, 60]);
        assert_eq!(from_the_start(&[fast, fast, slow, fast]), [20, 40, 20, 30]);
        assert_eq!(from_the_start(&[fast, between, fast]), [20, 20, 30]);
        assert_eq!(from_the_start(&[slow, fast]), [10, 20]);
        assert_eq!(
            from_the_start(&[unchanged, fast, unchanged, fast]),
            [10, 20, 20, 40]
        );
        assert_eq!(
            from_the_start(&[fast, ReadLatency::Silent, fast]),
            [20, 30, 40]
        );
        assert_eq!(from_the_start(&[unchanged, ReadLatency::Silent]), [10, 100]);
    }

    #[test]
    fn a_duty_is_no_more_than_all_and_no_less_than_a_tenth() {
        let percents = [0, 9, 10, 11, 99, 100, 101, 255].map(|p| Duty::of_percent(p).percent());
        assert_eq!(percents, [10, 10, 10, 11, 99, 100, 100, 100]);
        assert_eq!(Duty::default(), Duty::WHOLE);
        assert!(Duty::WHOLE.is_whole() && !Duty::of_percent(99).is_whole());
        assert_eq!(Duty::of_percent(25).to_string(), "25 %");
        assert!((Duty::of_percent(25).ratio() - 0.25).abs() < f64::EPSILON);
    }

    #[test]
    fn work_is_begun_in_the_first_part_of_a_period_only() {
        let half = Duty::of_percent(50);
        let closed = |at: u64| half.closed_for(Duration::from_millis(at)).as_millis();
        let waits = [0, 49, 50, 51, 99, 100, 149, 150, 1_000_050].map(closed);
        assert_eq!(waits, [0, 0, 50, 49, 1, 0, 0, 50, 50]);
        let whole = Duty::WHOLE.closed_for(Duration::from_millis(99));
        assert_eq!(whole, Duration::ZERO);
    }

    proptest! {
        /// Whoever waits as long as it is told may begin, and the open part has the duty's length.
        #[test]
        fn what_is_closed_opens_when_it_says(percent in 0_u8.., at in 0_u64..10_000_000) {
            let (duty, at) = (Duty::of_percent(percent), Duration::from_micros(at));
            let wait = duty.closed_for(at);
            prop_assert!(wait < PERIOD);
            prop_assert_eq!(duty.closed_for(at + wait), Duration::ZERO);
            let open = (0_u64..100_000).step_by(1_000).filter(|micros| {
                duty.closed_for(Duration::from_micros(*micros)).is_zero()
            });
            prop_assert_eq!(open.count(), usize::from(duty.percent()));
        }
    }
}
