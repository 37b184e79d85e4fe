//! The checker: all three layers of the proof, which know nothing of what was done.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use refold_domain::diff::KeyShare;
use refold_domain::diff::comparable_columns;
use refold_domain::fold::AnyProjection;
use refold_ports::Registry;
use refold_store_postgres::PgRegistry;
use refold_store_postgres::SessionOptions;

use crate::cli::Failure;
use crate::cli::Kind;
use crate::command::verify::samples;
use crate::command::verify::scan_once;
use crate::witness;

/// How long both versions may take to reach a barrier.
const BARRIER: Duration = Duration::from_secs(30);

/// Between two looks at a barrier.
const LOOK: Duration = Duration::from_millis(5);

/// Whom the checker looks at.
pub(super) struct Checker {
    pub(super) registry: Arc<PgRegistry>,
    pub(super) session: SessionOptions,
    pub(super) log: witness::Log,
    pub(super) old: Arc<dyn AnyProjection>,
    pub(super) new: Arc<dyn AnyProjection>,
}

/// What each layer has to say; nothing where all is well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The checksums of both versions at a switch vector.
    pub(super) sums: Vec<String>,
    /// The scan of both tables.
    pub(super) scan: Vec<String>,
    /// The log, folded again by another way.
    pub(super) log: Vec<String>,
    /// Rows of both versions that were looked at by the scan and by the log.
    pub(super) rows: u64,
}

impl Found {
    /// The layers that found something, as 1, 2 and 3.
    pub(super) fn layers(&self) -> Vec<u8> {
        let layers = [(1, &self.sums), (2, &self.scan), (3, &self.log)];
        let found = layers.into_iter().filter(|(_, told)| !told.is_empty());
        found.map(|(layer, _)| layer).collect()
    }
}

impl Checker {
    /// Asks every layer.
    pub(super) async fn check(&self) -> Result<Found, Failure> {
        let sums = self.sums().await?;
        let scan = scan_once(&self.session, &self.old, &self.new).await?;
        let projections = [Arc::clone(&self.old), Arc::clone(&self.new)];
        let all = KeyShare::new(0, 1);
        let testimony = witness::testify(&self.session, &self.log, &projections, all).await?;
        let wrong = testimony.wrong.iter();
        Ok(Found {
            sums,
            scan: match scan.findings() {
                0 => Vec::new(),
                _ => samples(&scan.partitions).take(5).collect(),
            },
            log: wrong.take(5).map(ToString::to_string).collect(),
            rows: scan.rows() + testimony.keys,
        })
    }

    /// The first layer, as a promotion asks it.
    async fn sums(&self) -> Result<Vec<String>, Failure> {
        let (old, new) = (self.old.spec(), self.new.spec());
        let columns =
            comparable_columns(old, new).map_err(|error| Failure::usage(error.to_string()))?;
        let id = async |label: String| self.registry.version(&label).await.map(|row| row.id);
        let (from, to) = (id(old.label()).await?, id(new.label()).await?);
        let barrier = self.registry.set_barrier(from, to).await?;
        let deadline = Instant::now() + BARRIER;
        while !self
            .registry
            .barrier_progress(barrier.id)
            .await?
            .is_complete()
        {
            if Instant::now() > deadline {
                let sentence = "a barrier was not reached: do both projectors run?";
                return Err(Failure::new(Kind::TimedOut, sentence));
            }
            tokio::time::sleep(LOOK).await;
        }
        let proof = self
            .registry
            .compare_at_barrier(barrier.id, old, new, &columns)
            .await?;
        let told = proof.differences.iter().map(|difference| {
            format!(
                "{} differs in {}, buckets {:?}",
                difference.column, difference.partition, difference.buckets
            )
        });
        Ok(told.take(5).collect())
    }
}
