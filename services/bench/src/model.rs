//! A model of the rebuild: how long a log of some shape takes on machines of some kind.
//!
//! A partition is one job: its events are folded by one thread, one after the other, then its
//! rows are written. Jobs are given to the workers of all machines, largest first. Nothing is
//! fitted: every unit cost is measured on a run of another size, and the prediction is the
//! largest of what each resource needs by itself:
//!
//! * the workers' schedule, each job as long as it takes one worker alone;
//! * the clients' processors, the broker's, the store's (one sum where they share cores);
//! * the broker's network or disk, and the store's writing.
//!
//! It leaves out: waits between resources that are both nearly full, and restarts.

use serde::{Deserialize, Serialize};

/// What one event, byte or row costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UnitCosts {
    /// Client CPU an event, reading to folding, in nanoseconds.
    pub client_ns_per_event: f64,
    /// Client CPU a row, sorting and encoding, in nanoseconds.
    pub client_ns_per_row: f64,
    /// Broker CPU an event, in nanoseconds.
    pub broker_ns_per_event: f64,
    /// Database CPU a row, copy and key, in nanoseconds.
    pub store_ns_per_row: f64,
    /// Bytes of log an event, as it is compressed.
    pub log_bytes_per_event: f64,
    /// Bytes that a row is on the store's disk, key included.
    pub store_bytes_per_row: f64,
    /// What a process needs before and after its work, in seconds.
    pub fixed_seconds: f64,
}

/// The log and the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// Events and rows of each partition.
    pub partitions: Vec<(f64, f64)>,
}

impl Work {
    /// `events` over `partitions` with one creation event for each of `rows` keys, spread
    /// evenly, and the rest by Zipf's law over the keys with exponent `zipf`: a partition's
    /// share is that of its keys, and the hottest keys fall into different partitions.
    pub fn zipf(events: f64, rows: f64, partitions: usize, zipf: f64) -> Self {
        let mut shares = vec![0.0; partitions];
        let hot = 100_000.min(rows as usize);
        let total = harmonic(rows, zipf);
        let mut hottest = 0.0;
        for key in 1..=hot {
            let share = (key as f64).powf(-zipf) / total;
            shares[scatter(key as u64) % partitions] += share;
            hottest += share;
        }
        let rest = (1.0 - hottest).max(0.0) / partitions as f64;
        let drawn = (events - rows).max(0.0);
        let each = rows / partitions as f64;
        let partitions = shares
            .iter()
            .map(|share| (each + drawn * (share + rest), each));
        Self {
            partitions: partitions.collect(),
        }
    }

    /// Events of all partitions.
    pub fn events(&self) -> f64 {
        self.partitions.iter().map(|(events, _)| events).sum()
    }

    /// Rows of all partitions.
    pub fn rows(&self) -> f64 {
        self.partitions.iter().map(|(_, rows)| rows).sum()
    }

    /// Share of the largest partition's events, in `(0, 1]`.
    pub fn largest_share(&self) -> f64 {
        let largest = self.partitions.iter().map(|(events, _)| *events);
        largest.fold(0.0, f64::max) / self.events().max(1.0)
    }
}

/// The sum of `k^-s` for `k` up to `n`: exact to ten thousand, its integral beyond.
fn harmonic(n: f64, s: f64) -> f64 {
    let exact = n.min(10_000.0) as u32;
    let head: f64 = (1..=exact).map(|k| f64::from(k).powf(-s)).sum();
    let from = f64::from(exact) + 0.5;
    let to = n + 0.5;
    if to <= from {
        return head;
    }
    let tail = if (s - 1.0).abs() < 1e-9 {
        (to / from).ln()
    } else {
        (to.powf(1.0 - s) - from.powf(1.0 - s)) / (1.0 - s)
    };
    head + tail
}

/// A fixed mixing of bits: which partition a hot key falls into.
fn scatter(key: u64) -> usize {
    let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 32)) >> 8) as usize
}

