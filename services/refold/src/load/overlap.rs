//! Which reads lived while a switch was made, and whether they were slower for it.

use std::time::Duration;

/// From one moment of a run to another, in microseconds since it began; both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Interval {
    from: u64,
    to: u64,
}

impl Interval {
    /// From `from` to `to` and `margin` either way, as far as the run reaches back.
    pub(crate) fn around(from: Duration, to: Duration, margin: Duration) -> Self {
        Self {
            from: micros(from.saturating_sub(margin)),
            to: micros(to + margin),
        }
    }
}

/// Whole microseconds.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Intervals in order, of which no two share a moment: a read is looked up, not compared with all.
struct Sorted(Vec<Interval>);

impl Sorted {
    fn of(mut intervals: Vec<Interval>) -> Self {
        intervals.sort_unstable();
        let mut apart: Vec<Interval> = Vec::with_capacity(intervals.len());
        for next in intervals {
            match apart.last_mut() {
                Some(last) if next.from <= last.to => last.to = last.to.max(next.to),
                _ => apart.push(next),
            }
        }
        Self(apart)
    }

    /// Whether anything of `[from, to]` is in any of them.
    fn meet(&self, from: u64, to: u64) -> bool {
        let first = self.0.partition_point(|interval| interval.to < from);
        self.0
            .get(first)
            .is_some_and(|interval| interval.from <= to)
    }
}

/// Latencies in microseconds, the smallest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Latencies(Vec<u32>);

impl Latencies {
    fn of(mut latencies: Vec<u32>) -> Self {
        latencies.sort_unstable();
        Self(latencies)
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The latency of a quantile in `[0, 1]` in milliseconds; `None` where nothing was read.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        let found = nearest_rank(&self.0, quantile);
        found.map(|latency| f64::from(latency) / 1_000.0)
    }
}

/// The reads of a run by what happened while they lived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Overlap {
    /// All of them.
    pub(crate) all: Latencies,
    /// While a switch was made.
    pub(crate) real: Latencies,
    /// While a switch was made and rolled back, and none was made.
    pub(crate) sham: Latencies,
    /// While neither was.
    pub(crate) rest: Latencies,
}

impl Overlap {
    /// Splits reads, each given by its start and its latency in microseconds. Their order does not
    /// matter, and a read that meets both kinds counts as one that met a switch.
    pub(crate) fn of(
        sessions: &[Vec<(u64, u32)>],
        real: Vec<Interval>,
        sham: Vec<Interval>,
    ) -> Self {
        let (real, sham) = (Sorted::of(real), Sorted::of(sham));
        let (mut met_real, mut met_sham, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for &(start, latency) in sessions.iter().flatten() {
            let end = start.saturating_add(u64::from(latency));
            let class = if real.meet(start, end) {
                &mut met_real
            } else if sham.meet(start, end) {
                &mut met_sham
            } else {
                &mut rest
            };
            class.push(latency);
        }
        let latencies = sessions.iter().flatten().map(|(_, latency)| *latency);
        Self {
            all: Latencies::of(latencies.collect()),
            real: Latencies::of(met_real),
            sham: Latencies::of(met_sham),
            rest: Latencies::of(rest),
        }
    }
}

/// Width of a [`Bin`], in microseconds.
const BIN: u64 = 5_000;

/// Bins on each side of a moment: 60 ms.
const BINS: u64 = 12;

/// The reads that were due within one span of time before or after a kind of moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bin {
    /// Milliseconds from the moment to where the span begins, below zero before it; `[from, from + 5)`.
    pub(crate) from_ms: i64,
    /// How long its reads took.
    pub(crate) latencies: Latencies,
    /// Those of them that took longer than a bound.
    pub(crate) slower: usize,
}

/// The reads around `moments`, by when they were due: where along a switch the slow ones are. A
/// read within 60 ms of two moments belongs to both. `bound` is in milliseconds.
pub(crate) fn around(
    sessions: &[Vec<(u64, u32)>],
    moments: &[Duration],
    bound: Option<f64>,
) -> Vec<Bin> {
    let mut moments: Vec<u64> = moments.iter().copied().map(micros).collect();
    moments.sort_unstable();
    let (reach, count) = (BIN * BINS, usize::try_from(2 * BINS).unwrap_or_default());
    let mut bins: Vec<Vec<u32>> = vec![Vec::new(); count];
    for &(start, latency) in sessions.iter().flatten() {
        let first = moments.partition_point(|moment| moment + reach <= start);
        let near = moments
            .iter()
            .skip(first)
            .take_while(|moment| **moment <= start + reach);
        for moment in near {
            let bin = (start + reach - moment) / BIN;
            if let Some(bin) = usize::try_from(bin).ok().and_then(|bin| bins.get_mut(bin)) {
                bin.push(latency);
            }
        }
    }
    let is_slower = |latency: &&u32| bound.is_some_and(|ms| f64::from(**latency) > ms * 1_000.0);
    let of = |(from_ms, latencies): (i64, Vec<u32>)| Bin {
        from_ms,
        slower: latencies.iter().filter(is_slower).count(),
        latencies: Latencies::of(latencies),
    };
    let width = (BIN / 1_000).cast_signed();
    let starts = (0..).map(|nth: i64| (nth - BINS.cast_signed()) * width);
    starts.zip(bins).map(of).collect()
}

