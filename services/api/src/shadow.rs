//! Shadow reads: a share of the reads that were answered is asked of a candidate as well.
//!
//! An answered read is offered to a bounded queue, which takes it or drops it at once; one
//! worker takes them from there. It reads the aggregate in both versions, in one snapshot and
//! over a connection of its own, and compares by the rules that the authors declared. Whatever
//! holds the candidate up holds the worker up and no answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use refold_domain::diff::PairPlan;
use refold_domain::diff::PointVerdict;
use refold_domain::diff::Sample;
use refold_domain::diff::compare_point;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_ports::PairReads;
use refold_ports::Registry;
use refold_ports::pair::Declared;
use refold_ports::registry::ReadAnswer;
use refold_telemetry::ShadowMetrics;
use refold_telemetry::ShadowResult;
use tokio::sync::mpsc;

/// Reads that wait for their comparison. More are dropped: a candidate that does not keep up
/// is not helped by a longer queue.
const QUEUE: usize = 256;

/// Differing aggregates that are remembered.
const SAMPLES: usize = 20;

/// Parts of a whole, as a share is counted.
const WHOLE: u64 = 1_000_000;

/// What is compared, and how much of it.
pub struct ShadowDeps {
    /// Where both versions are read.
    pub pairs: Arc<dyn PairReads>,
    /// Label of the candidate; one of the linked versions.
    pub version: String,
    /// Share of the answered reads, 0 to 1.
    pub share: f64,
}

impl std::fmt::Debug for ShadowDeps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShadowDeps")
            .field("version", &self.version)
            .field("share", &self.share)
            .finish_non_exhaustive()
    }
}

/// A read that was answered.
struct Answered {
    key: String,
    serving: VersionId,
    partition: Partition,
}

/// An aggregate that was found to differ.
#[derive(Debug, Clone)]
pub(crate) struct Differing {
    /// The version that it was compared with.
    pub(crate) serving: String,
    /// The aggregate.
    pub(crate) key: String,
    /// Its partition.
    pub(crate) partition: Partition,
    /// What differs.
    pub(crate) sample: Sample,
    /// When it was seen.
    pub(crate) at: SystemTime,
}

/// What was found so far.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Reads by result, in the order of [`ShadowResult::ALL`].
    pub(crate) counts: [u64; ShadowResult::ALL.len()],
    /// The latest aggregates that differ, newest last.
    pub(crate) differing: VecDeque<Differing>,
}

/// Counts, and remembers what differs.
struct Tally {
    projection: &'static str,
    version: String,
    metrics: ShadowMetrics,
    found: Mutex<Found>,
}

impl Tally {
    fn count(&self, result: ShadowResult, differing: Option<Differing>) {
        self.metrics.record(self.projection, &self.version, result);
        // Plain values: a panic elsewhere cannot leave them half-written.
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.counts[result as usize] += 1;
        if let Some(differing) = differing {
            if found.differing.len() == SAMPLES {
                found.differing.pop_front();
            }
            found.differing.push_back(differing);
        }
    }
}

/// The shadow of a server's reads. Its worker ends with it.
pub(crate) struct Shadow {
    queue: mpsc::Sender<Answered>,
    share: u64,
    /// Adds the share up; a read is taken whenever a whole is full.
    owed: AtomicU64,
    tally: Arc<Tally>,
}

impl Shadow {
    /// Starts the worker; has to be called inside a runtime. `None` when the candidate is not
    /// among `specs`.
    pub(crate) fn start(
        deps: ShadowDeps,
        specs: &[Arc<ProjectionSpec>],
        registry: &Arc<dyn Registry>,
        metrics: ShadowMetrics,
    ) -> Option<Self> {
        let candidate = specs.iter().find(|spec| spec.label() == deps.version)?;
        let tally = Arc::new(Tally {
            projection: candidate.name,
            version: deps.version,
            metrics,
            found: Mutex::new(Found {
                counts: [0; ShadowResult::ALL.len()],
                differing: VecDeque::new(),
            }),
        });
        let (queue, answered) = mpsc::channel(QUEUE);
        let worker = Worker {
            candidate: Arc::clone(candidate),
            specs: specs.to_vec(),
            registry: Arc::clone(registry),
            pairs: deps.pairs,
            tally: Arc::clone(&tally),
            versions: None,
        };
        tokio::spawn(worker.run(answered));
        Some(Self {
            queue,
            share: (deps.share.clamp(0.0, 1.0) * WHOLE as f64).round() as u64,
            owed: AtomicU64::new(0),
            tally,
        })
    }

    /// Label of the candidate.
    pub(crate) fn version(&self) -> &str {
        &self.tally.version
    }