/// The machines that rebuild, and what they rebuild from and into.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Site {
    /// Machines (or pinned processes) that run projectors.
    pub machines: usize,
    /// Cores that each of them may use.
    pub cores_per_machine: f64,
    /// Workers (partitions at once) of each.
    pub workers_per_machine: usize,
    /// Cores of all brokers; `None` when they share `shared_cores`.
    pub broker_cores: Option<f64>,
    /// Bytes a second that all brokers can serve.
    pub broker_bytes_per_second: f64,
    /// Cores of the database; `None` when it shares `shared_cores`.
    pub store_cores: Option<f64>,
    /// Bytes a second that the database's disks can take.
    pub store_bytes_per_second: f64,
    /// Cores that everybody shares who has none of their own; the clients are among them
    /// when this is not zero.
    pub shared_cores: f64,
}

/// A prediction, resource by resource, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The workers' schedule.
    pub schedule: f64,
    /// The largest partition alone on a worker: no number of machines goes below it.
    pub largest_partition: f64,
    /// The clients' processors.
    pub client_cpu: f64,
    /// The brokers' processors.
    pub broker_cpu: f64,
    /// The database's processors.
    pub store_cpu: f64,
    /// Cores that are shared.
    pub shared_cpu: f64,
    /// Serving the log.
    pub broker_bytes: f64,
    /// Writing the rows.
    pub store_bytes: f64,
    /// The largest of them and the fixed time.
    pub seconds: f64,
    /// The name of the largest.
    pub bound: &'static str,
}

/// Predicts.
pub fn predict(costs: &UnitCosts, work: &Work, site: &Site) -> Prediction {
    let alone = |(events, rows): &(f64, f64)| {
        let client = events * costs.client_ns_per_event + rows * costs.client_ns_per_row;
        (client + rows * costs.store_ns_per_row) / 1e9
    };
    let mut jobs: Vec<f64> = work.partitions.iter().map(alone).collect();
    jobs.sort_by(|a, b| b.total_cmp(a));
    let (events, rows) = (work.events(), work.rows());
    let client = (events * costs.client_ns_per_event + rows * costs.client_ns_per_row) / 1e9;
    let broker = events * costs.broker_ns_per_event / 1e9;
    let store = rows * costs.store_ns_per_row / 1e9;
    let client_cores = site.machines as f64 * site.cores_per_machine;
    let on = |cores: Option<f64>, work: f64| cores.map_or(0.0, |cores| work / cores);
    let mut shared = if site.shared_cores > 0.0 { client } else { 0.0 };
    shared += if site.broker_cores.is_none() {
        broker
    } else {
        0.0
    };
    shared += if site.store_cores.is_none() {
        store
    } else {
        0.0
    };
    let shared_cpu = match site.shared_cores > 0.0 {
        true => shared / site.shared_cores,
        false => 0.0,
    };
    let parts = [
        (
            "workers",
            schedule(&jobs, site.machines * site.workers_per_machine),
        ),
        ("client processors", client / client_cores),
        ("broker processors", on(site.broker_cores, broker)),
        ("store processors", on(site.store_cores, store)),
        ("shared processors", shared_cpu),
        (
            "broker bandwidth",
            events * costs.log_bytes_per_event / site.broker_bytes_per_second,
        ),
        (
            "store bandwidth",
            rows * costs.store_bytes_per_row / site.store_bytes_per_second,
        ),
    ];
    let largest = parts.iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let (bound, seconds) = largest.copied().unwrap_or(("workers", 0.0));
    Prediction {
        schedule: parts[0].1,
        largest_partition: jobs.first().copied().unwrap_or_default(),
        client_cpu: parts[1].1,
        broker_cpu: parts[2].1,
        store_cpu: parts[3].1,
        shared_cpu,
        broker_bytes: parts[5].1,
        store_bytes: parts[6].1,
        seconds: seconds + costs.fixed_seconds,
        bound,
    }
}