/// The smallest value that is not below the share `quantile` of all; `None` of none.
/// `sorted` begins with the smallest.
pub(crate) fn nearest_rank<T: Copy>(sorted: &[T], quantile: f64) -> Option<T> {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    let last = sorted.len().checked_sub(1)?;
    sorted.get(rank.saturating_sub(1).min(last)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(from: u64, to: u64) -> Interval {
        Interval { from, to }
    }

    #[test]
    fn a_margin_is_added_on_both_sides_and_ends_where_the_run_begins() {
        let (from, to) = (Duration::from_millis(70), Duration::from_millis(80));
        let margin = Duration::from_millis(50);
        let around = Interval::around(from, to, margin);
        assert_eq!(around, interval(20_000, 130_000));
        let early = Interval::around(Duration::ZERO, to, margin);
        assert_eq!(early, interval(0, 130_000));
    }

    #[test]
    fn intervals_that_touch_are_one() {
        let sorted = Sorted::of(vec![
            interval(30, 40),
            interval(0, 10),
            interval(10, 20),
            interval(32, 35),
        ]);
        assert_eq!(sorted.0, [interval(0, 20), interval(30, 40)]);
    }

    #[test]
    fn a_read_meets_an_interval_when_they_share_one_moment() {
        let sorted = Sorted::of(vec![interval(100, 200), interval(300, 400)]);
        for (from, to, meets) in [
            (0, 99, false),
            (0, 100, true),
            (150, 160, true),
            (50, 250, true),
            (200, 210, true),
            (201, 299, false),
            (201, 300, true),
            (0, 1_000, true),
            (401, 500, false),
        ] {
            assert_eq!(sorted.meet(from, to), meets, "[{from}, {to}]");
        }
        assert!(!Sorted::of(Vec::new()).meet(0, 1_000));
    }

    #[test]
    fn a_read_that_meets_both_kinds_met_a_switch() {
        let sessions = [
            vec![(0, 5), (90, 20), (500, 1)],
            vec![(195, 10), (210, 7), (110, 200)],
        ];
        let real = vec![interval(100, 200)];
        let sham = vec![interval(198, 220)];
        let split = Overlap::of(&sessions, real, sham);
        assert_eq!(split.real, Latencies(vec![10, 20, 200]));
        assert_eq!(split.sham, Latencies(vec![7]));
        assert_eq!(split.rest, Latencies(vec![1, 5]));
        assert_eq!(split.all.count(), 6);
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let hundred: Vec<u32> = (1..=100).map(|n| n * 1_000).collect();
        let latencies = Latencies::of(hundred.into_iter().rev().collect());
        assert_eq!(latencies.quantile_ms(0.5), Some(50.0));
        assert_eq!(latencies.quantile_ms(0.99), Some(99.0));
        assert_eq!(latencies.quantile_ms(1.0), Some(100.0));
        assert_eq!(latencies.quantile_ms(0.0), Some(1.0));
        assert_eq!(nearest_rank(&[7.5], 0.99), Some(7.5));
        assert_eq!(nearest_rank::<f64>(&[], 0.5), None);
    }

    #[test]
    fn reads_are_told_by_their_distance_from_a_moment() {
        let moment = Duration::from_millis;
        let sessions = [
            vec![(39_999, 9), (40_000, 1), (44_999, 2), (45_000, 3)],
            vec![(99_999, 4), (100_000, 5), (159_999, 6), (160_000, 7)],
            vec![(1_000_000, 8)],
        ];
        let bins = around(&sessions, &[moment(100)], Some(0.0045));
        assert_eq!(bins.len(), 24);
        let found = |from| bins.iter().find(|bin| bin.from_ms == from);
        let of = |from| found(from).map(|bin| (bin.latencies.0.clone(), bin.slower));
        assert_eq!(of(-60), Some((vec![1, 2], 0)));
        assert_eq!(of(-55), Some((vec![3], 0)));
        assert_eq!(of(-5), Some((vec![4], 0)));
        assert_eq!(of(0), Some((vec![5], 1)));
        assert_eq!(of(55), Some((vec![6], 1)));
        let all: usize = bins.iter().map(|bin| bin.latencies.count()).sum();
        assert_eq!(all, 6);
    }

    #[test]
    fn a_read_between_two_moments_belongs_to_both() {
        let moments = [Duration::from_millis(120), Duration::from_millis(70)];
        let bins = around(&[vec![(100_000, 1)]], &moments, None);
        let with: Vec<i64> = bins
            .iter()
            .filter(|bin| bin.latencies.count() == 1)
            .map(|bin| bin.from_ms)
            .collect();
        assert_eq!(with, [-20, 30]);
    }
}
