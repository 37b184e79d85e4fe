//! A version's table against the oracle, partition by partition.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;

use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_seed::SeedParams;
use refold_seed::oracle::Oracle;
use refold_seed::oracle::PartitionState;
use refold_store_postgres::PartitionExport;
use refold_store_postgres::PgVerifier;
use refold_store_postgres::SessionOptions;
use tokio::runtime::Handle;

use super::Columns;
use super::Comparer;
use super::Outcome;
use super::Rules;
use crate::cli::Failure;

/// Everything that the comparison of one partition needs.
///
/// A core works on one partition at a time: about 130 bytes for each aggregate of it,
/// beside four bytes for each aggregate of the log.
pub(crate) struct Trial {
    verifier: PgVerifier,
    spec: ProjectionSpec,
    columns: Columns,
    oracle: Oracle,
    /// Partitions, largest first; `next` is the first that nobody has taken.
    order: Vec<u32>,
    next: AtomicUsize,
}

/// What was found in one partition.
pub(crate) struct Verdict {
    pub(crate) partition: i32,
    /// The mark at which it was compared, exclusive.
    pub(crate) next: i64,
    pub(crate) outcome: Outcome,
}

/// Events for which an open snapshot may wait. The server ends a transaction that idles
/// for seconds, and an old snapshot keeps dead rows; a larger stretch is drawn without one.
const DRAWN_INSIDE_SNAPSHOT: u64 = 1_000_000;

impl Trial {
    /// Lays out the log of `params`: seconds for a log of a hundred million aggregates.
    pub(crate) fn new(
        session: &SessionOptions,
        spec: &ProjectionSpec,
        params: &SeedParams,
    ) -> Result<Self, Failure> {
        let unknown = |what: String| {
            let label = spec.label();
            Failure::usage(format!("the known final state has no {what} ({label})"))
        };
        let rules = Rules::of(spec).ok_or_else(|| unknown("such version".to_owned()))?;
        let columns = Columns::of(spec, rules);
        let columns = columns.map_err(|name| unknown(format!("column {name}")))?;
        let oracle = Oracle::new(params)?;
        Ok(Self {
            verifier: PgVerifier::new(session),
            spec: spec.clone(),
            columns,
            order: oracle.layout().largest_first(),
            oracle,
            next: AtomicUsize::new(0),
        })
    }

    /// Compares all partitions, as many at a time as there are cores.
    ///
    /// # Errors
    /// What stopped the first worker that was stopped; the others take no further partition.
    pub(crate) async fn all(self: Arc<Self>) -> Result<Vec<Verdict>, Failure> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let workers: Vec<_> = (0..cores.min(self.order.len()))
            .map(|_| {
                let (trial, runtime) = (Arc::clone(&self), Handle::current());
                // Drawing keeps a core busy for seconds on end: not on the runtime's threads.
                tokio::task::spawn_blocking(move || runtime.block_on(trial.work()))
            })
            .collect();
        let mut verdicts = Vec::with_capacity(self.order.len());
        for worker in workers {
            let found = worker.await;
            verdicts.extend(found.map_err(|error| Failure::error("ask the oracle", error))??);
        }
        verdicts.sort_by_key(|verdict| verdict.partition);
        Ok(verdicts)
    }

    async fn work(&self) -> Result<Vec<Verdict>, Failure> {
        let mut verdicts = Vec::new();
        while let Some(&partition) = self.order.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            match self.partition(partition).await {
                Ok(verdict) => verdicts.push(verdict),
                Err(error) => {
                    self.next.store(self.order.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(verdicts)
    }

    async fn partition(&self, partition: u32) -> Result<Verdict, Failure> {
        let mut state = self.oracle.partition(partition);
        let at = Partition(partition.cast_signed());
        loop {
            let export = self.verifier.open_export(&self.spec, at).await?;
            let mark = export.next().0;
            let next = mark.unsigned_abs();
            if state.as_ref().is_some_and(|s| s.next_offset() > next) {
                // The table was built anew meanwhile and stands further back.
                state = self.oracle.partition(partition);
            }
            match &mut state {
                Some(state) if next - state.next_offset() > DRAWN_INSIDE_SNAPSHOT => {
                    drop(export);
                    state.advance_to(next);
                    continue;
                }
                Some(state) => state.advance_to(next),
                None => {}
            }
            return Ok(Verdict {
                partition: at.0,
                next: mark,
                outcome: self.compare(export, state.as_ref()).await?,
            });
        }
    }

    /// Compares the rows of one snapshot with the oracle's state at its mark.
    async fn compare(
        &self,
        export: PartitionExport,
        state: Option<&PartitionState<'_>>,
    ) -> Result<Outcome, Failure> {
        let mut comparer = Comparer::new(&self.columns, state);
        let report = export.read(|row| comparer.row(&row)).await?;
        let mut outcome = comparer.finish();
        if !report.sums_agree() {
            outcome.differ(|| "the stored checksums are not those of the rows".to_owned());
        }
        Ok(outcome)
    }
}
