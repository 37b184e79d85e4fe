//! The switch.

use std::time::SystemTime;

use refold_domain::barrier::OffsetVector;
use refold_domain::cutover::Behind;
use refold_domain::cutover::Evidence;
use refold_domain::cutover::GateReport;
use refold_domain::cutover::judge_forced;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_domain::version::VersionState;
use tokio::time::Instant;

use crate::registry::ActiveRow;
use crate::registry::Durability;
use crate::registry::PromoteRequest;
use crate::registry::Promotion;
use crate::registry::RegistryError;

use super::Omission;
use super::state::State;

impl State {
    pub(super) fn promote(
        &mut self,
        request: &PromoteRequest,
        from: &ProjectionSpec,
        to: &ProjectionSpec,
    ) -> Result<Promotion, RegistryError> {
        let begun = Instant::now();
        let name = self.row(request.to)?.name.clone();
        let active = self.active.get(&name).copied().ok_or_else(|| {
            RegistryError::Conflict(format!(
                "no version of {name} is active: activate one first"
            ))
        })?;
        if active.version == request.to {
            return Ok(self.already(active));
        }
        if let Some(wanted) = request.if_generation
            && wanted != active.generation
        {
            let found = active.generation;
            return Err(RegistryError::GenerationChanged { wanted, found });
        }
        self.require_specs(active.version, request.to, (from, to))?;
        let switch = self.switch_between(request.barrier, active.version, request.to)?;
        let gates = self.gates(request, active.version, &switch)?;
        let changed = !request.dry_run;
        let promotion = Promotion {
            id: format!("promotion-{}", self.promotions.len() + 1),
            from: Some(active.version),
            to: request.to,
            generation: active.generation + i64::from(changed),
            switch,
            gates,
            switched_at: SystemTime::now(),
            flip: begun.elapsed(),
            changed,
            durability: changed.then_some(Durability::Local),
        };
        if changed {
            if !self.lacks(Omission::OneActive) {
                self.step(active.version, VersionState::Previous)?;
            }
            if self.lacks(Omission::Recheck) {
                self.row(request.to)?.state = VersionState::Active;
            } else {
                self.step(request.to, VersionState::Active)?;
            }
            let row = ActiveRow {
                version: request.to,
                generation: promotion.generation,
            };
            self.active.insert(name, row);
            self.promotions.push(promotion.clone());
            let sentence = format!("{} promoted version {}", request.actor, request.to);
            self.audit.push(sentence);
        }
        Ok(promotion)
    }

    /// The stored answer of the promotion that made this version active.
    fn already(&self, active: ActiveRow) -> Promotion {
        let stored = self
            .promotions
            .iter()
            .rev()
            .find(|p| p.to == active.version);
        let mut promotion = stored.cloned().unwrap_or_else(|| Promotion {
            id: "promotion-0".to_owned(),
            from: None,
            to: active.version,
            generation: active.generation,
            switch: OffsetVector::new(),
            gates: Vec::new(),
            switched_at: SystemTime::now(),
            flip: std::time::Duration::ZERO,
            changed: false,
            durability: None,
        });
        promotion.changed = false;
        promotion.durability = Some(Durability::Local);
        promotion
    }

    /// The specs must be those of the versions that are switched, as they were built.
    fn require_specs(
        &self,
        old: VersionId,
        new: VersionId,
        specs: (&ProjectionSpec, &ProjectionSpec),
    ) -> Result<(), RegistryError> {
        for (version, spec) in [(old, specs.0), (new, specs.1)] {
            let Some(stored) = self.versions.get(&version) else {
                return Err(RegistryError::UnknownVersion(version.to_string()));
            };
            if stored.row.label != spec.label() {
                return Err(RegistryError::Conflict(format!(
                    "version {} serves or is asked for, not {}: look again",
                    stored.row.label,
                    spec.label()
                )));
            }
            if stored.row.code_hash != spec.code_hash() {
                return Err(RegistryError::CodeChanged {
                    label: spec.label(),
                    stored: stored.row.code_hash.clone(),
                    running: spec.code_hash(),
                });
            }
        }
        Ok(())
    }

    fn switch_between(
        &self,
        barrier: i64,
        from: VersionId,
        to: VersionId,
    ) -> Result<OffsetVector, RegistryError> {
        let found = self.barrier(barrier)?;
        if !found.waiting && !self.lacks(Omission::Recheck) {
            return Err(RegistryError::Conflict(format!(
                "barrier {barrier} was withdrawn or replaced"
            )));
        }
        let row = &found.row;
        if (row.from, row.to) == (from, to) {
            return Ok(row.switch.clone());
        }
        Err(RegistryError::Conflict(format!(
            "barrier {barrier} was set for version {} and {}, not for {from} and {to}",
            row.from, row.to
        )))
    }

    fn gates(
        &self,
        request: &PromoteRequest,
        serving: VersionId,
        switch: &OffsetVector,
    ) -> Result<Vec<GateReport>, RegistryError> {
        let differences = self.barrier(request.barrier)?.compared.clone();
        let (live, new) = (self.vector(serving), self.vector(request.to));
        let trusts = self.lacks(Omission::DurableAck) || self.lacks(Omission::Recheck);
        let checked = switch.iter().filter(|_| !trusts);
        let behind = checked.filter_map(|(partition, x)| {
            let events = new.get(partition).copied().unwrap_or_default().lag_to(*x);
            let partition = *partition;
            (events > 0).then_some(Behind { partition, events })
        });
        let lag = live.iter().map(|(partition, at)| {
            let mark = new.get(partition).copied().unwrap_or_default();
            mark.lag_to(*at)
        });
        let marks = || self.marks_of(request.to);
        let without_key = marks().filter(|(_, mark)| !mark.has_leaf).map(|(p, _)| p);
        let state = self.versions.get(&request.to).map(|v| v.row.state);
        let state = state.filter(|_| !self.lacks(Omission::Recheck));
        let unseen = match self.lacks(Omission::Recheck) {
            true => VersionState::Ready,
            false => VersionState::Dropped,
        };
        let ignores_gaps = self.lacks(Omission::Gaps);
        let evidence = Evidence {
            state: state.unwrap_or(unseen),
            behind: behind.collect(),
            differences,
            // Rows in memory are what they are: nobody changes them behind the writer.
            scan: None,
            max_scan_age: request.max_scan_age,
            parked: marks().map(|(_, mark)| mark.parked.len() as u64).sum(),
            gaps: marks()
                .filter(|_| !ignores_gaps)
                .map(|(_, mark)| mark.gaps.len() as u64)
                .sum(),
            without_key: without_key.collect(),
            lag: lag.max().unwrap_or(0),
            allowed_lag: request.allowed_lag,
        };
        let reports = judge_forced(&evidence, request.forced.as_ref());
        if reports.iter().any(|report| !report.passes()) {
            return Err(RegistryError::GateRefused(reports));
        }
        Ok(reports)
    }
}
