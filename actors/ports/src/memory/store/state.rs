//! What the store holds, and the fence.

use std::collections::BTreeMap;
use std::time::SystemTime;

use refold_domain::barrier::OffsetVector;
use refold_domain::barrier::SumDifference;
use refold_domain::batch::EventGap;
use refold_domain::duty::ReadLatency;
use refold_domain::fence::Claim;
use refold_domain::fence::FenceRefusal;
use refold_domain::fence::FencedMark;
use refold_domain::fence::admit;
use refold_domain::fence::is_ack;
use refold_domain::log::RecordFingerprint;
use refold_domain::parking::ParkedEvent;
use refold_domain::parking::Parking;
use refold_domain::position::Offset;
use refold_domain::position::OffsetRange;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::sums::Sums;
use refold_domain::throttle::Readings;
use refold_domain::version::VersionId;
use refold_domain::version::VersionState;
use tokio::time::Instant;

use crate::registry::ActiveRow;
use crate::registry::BarrierRow;
use crate::registry::Promotion;
use crate::registry::VersionRow;
use crate::sink::Lease;
use crate::sink::StoreError;
use crate::sink::TakeOver;

use super::CommitFault;
use super::Omission;

/// Everything.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) versions: BTreeMap<VersionId, Version>,
    pub(super) active: BTreeMap<String, ActiveRow>,
    pub(super) marks: BTreeMap<(VersionId, Partition), Mark>,
    pub(super) barriers: BTreeMap<i64, Barrier>,
    pub(super) promotions: Vec<Promotion>,
    pub(super) audit: Vec<String>,
    /// Commits asked for so far.
    pub(super) commits: u64,
    /// By the number of the commit that meets it.
    pub(super) faults: BTreeMap<u64, CommitFault>,
    /// Whether no call is answered.
    pub(super) away: bool,
    /// What a look finds.
    pub(super) pressure: Readings,
    /// What a look at the reads finds.
    pub(super) read_latency: ReadLatency,
    /// Looks so far, answered or not.
    pub(super) looks: u64,
    /// The rule that is left out.
    pub(super) omission: Option<Omission>,
    /// The marks that were read last, for a store that sets barriers at them.
    pub(super) read: BTreeMap<VersionId, OffsetVector>,
}

/// A registered version.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) row: VersionRow,
    pub(super) spec: ProjectionSpec,
    /// When it was retired.
    pub(super) retired_at: Option<Instant>,
}

/// One row of the offsets table, and its leaf.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) epoch: i64,
    /// Whether it was taken over since it was made or reset.
    pub(super) begun: bool,
    pub(super) start: Offset,
    pub(super) next: Offset,
    pub(super) last_record: Option<RecordFingerprint>,
    pub(super) sums: Sums,
    pub(super) has_leaf: bool,
    /// The rows of a history that is still being folded.
    pub(super) checkpoint: Option<Vec<StoredRow>>,
    pub(super) reached_log_end: bool,
    pub(super) committed_at: Option<SystemTime>,
    /// Rows by key cell.
    pub(super) leaf: BTreeMap<Vec<u8>, StoredRow>,
    pub(super) gaps: Vec<EventGap>,
    /// Events that were put aside, by offset.
    pub(super) parked: BTreeMap<Offset, ParkedEvent>,
}

/// One row of a leaf.
#[derive(Debug, Clone)]
pub(super) struct StoredRow {
    /// `key, columns..., agg_version, off, deleted`, each with its length.
    pub(super) cells: Vec<u8>,
    pub(super) off: i64,
}

/// A barrier with what was recorded at it.
#[derive(Debug)]
pub(super) struct Barrier {
    pub(super) row: BarrierRow,
    /// Neither replaced nor withdrawn.
    pub(super) waiting: bool,
    pub(super) acks: BTreeMap<(VersionId, Partition), Sums>,
    /// What the last comparison of the acks found; the proof that a promotion goes by.
    pub(super) compared: Option<Vec<SumDifference>>,
}

impl Barrier {
    pub(super) fn concerns(&self, version: VersionId) -> bool {
        self.waiting && (self.row.from == version || self.row.to == version)
    }
}

