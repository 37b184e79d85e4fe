//! Barriers: setting them, how far they are, what they prove.

use std::collections::BTreeMap;

use refold_domain::barrier::compare_sums;
use refold_domain::barrier::switch_vector;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::sums::Sums;
use refold_domain::version::VersionId;

use crate::registry::BarrierProgress;
use crate::registry::BarrierProof;
use crate::registry::BarrierRow;
use crate::registry::RegistryError;

use super::Omission;
use super::registry::log_difference;
use super::state::Barrier;
use super::state::State;

impl State {
    pub(super) fn set_barrier(
        &mut self,
        from: VersionId,
        to: VersionId,
    ) -> Result<BarrierRow, RegistryError> {
        let conflict = |reason: String| Err(RegistryError::Conflict(reason));
        let (old, new) = (self.row(from)?.clone(), self.row(to)?.clone());
        if from == to || old.name != new.name {
            return conflict(format!(
                "{} and {} are not two versions of one projection",
                old.label, new.label
            ));
        }
        if let Some(detail) = log_difference(&old.log, &new.log) {
            return conflict(format!(
                "{} and {} are not built from one log: {detail}",
                old.label, new.label
            ));
        }
        for row in [&old, &new] {
            if !row.state.is_readable() {
                return conflict(format!("version {} is {}, not ready", row.label, row.state));
            }
        }
        let vector = |version| match self.read.get(&version) {
            Some(read) if self.lacks(Omission::LockedVector) => read.clone(),
            _ => self.vector(version),
        };
        let switch = switch_vector(&vector(from), &vector(to));
        let switch = switch.map_err(|partition| {
            RegistryError::Conflict(format!(
                "only one of the versions has a mark for {partition}"
            ))
        })?;
        let there = |(version, partition): &(VersionId, Partition)| {
            (*version == from || *version == to)
                && self.marks.get(&(*version, *partition)).map(|m| m.next)
                    == switch.get(partition).copied()
        };
        let acks: BTreeMap<_, _> = self
            .marks
            .iter()
            .filter(|(place, _)| there(place))
            .map(|(place, mark)| (*place, mark.sums.clone()))
            .collect();
        self.replace_barriers(&new.name);
        let id = self.barriers.len() as i64 + 1;
        let row = BarrierRow {
            id,
            from,
            to,
            switch,
        };
        let barrier = Barrier {
            row: row.clone(),
            waiting: true,
            acks,
            compared: None,
        };
        self.barriers.insert(id, barrier);
        Ok(row)
    }

    /// Withdraws the barriers of a projection that wait.
    fn replace_barriers(&mut self, name: &str) {
        let versions = &self.versions;
        let of_name = |id: &VersionId| versions.get(id).is_some_and(|v| v.row.name == name);
        for barrier in self.barriers.values_mut() {
            if of_name(&barrier.row.to) {
                barrier.waiting = false;
            }
        }
    }

    pub(super) fn barrier_progress(&self, barrier: i64) -> Result<BarrierProgress, RegistryError> {
        let barrier = self.barrier(barrier)?;
        let row = &barrier.row;
        let pairs = [row.from, row.to].into_iter().flat_map(|version| {
            let switch = row.switch.iter();
            switch.map(move |(partition, x)| (version, *partition, *x))
        });
        let waiting = pairs
            .filter(|(version, partition, _)| !barrier.acks.contains_key(&(*version, *partition)))
            .map(|(version, partition, x)| {
                let mark = self.marks.get(&(version, partition));
                (version, partition, mark.map_or(0, |m| m.next.lag_to(x)))
            });
        Ok(BarrierProgress {
            acked: barrier.acks.len(),
            wanted: 2 * row.switch.len(),
            waiting: waiting.collect(),
        })
    }

    pub(super) fn compare_at_barrier(
        &mut self,
        barrier: i64,
        from: &ProjectionSpec,
        to: &ProjectionSpec,
        columns: &[&'static str],
    ) -> Result<BarrierProof, RegistryError> {
        if !self.barrier(barrier)?.waiting {
            return Err(RegistryError::Conflict(format!(
                "barrier {barrier} was withdrawn or replaced"
            )));
        }
        let progress = self.barrier_progress(barrier)?;
        if !progress.is_complete() {
            return Err(RegistryError::Conflict(format!(
                "barrier {barrier} has {} of {} acks",
                progress.acked, progress.wanted
            )));
        }
        let found = self.barrier(barrier)?;
        let (left, right) = (from.sum_layout(), to.sum_layout());
        let mut differences = Vec::new();
        let mut rows = BTreeMap::new();
        for partition in found.row.switch.keys() {
            let old = ack(found, found.row.from, *partition)?;
            let new = ack(found, found.row.to, *partition)?;
            *rows.entry(found.row.from).or_insert(0) += old.rows();
            *rows.entry(found.row.to).or_insert(0) += new.rows();
            let compared = compare_sums(*partition, (&left, old), (&right, new), columns);
            differences.extend(compared);
        }
        if self.lacks(Omission::Compare) {
            differences.clear();
        }
        if let Some(barrier) = self.barriers.get_mut(&barrier) {
            barrier.compared = Some(differences.clone());
        }
        Ok(BarrierProof {
            barrier,
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
            rows,
            differences,
        })
    }

    /// A barrier by id.
    pub(super) fn barrier(&self, barrier: i64) -> Result<&Barrier, RegistryError> {
        let found = self.barriers.get(&barrier);
        found.ok_or_else(|| RegistryError::Conflict(format!("barrier {barrier} does not exist")))
    }
}

fn ack(
    barrier: &Barrier,
    version: VersionId,
    partition: Partition,
) -> Result<&Sums, RegistryError> {
    let found = barrier.acks.get(&(version, partition));
    found.ok_or_else(|| {
        RegistryError::Conflict(format!("version {version} has no ack for {partition}"))
    })
}
