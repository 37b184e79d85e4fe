//! The registry: versions and their states. Barriers and promotions are in
//! their own files, as functions on the state.

use std::time::Duration;
use std::time::SystemTime;

use async_trait::async_trait;
use refold_domain::cutover::Forced;
use refold_domain::log::TopicIdentity;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_domain::version::VersionState;
use tokio::time::Instant;

use crate::registry::Activation;
use crate::registry::ActiveRow;
use crate::registry::BarrierProgress;
use crate::registry::BarrierProof;
use crate::registry::BarrierRow;
use crate::registry::Durability;
use crate::registry::MarkRow;
use crate::registry::PromoteRequest;
use crate::registry::Promotion;
use crate::registry::Registry;
use crate::registry::RegistryError;
use crate::registry::ResetRequest;
use crate::registry::RetireRequest;
use crate::registry::VersionRow;

use super::MemoryStore;
use super::Omission;
use super::state::State;
use super::state::Version;

#[async_trait]
impl Registry for MemoryStore {
    async fn register(
        &self,
        spec: &ProjectionSpec,
        log: &TopicIdentity,
    ) -> Result<VersionRow, RegistryError> {
        let mut state = self.reached()?;
        state.register(spec, log)
    }

    async fn versions(&self) -> Result<Vec<VersionRow>, RegistryError> {
        let state = self.reached()?;
        Ok(state.versions.values().map(|v| v.row.clone()).collect())
    }

    async fn version(&self, label: &str) -> Result<VersionRow, RegistryError> {
        let state = self.reached()?;
        let found = state.versions.values().find(|v| v.row.label == label);
        found
            .map(|v| v.row.clone())
            .ok_or_else(|| RegistryError::UnknownVersion(label.to_owned()))
    }

    async fn active(&self, name: &str) -> Result<Option<ActiveRow>, RegistryError> {
        Ok(self.reached()?.active.get(name).copied())
    }

    async fn marks(&self, version: VersionId) -> Result<Vec<MarkRow>, RegistryError> {
        let mut state = self.reached()?;
        let vector = state.vector(version);
        state.read.insert(version, vector);
        let rows = state.marks_of(version).map(|(partition, mark)| MarkRow {
            partition,
            epoch: mark.epoch,
            next: mark.next,
            has_leaf: mark.has_leaf,
            reached_log_end: mark.reached_log_end,
            rows: mark.sums.rows(),
            committed_at: mark.committed_at,
        });
        Ok(rows.collect())
    }

    async fn make_ready(&self, version: VersionId) -> Result<bool, RegistryError> {
        self.reached()?.make_ready(version)
    }

    async fn activate_first(
        &self,
        version: VersionId,
        actor: &str,
        // It knows no gate that could hold a first version back.
        _forced: Option<&Forced>,
    ) -> Result<Activation, RegistryError> {
        self.reached()?.activate_first(version, actor)
    }

    async fn fail(&self, version: VersionId, reason: &str) -> Result<(), RegistryError> {
        let mut state = self.reached()?;
        state.step(version, VersionState::Failed)?;
        state.row(version)?.note = Some(reason.to_owned());
        state
            .audit
            .push(format!("version {version} failed: {reason}"));
        Ok(())
    }

    async fn set_barrier(
        &self,
        from: VersionId,
        to: VersionId,
    ) -> Result<BarrierRow, RegistryError> {
        self.reached()?.set_barrier(from, to)
    }

    async fn barrier_progress(&self, barrier: i64) -> Result<BarrierProgress, RegistryError> {
        self.reached()?.barrier_progress(barrier)
    }