/// What a commit leaves beside the rows.
pub(super) struct Advance<'a> {
    pub(super) range: OffsetRange,
    pub(super) sums: &'a Sums,
    pub(super) last_record: Option<RecordFingerprint>,
    pub(super) gaps: &'a [EventGap],
    pub(super) parked: &'a [ParkedEvent],
    pub(super) at_log_end: bool,
}

impl State {
    /// Fails while the store is away.
    pub(super) fn reach(&self) -> Result<(), StoreError> {
        if self.away {
            return Err(StoreError::Disconnected("the store is away".to_owned()));
        }
        Ok(())
    }

    /// Raises the epoch of a partition and tells where it stands.
    pub(super) fn take_over(&mut self, wanted: TakeOver<'_>) -> Result<Lease, StoreError> {
        self.reach()?;
        let TakeOver {
            version,
            spec,
            partition,
            start,
            ..
        } = wanted;
        let state = self.projected(version)?;
        let row = &self.versions[&version].row;
        let refuse = |reason: String| Err(StoreError::Refused(reason));
        if row.code_hash != spec.code_hash() {
            return refuse(format!("version {} was built by other code", row.label));
        }
        if !(0..row.log.partitions).contains(&partition.0) {
            return refuse(format!("version {} has no {partition}", row.label));
        }
        if state == VersionState::Building {
            let mark = self.marks.entry((version, partition));
            mark.or_insert_with(|| Mark::at(start, Sums::zero(&spec.sum_layout())));
        }
        let Some(mark) = self.marks.get(&(version, partition)) else {
            return refuse(format!("version {version} has no mark for {partition}"));
        };
        if wanted.loses_to(mark.epoch) {
            let lost = TakeOver::lost(partition, &row.label, mark.epoch);
            return Err(StoreError::Fenced(lost));
        }
        if !mark.begun {
            let epoch = mark.epoch;
            let mark = self.mark(version, partition)?;
            *mark = Mark::at(start, Sums::zero(&spec.sum_layout()));
            mark.epoch = epoch;
        }
        let next = self.mark(version, partition)?.next;
        let switch = self.next_switch((version, partition), next);
        let keeps = self.lacks(Omission::NewEpoch);
        let mark = self.mark(version, partition)?;
        mark.epoch += i64::from(!keeps || mark.epoch == 0);
        Ok(Lease {
            version,
            partition,
            epoch: mark.epoch,
            start: mark.start,
            next: mark.next,
            last_record: mark.last_record,
            sums: mark.sums.clone(),
            has_leaf: mark.has_leaf,
            has_checkpoint: mark.checkpoint.is_some(),
            reached_log_end: mark.reached_log_end,
            switch,
            parking: mark.parking(),
        })
    }

    /// The fence: whether the lease's owner may commit `range`.
    pub(super) fn fence(&self, lease: &Lease, range: OffsetRange) -> Result<(), StoreError> {
        let place = (lease.version, lease.partition);
        let Some(mark) = self.marks.get(&place) else {
            return Err(StoreError::Fenced(format!(
                "no mark for {}",
                lease.partition
            )));
        };
        let state = self.versions.get(&lease.version).map(|v| v.row.state);
        let Some(state) = state else {
            return self.projected(lease.version).map(drop);
        };
        let fenced = FencedMark {
            epoch: mark.epoch,
            next: mark.next,
            state,
        };
        let mut claim = Claim {
            epoch: lease.epoch,
            range,
        };
        if self.lacks(Omission::Fence) {
            return Ok(());
        }
        if self.lacks(Omission::Epoch) {
            claim.epoch = fenced.epoch;
        }
        if self.lacks(Omission::Mark) {
            claim.range.from = fenced.next;
        }
        let cuts = !self.lacks(Omission::Cut);
        admit(&fenced, &claim, self.switches(place).filter(|_| cuts)).map_err(|refusal| {
            match refusal {
                FenceRefusal::OtherEpoch => StoreError::Fenced(format!(
                    "{} of version {} belongs to epoch {}, this writer holds epoch {}",
                    lease.partition, lease.version, mark.epoch, lease.epoch
                )),
                FenceRefusal::OtherMark => StoreError::Fenced(format!(
                    "the mark of {} of version {} is {}, this batch begins at {}",
                    lease.partition, lease.version, mark.next, range.from
                )),
                FenceRefusal::NotProjected(state) => StoreError::Refused(format!(
                    "version {} is {state} and not projected",
                    lease.version
                )),
                FenceRefusal::CutAt(at) => StoreError::CutAt { at },
            }
        })
    }

