//! Open-loop reads against the api: every read starts on its schedule,
//! whatever the answers do, and its latency counts from the moment it was
//! due, so that a stall is not hidden by the reads it kept from starting
//! (coordinated omission).
//!
//! [`Readers`] read in closed loops instead, and hold the answers against the registry's history.

mod check;
mod history;
mod overlap;
mod report;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use history::Readers;
pub(crate) use history::SessionsPlan;
pub(crate) use history::SessionsReport;
pub(crate) use overlap::Interval;
pub(crate) use overlap::Overlap;
pub(crate) use overlap::around;
pub(crate) use overlap::nearest_rank;
pub(crate) use report::LoadReport;
pub(crate) use report::Span;
use report::Took;

/// What to read, how fast and how long.
#[derive(Debug, Clone)]
pub(crate) struct LoadPlan {
    /// `http://host:port`.
    pub(crate) api: String,
    /// Reads per second.
    pub(crate) rate: u64,
    /// Ids `1..=aggregates` exist; a tenth of the reads asks above them.
    pub(crate) aggregates: u64,
    /// Decides which ids are read.
    pub(crate) seed: u64,
}

/// Ids that were just written; a tenth of the reads asks for one of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct FreshIds(Arc<Mutex<Vec<i64>>>);

impl FreshIds {
    const KEPT: usize = 256;

    /// Notes an id.
    pub(crate) fn note(&self, id: i64) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.len() < Self::KEPT {
            ids.push(id);
        } else {
            let at = id.unsigned_abs() as usize % Self::KEPT;
            ids[at] = id;
        }
    }

    /// Whether no id was noted yet.
    pub(crate) fn is_empty(&self) -> bool {
        let ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.is_empty()
    }

    fn pick(&self, number: u64) -> Option<i64> {
        let ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = number.checked_rem(ids.len() as u64)?;
        ids.get(at as usize).copied()
    }
}

/// Marks the part of the run that reads are accounted to.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpanMark(Arc<AtomicUsize>);

impl SpanMark {
    /// Reads that start from now on belong to `span`.
    pub(crate) fn set(&self, span: Span) {
        self.0.store(span as usize, Ordering::Relaxed);
    }

    fn get(&self) -> Span {
        Span::ALL[self.0.load(Ordering::Relaxed).min(Span::ALL.len() - 1)]
    }
}

/// Counts the reads that were answered or failed so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoadProgress {
    reads: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl LoadProgress {
    /// Reads so far.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Those of them that failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Largest number of reads in flight; beyond it reads wait, and their waiting counts.
const MAX_IN_FLIGHT: usize = 2_000;
/// A read that has no answer by then has failed.
const READ_DEADLINE: Duration = Duration::from_secs(5);

type HttpClient = Client<HttpConnector, Empty<Bytes>>;

/// Reads until `stop` is set, then waits for the reads in flight.
pub(crate) async fn run(
    plan: LoadPlan,
    fresh: FreshIds,
    mark: SpanMark,
    progress: LoadProgress,
    mut stop: watch::Receiver<bool>,
) -> LoadReport {
    let client: HttpClient = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(MAX_IN_FLIGHT)
        .build_http();
    let report = Arc::new(Mutex::new(LoadReport::new()));
    let slots = Arc::new(tokio::sync::Semaphore::new(MAX_IN_FLIGHT));
    let start = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    let mut sent = 0u64;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        let due = (start.elapsed().as_secs_f64() * plan.rate as f64) as u64;
        while sent < due {
            let scheduled = start + Duration::from_secs_f64(sent as f64 / plan.rate as f64);
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                break;
            };
            let (client, report) = (client.clone(), Arc::clone(&report));
            let progress = progress.clone();
            let id = pick_id(&plan, &fresh, sent);
            let uri = format!("{}/aggregate/{id}", plan.api);
            let span = mark.get();
            let exists = id >= 1 && id as u64 <= plan.aggregates;
            tokio::spawn(async move {
                let late = scheduled.elapsed();
                let outcome = read(&client, &uri, id, exists).await;
                let took = Took {
                    late,
                    latency: scheduled.elapsed(),
                };
                progress
                    .failed
                    .fetch_add(u64::from(outcome.is_err()), Ordering::Relaxed);
                let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                report.record(span, took, start.elapsed(), &uri, outcome);
                progress.reads.fetch_add(1, Ordering::Relaxed);
                drop(slot);
            });
            sent += 1;
        }
    }
    // Every slot is back when no read is in flight.
    let _all = slots.acquire_many(MAX_IN_FLIGHT as u32).await;
    let report = report.lock().unwrap_or_else(PoisonError::into_inner);
    report.clone()
}

/// SplitMix64 (Steele, Lea, Flood 2014): the n-th number of a seeded sequence.
fn number(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn pick_id(plan: &LoadPlan, fresh: &FreshIds, n: u64) -> i64 {
    let draw = number(plan.seed, n);
    let (kind, rest) = (draw % 10, draw / 10);
    let existing = (1 + rest % plan.aggregates.max(1)) as i64;
    match kind {
        0 => (plan.aggregates + 1 + rest % 1_000_000) as i64,
        1 => fresh.pick(rest).unwrap_or(existing),
        _ => existing,
    }
}

async fn read(
    client: &HttpClient,
    uri: &str,
    id: i64,
    exists: bool,
) -> Result<check::Seen, String> {
    let uri = uri.parse().map_err(|error| format!("{error}"))?;
    let answer = async {
        let answer = client.get(uri).await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        check::judge(status, &body, id, exists)
    };
    match tokio::time::timeout(READ_DEADLINE, answer).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer in {} s", READ_DEADLINE.as_secs())),
    }
}
