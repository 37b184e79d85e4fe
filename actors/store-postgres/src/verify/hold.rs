//! The moment in which both versions of a partition stand at one offset.

use std::time::Duration;
use std::time::Instant;

use refold_domain::position::Partition;
use refold_ports::registry::RegistryError;
use refold_ports::registry::VersionRow;
use uuid::Uuid;

use super::SnapshotMark;
use super::begin_snapshot;
use crate::parameter::Parameter;
use crate::session::Session;
use crate::transaction::field;
use crate::transaction::query;
use crate::transaction::registry_error;

const HOLD: &str = include_str!("../sql/verify_hold.sql");
const PARK: &str = include_str!("../sql/verify_park.sql");
const UNPARK: &str = include_str!("../sql/verify_unpark.sql");

/// Between two looks at a parked partition.
const POLL: Duration = Duration::from_millis(2);

/// How much longer than its wait a park may live when its verifier dies.
const LEASE: Duration = Duration::from_secs(2);

/// The sessions of one worker, and whom they compare.
pub(super) struct Holder<'a> {
    pub(super) id: Uuid,
    pub(super) from: &'a VersionRow,
    pub(super) to: &'a VersionRow,
    /// How long a version may take to reach the offset.
    pub(super) wait: Duration,
    /// Takes and lifts parks.
    pub(super) control: Session,
    /// Holds one snapshot at a time.
    pub(super) reader: Session,
}

/// Both leaves of a partition at one offset.
pub(super) struct Held {
    pub(super) from: SnapshotMark,
    pub(super) to: SnapshotMark,
    /// How long the projection was held.
    pub(super) held: Duration,
}

impl Holder<'_> {
    /// Leaves the reader inside a snapshot that shows both versions at one offset. No
    /// park is left behind, whatever happens.
    pub(super) async fn at_equal_marks(&self, partition: Partition) -> Result<Held, RegistryError> {
        // A quiet tail needs no park.
        let (from, to) = self.snapshot(partition).await?;
        if from.next == to.next {
            let held = Duration::ZERO;
            return Ok(Held { from, to, held });
        }
        let started = Instant::now();
        let found = self.parked(partition, started).await;
        let lifted = self.unpark(partition).await;
        let (from, to) = found?;
        lifted?;
        let held = started.elapsed();
        Ok(Held { from, to, held })
    }

    /// Parks the partition and waits until a snapshot shows both marks equal.
    async fn parked(
        &self,
        partition: Partition,
        started: Instant,
    ) -> Result<(SnapshotMark, SnapshotMark), RegistryError> {
        self.park(partition).await?;
        loop {
            self.end_snapshot().await?;
            let (from, to) = self.snapshot(partition).await?;
            if from.next == to.next {
                return Ok((from, to));
            }
            if started.elapsed() >= self.wait {
                return Err(self.not_reached(partition, &from, &to));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends the snapshot.
    pub(super) async fn end_snapshot(&self) -> Result<(), RegistryError> {
        self.reader.rollback().await.map_err(registry_error)
    }

    fn not_reached(
        &self,
        partition: Partition,
        from: &SnapshotMark,
        to: &SnapshotMark,
    ) -> RegistryError {
        let (a, b) = (from.next, to.next);
        let (label, at, wanted) = if a < b {
            (&self.from.label, a, b)
        } else {
            (&self.to.label, b, a)
        };
        let waited = self.wait;
        RegistryError::Conflict(format!(
            "{label} stands at {at} in {partition} and did not reach {wanted} within {waited:?}: does its projector run?"
        ))
    }

    /// Begins a snapshot and reads both marks in it.
    async fn snapshot(
        &self,
        partition: Partition,
    ) -> Result<(SnapshotMark, SnapshotMark), RegistryError> {
        let versions = (self.from.id, self.to.id);
        let mut marks = begin_snapshot(&self.reader, versions, partition).await?;
        // A version compared with itself has one mark, and is refused here.
        let mut take = |id| {
            let at = marks.iter().position(|mark| mark.version == id)?;
            Some(marks.swap_remove(at))
        };
        let both = take(versions.0).zip(take(versions.1));
        both.ok_or_else(|| {
            RegistryError::Conflict(format!(
                "{} and {} do not both have a table for {partition}",
                self.from.label, self.to.label
            ))
        })
    }

    /// Parks both versions at the higher mark of the partition.
    async fn park(&self, partition: Partition) -> Result<(), RegistryError> {
        let parked = self.park_in_transaction(partition).await;
        if parked.is_err() {
            // What went wrong is the answer; a session that cannot roll back is gone anyway.
            drop(self.control.rollback().await);
        }
        parked
    }

    async fn park_in_transaction(&self, partition: Partition) -> Result<(), RegistryError> {
        let control = &self.control;
        let pair = (&self.from.id.0, &self.to.id.0);
        let lease = (self.wait + LEASE).as_secs_f64();
        let begin = control.batch("begin the park", "begin").await;
        begin.map_err(registry_error)?;
        let both: [&dyn Parameter; 3] = [pair.0, pair.1, &partition.0];
        query(control, "hold the partition's marks", HOLD, &both).await?;
        let what = "park the partition";
        let park: [&dyn Parameter; 5] = [pair.0, pair.1, &partition.0, &self.id, &lease];
        let parked = query(control, what, PARK, &park).await?;
        let row = parked
            .first()
            .ok_or_else(|| RegistryError::Failed(format!("{what}: no row came back")))?;
        let xid: String = field(row, "xid")?;
        control.commit(&xid).await.map_err(registry_error)
    }

    async fn unpark(&self, partition: Partition) -> Result<(), RegistryError> {
        let parameters: [&dyn Parameter; 2] = [&self.id, &partition.0];
        query(&self.control, "lift the park", UNPARK, &parameters).await?;
        Ok(())
    }
}
