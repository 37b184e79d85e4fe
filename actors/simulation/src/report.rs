//! Many seeds, and what they come to together.

use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::branch::Branches;
use crate::mutation::Mutation;
use crate::run::Ended;
use crate::run::MakeRuntime;
use crate::run::simulate;

/// What many seeds came to.
#[derive(Debug, Clone, Default)]
pub struct Campaign {
    /// Seeds that were simulated.
    pub seeds: u64,
    /// Seeds that found something, with what they found.
    pub failures: Vec<Ended>,
    /// The branches that were taken, over all seeds.
    pub branches: Branches,
    /// Simulated time.
    pub simulated: Duration,
    /// Faults that were injected.
    pub faults: u64,
    /// Things that happened.
    pub steps: u64,
    /// Wall clock.
    pub took: Duration,
}

impl Campaign {
    fn add(&mut self, ended: Ended) {
        self.seeds += 1;
        self.branches.add(&ended.branches);
        self.simulated += ended.simulated;
        self.faults += ended.faults;
        self.steps += ended.steps;
        if !ended.findings.is_empty() {
            self.failures.push(ended);
        }
    }
}

/// Simulates the seeds `[from, from + seeds)`, each on one of `threads` threads.
///
/// # Errors
/// When a runtime cannot be made.
pub fn run_seeds(
    make_runtime: MakeRuntime,
    (from, seeds): (u64, u64),
    threads: usize,
) -> io::Result<Campaign> {
    let began = Instant::now();
    let campaign = Mutex::new(Campaign::default());
    let next = AtomicU64::new(from);
    let work = || -> io::Result<()> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                return Ok(());
            }
            let ended = simulate(make_runtime, seed, None, false)?;
            let mut campaign = campaign.lock().unwrap_or_else(PoisonError::into_inner);
            campaign.add(ended);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut ended = threads.into_iter().map(|thread| thread.join());
        ended.try_for_each(|done| done.unwrap_or_else(|_| Err(io::Error::other("a panic"))))
    })?;
    let mut campaign = campaign
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    campaign.failures.sort_by_key(|ended| ended.seed);
    campaign.took = began.elapsed();
    Ok(campaign)
}

/// The first seed of `[0, seeds)` that finds a planted bug, and nothing without it.
///
/// # Errors
/// When a runtime cannot be made.
pub fn find_mutation(
    make_runtime: MakeRuntime,
    mutation: Mutation,
    seeds: u64,
) -> io::Result<Option<Ended>> {
    for seed in 0..seeds {
        let ended = simulate(make_runtime, seed, Some(mutation), false)?;
        let without = || simulate(make_runtime, seed, None, false);
        if !ended.findings.is_empty() && without()?.findings.is_empty() {
            return Ok(Some(ended));
        }
    }
    Ok(None)
}
