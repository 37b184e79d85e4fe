//! Folds that stay where a confirmation left them: the next one reads only what has come since,
//! whichever keys it is about. What they say is what a fold from the first event on would say,
//! because that is how they came to be; they take the memory of all keys of both versions.

use std::collections::BTreeMap;

use refold_domain::fold::Keys;
use refold_domain::fold::WitnessRow;
use refold_domain::position::Offset;
use refold_domain::position::Partition;

use super::Folds;
use super::Log;
use super::Part;
use super::folds_of;
use super::read_on;
use crate::cli::Failure;

/// The folds of one pair of versions, by partition.
#[derive(Default)]
pub(crate) struct Standing {
    partitions: BTreeMap<Partition, StandingFolds>,
}

impl Standing {
    /// Lends the folds of a partition, which have nothing behind `at`; new ones where there are
    /// none, or where they are ahead.
    pub(super) fn lend(
        &mut self,
        partition: Partition,
        at: Offset,
        parts: &[Part],
    ) -> StandingFolds {
        let kept = self.partitions.remove(&partition);
        let kept = kept.filter(|folds| folds.next <= at);
        kept.unwrap_or_else(|| StandingFolds {
            next: Offset(0),
            folds: folds_of(parts, &Keys::all()),
        })
    }

    /// Takes them back. Folds that failed on their way are not given back.
    pub(super) fn keep(&mut self, partition: Partition, folds: StandingFolds) {
        self.partitions.insert(partition, folds);
    }
}

/// The folds of a partition.
pub(super) struct StandingFolds {
    /// They have everything below.
    next: Offset,
    folds: Folds,
}

impl StandingFolds {
    /// Reads on to `at`, where all parts end; the records that were read. Blocks.
    pub(super) fn advance(
        &mut self,
        log: &Log,
        (partition, at): (Partition, Offset),
        parts: &[Part],
    ) -> Result<u64, Failure> {
        let records = read_on(log, partition, self.next, parts, &mut self.folds)?;
        self.next = at;
        Ok(records)
    }

    /// What each part's fold has of these keys.
    pub(super) fn rows<'a>(
        &self,
        keys: impl Iterator<Item = &'a Vec<u8>> + Clone,
    ) -> Vec<Vec<WitnessRow>> {
        let folds = self.folds.iter();
        folds
            .map(|fold| keys.clone().filter_map(|key| fold.row(key)).collect())
            .collect()
    }
}
