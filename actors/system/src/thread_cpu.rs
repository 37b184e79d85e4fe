//! CPU time of the current thread.

use std::time::Duration;

use rustix::time::ClockId;
use rustix::time::clock_gettime;

/// CPU time that the current thread has used since it began.
pub(crate) fn now() -> Duration {
    let at = clock_gettime(ClockId::ThreadCPUTime);
    // The clock begins at zero and never runs backwards.
    Duration::new(
        u64::try_from(at.tv_sec).unwrap_or_default(),
        u32::try_from(at.tv_nsec).unwrap_or_default(),
    )
}

/// Runs `work` and returns the CPU time that it took on this thread.
pub(crate) fn of<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = now();
    let answer = work();
    (answer, now().saturating_sub(begun))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_sleeps_uses_no_cpu_and_one_that_counts_does() {
        let nap = Duration::from_millis(30);
        // sleep: that sleeping uses no CPU is what is tested
        let ((), slept) = of(|| std::thread::sleep(nap));
        assert!(slept < nap / 2, "{slept:?}");
        let (sum, counted) = of(|| (0..20_000_000_u64).fold(0, |a, b| a ^ std::hint::black_box(b)));
        assert!(counted > Duration::from_micros(100), "{sum} {counted:?}");
    }
}
