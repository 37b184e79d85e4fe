//! What this process's reads take, told to those who can spare them something.
//!
//! Measured is the question to the database, from the first try to its answer or refusal: what a
//! rebuild beside it makes longer. A read that waits for an offset waits for a projector, and is
//! not measured.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use refold_ports::ReadReport;
use refold_ports::pressure::ReadTimes;
use tokio::time::Instant;

/// Between two looks at what was measured.
const EVERY: Duration = Duration::from_millis(500);

/// Fewer reads than this say little of the slowest of a hundred: more are waited for, at most
/// [`PATIENCE`].
const ENOUGH: usize = 50;

/// Told every so often however few they were; shorter than the time after which an api that tells
/// nothing counts as one without reads.
const PATIENCE: Duration = Duration::from_secs(3);

/// Of a stretch of time no more reads than these are kept: the earliest, 4 bytes each.
const MOST: usize = 1 << 18;

/// The times of the reads since they were last told, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct MeasuredReads(Mutex<Vec<u32>>);

impl MeasuredReads {
    /// Awaits a read and notes how long that took.
    pub(crate) async fn measure<T>(&self, read: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let answer = read.await;
        let micros = u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX);
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() < MOST {
            times.push(micros);
        }
        answer
    }

    /// Takes what there is, if it is at least `enough`.
    fn take(&self, enough: usize) -> Option<ReadTimes> {
        let mut times = {
            let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if place.len() < enough {
                return None;
            }
            std::mem::take(&mut *place)
        };
        Some(ReadTimes {
            reads: times.len() as u64,
            p99: p99(&mut times)?,
        })
    }
}

/// The 99th percentile by nearest rank: the smallest time that 99 of 100 do not exceed.
fn p99(micros: &mut [u32]) -> Option<Duration> {
    let rank = (micros.len() * 99).div_ceil(100);
    let index = rank.checked_sub(1)?;
    let (_, time, _) = micros.select_nth_unstable(index);
    Some(Duration::from_micros(u64::from(*time)))
}

/// Tells what is measured as long as it is awaited, under a name that no other process has.
pub(crate) async fn tell(measured: &MeasuredReads, to: Arc<dyn ReadReport>) -> Infallible {
    let name = uuid::Uuid::new_v4().to_string();
    let mut told = Instant::now();
    let mut refused = false;
    loop {
        tokio::time::sleep(EVERY).await;
        let enough = if told.elapsed() < PATIENCE { ENOUGH } else { 1 };
        let Some(times) = measured.take(enough) else {
            continue;
        };
        told = Instant::now();
        match to.tell(&name, times).await {
            Ok(()) => refused = false,
            Err(error) => {
                if !std::mem::replace(&mut refused, true) {
                    tracing::warn!(%error, "rebuilds are not told what the reads take");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_the_smallest_time_that_99_of_100_do_not_exceed() {
        let of = |times: &mut [u32]| p99(times).map(|time| time.as_micros());
        assert_eq!(of(&mut []), None);
        assert_eq!(of(&mut [7]), Some(7));
        let mut hundred: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(of(&mut hundred), Some(99));
        let mut more: Vec<u32> = (1..=101).collect();
        assert_eq!(of(&mut more), Some(100));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_measured_is_taken_once_and_when_it_is_enough() {
        let measured = MeasuredReads::default();
        for millis in [10, 30, 20] {
            // sleep: a read that takes this long, by a clock that stands still
            let read = tokio::time::sleep(Duration::from_millis(millis));
            measured.measure(read).await;
        }
        assert_eq!(measured.take(4), None);
        let times = measured.take(3).expect("three reads");
        assert_eq!(times.reads, 3);
        assert!(times.p99.abs_diff(Duration::from_millis(30)) <= Duration::from_millis(1));
        assert_eq!(measured.take(1), None);
    }
}