    /// Moves the mark and records the acks of barriers at exactly the new one.
    /// Returns the next switch offset above it.
    pub(super) fn advance(
        &mut self,
        lease: &Lease,
        step: &Advance<'_>,
    ) -> Result<Option<Offset>, StoreError> {
        let place = (lease.version, lease.partition);
        let mark = self.mark(lease.version, lease.partition)?;
        mark.next = step.range.to;
        mark.sums = step.sums.clone();
        mark.last_record = step.last_record.or(mark.last_record);
        mark.reached_log_end |= step.at_log_end;
        mark.committed_at = Some(SystemTime::now());
        mark.gaps.extend_from_slice(step.gaps);
        for event in step.parked {
            mark.parked.insert(event.offset, event.clone());
        }
        self.record_acks(place, step);
        Ok(self.next_switch(place, step.range.to))
    }

    /// Records the sums of barriers that wait at exactly the new mark.
    pub(super) fn record_acks(&mut self, place: (VersionId, Partition), step: &Advance<'_>) {
        let passes = self.lacks(Omission::Cut);
        for barrier in self.barriers.values_mut().filter(|b| b.concerns(place.0)) {
            let switch = barrier.row.switch.get(&place.1);
            let reached = |x: &Offset| is_ack(*x, step.range.to) || passes && *x < step.range.to;
            if switch.is_some_and(reached) {
                let acks = barrier.acks.entry(place);
                acks.or_insert_with(|| step.sums.clone());
            }
        }
    }

    /// The mark of a partition.
    pub(super) fn mark(
        &mut self,
        version: VersionId,
        partition: Partition,
    ) -> Result<&mut Mark, StoreError> {
        let mark = self.marks.get_mut(&(version, partition));
        mark.ok_or_else(|| {
            StoreError::Refused(format!("version {version} has no mark for {partition}"))
        })
    }

    /// The marks of all partitions of a version.
    pub(super) fn marks_of(&self, version: VersionId) -> impl Iterator<Item = (Partition, &Mark)> {
        let marks = self.marks.iter().filter(move |((v, _), _)| *v == version);
        marks.map(|((_, partition), mark)| (*partition, mark))
    }

    /// The vector of a version's marks.
    pub(super) fn vector(&self, version: VersionId) -> OffsetVector {
        self.marks_of(version)
            .map(|(p, mark)| (p, mark.next))
            .collect()
    }

    /// The state of a version that projectors write to.
    fn projected(&self, version: VersionId) -> Result<VersionState, StoreError> {
        let found = self.versions.get(&version).map(|v| v.row.state);
        match found {
            None => Err(StoreError::Refused(format!(
                "version {version} does not exist"
            ))),
            Some(state) if state.is_projected() => Ok(state),
            Some(state) => Err(StoreError::Refused(format!(
                "version {version} is {state} and not projected"
            ))),
        }
    }

    fn switches(
        &self,
        (version, partition): (VersionId, Partition),
    ) -> impl Iterator<Item = Offset> {
        let barriers = self.barriers.values().filter(move |b| b.concerns(version));
        barriers.filter_map(move |b| b.row.switch.get(&partition).copied())
    }

    fn next_switch(&self, place: (VersionId, Partition), above: Offset) -> Option<Offset> {
        self.switches(place).filter(|x| *x > above).min()
    }
}

impl Mark {
    pub(super) fn at(start: Offset, sums: Sums) -> Self {
        Self {
            epoch: 0,
            begun: true,
            start,
            next: start,
            last_record: None,
            sums,
            has_leaf: false,
            checkpoint: None,
            reached_log_end: false,
            committed_at: None,
            leaf: BTreeMap::new(),
            gaps: Vec::new(),
            parked: BTreeMap::new(),
        }
    }

    /// The aggregates whose events were put aside.
    fn parking(&self) -> Parking {
        let mut parking = Parking::new();
        for event in self.parked.values() {
            parking.taint(&event.key, event.offset);
        }
        parking
    }
}
