//! One worker a core over a list of partitions.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Calls `work` once for every partition of `order`, as many at a time as
/// there are cores, starting in the given order. The results come back sorted
/// by partition.
pub(crate) fn over_partitions<T: Send>(order: &[u32], work: impl Fn(u32) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(u32, T)>> = Mutex::new(Vec::with_capacity(order.len()));
    thread::scope(|scope| {
        for _ in 0..cores().min(order.len()) {
            scope.spawn(|| {
                while let Some(&partition) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = work(partition);
                    results
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push((partition, result));
                }
            });
        }
    });
    let mut results = results
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|(partition, _)| *partition);
    results.into_iter().map(|(_, result)| result).collect()
}