    async fn compare_at_barrier(
        &self,
        barrier: i64,
        from: &ProjectionSpec,
        to: &ProjectionSpec,
        columns: &[&'static str],
    ) -> Result<BarrierProof, RegistryError> {
        self.reached()?
            .compare_at_barrier(barrier, from, to, columns)
    }

    async fn drop_barrier(&self, barrier: i64) -> Result<(), RegistryError> {
        if let Some(barrier) = self.reached()?.barriers.get_mut(&barrier) {
            barrier.waiting = false;
        }
        Ok(())
    }

    async fn promote(
        &self,
        request: &PromoteRequest,
        from: &ProjectionSpec,
        to: &ProjectionSpec,
    ) -> Result<Promotion, RegistryError> {
        self.reached()?.promote(request, from, to)
    }

    async fn retire_as(&self, request: &RetireRequest) -> Result<(), RegistryError> {
        self.reached()?.retire(request)
    }

    async fn drop_retired(
        &self,
        version: VersionId,
        grace: Duration,
        actor: &str,
    ) -> Result<(), RegistryError> {
        self.reached()?.drop_retired(version, grace, actor)
    }

    async fn reset(&self, request: &ResetRequest) -> Result<(), RegistryError> {
        self.reached()?.reset(request)
    }
}

impl MemoryStore {
    pub(super) fn reached(&self) -> Result<std::sync::MutexGuard<'_, State>, RegistryError> {
        let state = self.lock();
        match state.reach() {
            Ok(()) => Ok(state),
            Err(away) => Err(RegistryError::Unreachable(away.to_string())),
        }
    }
}

impl State {
    fn register(
        &mut self,
        spec: &ProjectionSpec,
        log: &TopicIdentity,
    ) -> Result<VersionRow, RegistryError> {
        let label = spec.label();
        let found = self.versions.values().find(|v| v.row.label == label);
        let Some(found) = found else {
            let id = VersionId(self.versions.len() as i64 + 1);
            let row = VersionRow {
                id,
                name: spec.name.to_owned(),
                label: label.clone(),
                state: VersionState::Building,
                code_hash: spec.code_hash(),
                log: log.clone(),
                note: None,
                created_at: SystemTime::now(),
            };
            let spec = spec.clone();
            let version = Version {
                row: row.clone(),
                spec,
                retired_at: None,
            };
            self.versions.insert(id, version);
            self.audit.push(format!("version {label} registered"));
            return Ok(row);
        };
        if found.row.code_hash != spec.code_hash() {
            return Err(RegistryError::CodeChanged {
                label,
                stored: found.row.code_hash.clone(),
                running: spec.code_hash(),
            });
        }
        if let Some(detail) = log_difference(&found.row.log, log) {
            return Err(RegistryError::LogChanged { label, detail });
        }
        let row = self.row(found.row.id)?;
        // A client that knows the topic's id came later: from now on it has to stay this one.
        row.log.topic_id = row.log.topic_id.take().or_else(|| log.topic_id.clone());
        Ok(row.clone())
    }

    fn make_ready(&mut self, version: VersionId) -> Result<bool, RegistryError> {
        let row = self.row(version)?;
        let partitions = row.log.partitions;
        match row.state {
            VersionState::Building => {}
            state if state.is_readable() => return Ok(true),
            state => {
                let label = &row.label;
                return Err(RegistryError::Conflict(format!(
                    "version {label} is {state}"
                )));
            }
        }
        let done = self.marks_of(version);
        let done = done
            .filter(|(_, m)| m.has_leaf && m.reached_log_end)
            .count();
        if done as i64 != i64::from(partitions) {
            return Ok(false);
        }
        self.step(version, VersionState::Ready)?;
        self.audit.push(format!("version {version} is ready"));
        Ok(true)
    }

    fn activate_first(
        &mut self,
        version: VersionId,
        actor: &str,
    ) -> Result<Activation, RegistryError> {
        let name = self.row(version)?.name.clone();
        if let Some(active) = self.active.get(&name) {
            if active.version == version {
                return Ok(activation(*active));
            }
            return Err(RegistryError::Conflict(format!(
                "version {} of {name} is active: promote instead",
                active.version
            )));
        }
        self.step(version, VersionState::Active)?;
        let active = ActiveRow {
            version,
            generation: 1,
        };
        self.active.insert(name, active);
        let sentence =
            format!("{actor} activated version {version} as the first, compared with nothing");
        self.audit.push(sentence);
        Ok(activation(active))
    }