/// The end of the last worker when jobs, longest first, go to whoever is free.
fn schedule(jobs: &[f64], workers: usize) -> f64 {
    let mut ends = vec![0.0_f64; workers.max(1)];
    for job in jobs {
        let free = ends.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
        let at = free.map_or(0, |(at, _)| at);
        ends[at] += job;
    }
    ends.into_iter().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: UnitCosts = UnitCosts {
        client_ns_per_event: 100.0,
        client_ns_per_row: 100.0,
        broker_ns_per_event: 20.0,
        store_ns_per_row: 700.0,
        log_bytes_per_event: 34.0,
        store_bytes_per_row: 120.0,
        fixed_seconds: 0.0,
    };

    fn site(machines: usize, workers: usize) -> Site {
        Site {
            machines,
            cores_per_machine: 2.0,
            workers_per_machine: workers,
            broker_cores: Some(100.0),
            broker_bytes_per_second: 1e12,
            store_cores: Some(100.0),
            store_bytes_per_second: 1e12,
            shared_cores: 0.0,
        }
    }

    fn even(partitions: usize) -> Work {
        Work {
            partitions: vec![(1e7, 1e6); partitions],
        }
    }

    #[test]
    fn one_worker_does_one_job_after_the_other() {
        // 1e7 events at 100 ns and 1e6 rows at 800 ns are 1.8 s a partition.
        let prediction = predict(&COSTS, &even(4), &site(1, 1));
        assert!((prediction.seconds - 7.2).abs() < 1e-9, "{prediction:?}");
        assert_eq!(prediction.bound, "workers");
    }

    #[test]
    fn more_machines_help_until_the_largest_partition_is_left() {
        let mut work = even(15);
        work.partitions.push((1e8, 1e6));
        let seconds: Vec<f64> = [1, 4, 16, 64]
            .map(|machines| predict(&COSTS, &work, &site(machines, 2)).seconds)
            .to_vec();
        assert!(
            seconds.windows(2).all(|pair| pair[1] <= pair[0]),
            "{seconds:?}"
        );
        let alone = predict(&COSTS, &work, &site(64, 2));
        assert!((alone.seconds - alone.largest_partition).abs() < 1e-9);
    }

    #[test]
    fn a_slow_store_is_named() {
        let mut slow = site(100, 2);
        slow.store_cores = Some(1.0);
        let prediction = predict(&COSTS, &even(100), &slow);
        assert_eq!(prediction.bound, "store processors");
        assert!((prediction.seconds - 70.0).abs() < 1e-9, "{prediction:?}");
    }

    #[test]
    fn who_shares_cores_is_summed() {
        let mut shared = site(3, 1);
        (shared.broker_cores, shared.store_cores, shared.shared_cores) = (None, None, 2.0);
        let prediction = predict(&COSTS, &even(16), &shared);
        // (1.1 + 0.2 + 0.7) core-seconds a partition, 16 of them, on 2 cores.
        assert!(
            (prediction.shared_cpu - 16.0).abs() < 1e-9,
            "{prediction:?}"
        );
        assert_eq!(prediction.bound, "shared processors");
    }

    #[test]
    fn zipf_keeps_events_and_rows_and_has_a_largest_partition() {
        let work = Work::zipf(1e9, 1e8, 16, 1.1);
        assert!(
            (work.events() / 1e9 - 1.0).abs() < 1e-6,
            "{}",
            work.events()
        );
        assert!((work.rows() / 1e8 - 1.0).abs() < 1e-9);
        let share = work.largest_share();
        // The hottest key alone has 11 % of the drawn events.
        assert!(share > 0.12 && share < 0.35, "{share}");
    }

    #[test]
    fn the_sum_of_powers_is_near_the_exact_one() {
        let exact: f64 = (1..=200_000).map(|k| f64::from(k).powf(-1.1)).sum();
        assert!((harmonic(200_000.0, 1.1) / exact - 1.0).abs() < 1e-6);
    }
}