    /// Share of the reads that are compared, 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        self.share as f64 / WHOLE as f64
    }

    /// What was found so far.
    pub(crate) fn found(&self) -> Found {
        let found = &self.tally.found;
        found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a share of the answered reads, without waiting for anything.
    pub(crate) fn offer(&self, name: &str, key: &str, answer: &ReadAnswer) {
        if name != self.tally.projection || !self.is_due() {
            return;
        }
        let answered = Answered {
            key: key.to_owned(),
            serving: answer.version,
            partition: answer.partition,
        };
        if self.queue.try_send(answered).is_err() {
            self.tally.count(ShadowResult::Dropped, None);
        }
    }

    fn is_due(&self) -> bool {
        let before = self.owed.fetch_add(self.share, Ordering::Relaxed);
        before / WHOLE != before.wrapping_add(self.share) / WHOLE
    }
}

/// The two versions that are compared at the moment.
struct Versions {
    serving: VersionId,
    serving_spec: Arc<ProjectionSpec>,
    candidate: VersionId,
    /// `None` when the candidate itself serves: there is nothing to compare it with.
    plan: Option<PairPlan>,
}

struct Worker {
    candidate: Arc<ProjectionSpec>,
    specs: Vec<Arc<ProjectionSpec>>,
    registry: Arc<dyn Registry>,
    pairs: Arc<dyn PairReads>,
    tally: Arc<Tally>,
    versions: Option<Versions>,
}

impl Worker {
    async fn run(mut self, mut answered: mpsc::Receiver<Answered>) {
        let mut told = None;
        while let Some(read) = answered.recv().await {
            match self.compare(&read).await {
                // It serves itself by now.
                Ok(None) => {}
                Ok(Some((result, differing))) => self.tally.count(result, differing),
                Err(reason) => {
                    if told.as_ref() != Some(&reason) {
                        tracing::warn!(version = %self.tally.version, %reason, "not compared");
                        told = Some(reason);
                    }
                    self.versions = None;
                    self.tally.count(ShadowResult::Dropped, None);
                }
            }
        }
    }

    async fn compare(
        &mut self,
        read: &Answered,
    ) -> Result<Option<(ShadowResult, Option<Differing>)>, String> {
        let is_known = |known: &Versions| known.serving == read.serving;
        if !self.versions.as_ref().is_some_and(is_known) {
            self.versions = Some(self.find(read.serving).await?);
        }
        let Some(versions) = self.versions.as_ref() else {
            return Ok(None);
        };
        let Some(plan) = &versions.plan else {
            return Ok(None);
        };
        let serving = Declared {
            version: versions.serving,
            spec: &versions.serving_spec,
        };
        let candidate = Declared {
            version: versions.candidate,
            spec: &self.candidate,
        };
        let pair = self
            .pairs
            .read_pair(serving, candidate, read.partition, &read.key)
            .await
            .map_err(|e| e.to_string())?;
        let Some(pair) = pair else {
            // The candidate's history of this partition is not in.
            return Ok(Some((ShadowResult::NotCaughtUp, None)));
        };
        let (first, second) = (pair.first.side(&pair.key), pair.second.side(&pair.key));
        let (old, new) = match plan.is_swapped() {
            false => (first, second),
            true => (second, first),
        };
        let (verdict, sample) = compare_point(plan, &old, &new);
        let result = match verdict {
            PointVerdict::Equal => ShadowResult::Equal,
            PointVerdict::Expected => ShadowResult::Expected,
            PointVerdict::Differs => ShadowResult::Differs,
            PointVerdict::NotCaughtUp => ShadowResult::NotCaughtUp,
        };
        let sample = sample.filter(|_| result == ShadowResult::Differs);
        let differing = sample.map(|sample| Differing {
            serving: versions.serving_spec.label(),
            key: read.key.clone(),
            partition: read.partition,
            sample,
            at: SystemTime::now(),
        });
        Ok(Some((result, differing)))
    }

    async fn find(&self, serving: VersionId) -> Result<Versions, String> {
        let versions = self.registry.versions().await.map_err(|e| e.to_string())?;
        let label = self.candidate.label();
        let candidate = versions.iter().find(|v| v.label == label);
        let candidate = candidate.ok_or_else(|| format!("{label} is not registered"))?;
        if candidate.code_hash != self.candidate.code_hash() {
            return Err(format!("{label} was built by other code"));
        }
        let row = versions.iter().find(|v| v.id == serving);
        let spec = row.and_then(|row| self.specs.iter().find(|s| s.code_hash() == row.code_hash));
        let spec = spec.ok_or_else(|| format!("version {serving} is not linked here"))?;
        let plan = (serving != candidate.id).then(|| PairPlan::of(spec, &self.candidate));
        Ok(Versions {
            serving,
            serving_spec: Arc::clone(spec),
            candidate: candidate.id,
            plan: plan.transpose().map_err(|e| e.to_string())?,
        })
    }
}