    fn retire(&mut self, request: &RetireRequest) -> Result<(), RegistryError> {
        let (version, actor, reason) = (request.version, &request.actor, &request.reason);
        let row = self.row(version)?.clone();
        if let Some(wanted) = request.if_generation {
            let found = self.active.get(&row.name).map_or(0, |a| a.generation);
            if found != wanted {
                return Err(RegistryError::GenerationChanged { wanted, found });
            }
        }
        if row.state == VersionState::Retired {
            return Ok(());
        }
        if request.abort && row.state == VersionState::Previous {
            let sentence = format!("{} served before; retire it instead", row.label);
            return Err(RegistryError::Conflict(sentence));
        }
        if self.lacks(Omission::KeepActive) {
            self.row(version)?.state = VersionState::Retired;
        } else {
            self.step(version, VersionState::Retired)?;
        }
        self.row(version)?.note = Some(reason.clone());
        if let Some(retired) = self.versions.get_mut(&version) {
            retired.retired_at = Some(Instant::now());
        }
        // No batch is cut at a switch that cannot come.
        let barriers = self.barriers.values_mut();
        for barrier in barriers.filter(|barrier| barrier.concerns(version)) {
            barrier.waiting = false;
        }
        self.audit
            .push(format!("{actor} retired version {version}: {reason}"));
        Ok(())
    }

    fn drop_retired(
        &mut self,
        version: VersionId,
        grace: Duration,
        actor: &str,
    ) -> Result<(), RegistryError> {
        let row = self.row(version)?.clone();
        if row.state == VersionState::Dropped {
            return Ok(());
        }
        if row.state != VersionState::Retired {
            let (label, state) = (&row.label, row.state);
            let sentence = format!("{label} is {state}; retire it first");
            return Err(RegistryError::Conflict(sentence));
        }
        let retired_at = self.versions.get(&version).and_then(|v| v.retired_at);
        let age = retired_at.map(|at| at.elapsed()).unwrap_or_default();
        if age < grace {
            let label = &row.label;
            return Err(RegistryError::Conflict(format!(
                "{label} was retired {age:.1?} ago; its tables stay for {grace:.1?}"
            )));
        }
        self.step(version, VersionState::Dropped)?;
        self.marks.retain(|(of, _), _| *of != version);
        self.audit
            .push(format!("{actor} dropped version {version}"));
        Ok(())
    }

    /// Moves a version to another state if the state machine has that step.
    pub(super) fn step(
        &mut self,
        version: VersionId,
        next: VersionState,
    ) -> Result<(), RegistryError> {
        let row = self.row(version)?;
        if !row.state.may_become(next) {
            return Err(RegistryError::Conflict(format!(
                "version {} is {} and cannot become {next}",
                row.label, row.state
            )));
        }
        row.state = next;
        Ok(())
    }

    /// The row of a version.
    pub(super) fn row(&mut self, version: VersionId) -> Result<&mut VersionRow, RegistryError> {
        let found = self.versions.get_mut(&version);
        found
            .map(|v| &mut v.row)
            .ok_or_else(|| RegistryError::UnknownVersion(version.to_string()))
    }
}

/// Memory has no standby.
fn activation(active: ActiveRow) -> Activation {
    Activation {
        active,
        durability: Durability::Local,
    }
}

/// What two identities differ in. A topic id that one side does not know says nothing.
pub(super) fn log_difference(stored: &TopicIdentity, found: &TopicIdentity) -> Option<String> {
    let differs = |what: &str, a: &dyn std::fmt::Display, b: &dyn std::fmt::Display| {
        Some(format!("{what} is {b}, was {a}"))
    };
    if stored.cluster_id != found.cluster_id {
        return differs("the cluster id", &stored.cluster_id, &found.cluster_id);
    }
    if stored.topic != found.topic {
        return differs("the topic", &stored.topic, &found.topic);
    }
    if stored.partitions != found.partitions {
        return differs(
            "the number of partitions",
            &stored.partitions,
            &found.partitions,
        );
    }
    match (&stored.topic_id, &found.topic_id) {
        (Some(a), Some(b)) if a != b => differs("the topic id", a, b),
        _ => None,
    }
}
