//! The registry as an answer: versions and their partitions.

use std::collections::HashMap;
use std::time::SystemTime;

use poem_openapi::Object;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::registry::ActiveRow;
use refold_ports::registry::MarkRow;
use refold_ports::registry::RegistryError;
use refold_ports::registry::VersionRow;

use crate::rfc3339;
use crate::state::ApiState;

/// One version of a projection.
#[derive(Debug, Clone, Object)]
#[oai(skip_serializing_if_is_none)]
pub(crate) struct VersionAnswer {
    /// The projection's name.
    projection: String,
    /// The version's label.
    version: String,
    /// building, ready, active, previous, failed, retired or dropped.
    state: String,
    /// The projection's generation, on the version that serves reads.
    generation: Option<i64>,
    /// Fingerprint of the code that builds it.
    code: String,
    /// The topic that it is built from.
    topic: String,
    /// Partitions of the topic.
    partitions: i32,
    /// Partitions whose whole history was in at some commit.
    partitions_at_tail: u32,
    /// Rows that are not deleted.
    rows: u64,
    /// The sum of the partitions' durable marks.
    offset_sum: i64,
    /// Events that its marks stand behind the version that serves reads.
    behind_active_events: Option<u64>,
    /// Time of its latest commit.
    last_commit_at: Option<String>,
    /// When it was registered.
    created_at: String,
    /// Why it failed, or what else to know.
    note: Option<String>,
}

/// The registry.
#[derive(Debug, Clone, Object)]
#[oai(skip_serializing_if_is_none)]
pub(crate) struct ProjectionsAnswer {
    /// Generation of the projection that was asked for; what `If-Match` compares with.
    /// Absent before the first activation.
    pub(crate) generation: Option<i64>,
    /// Versions, oldest first.
    projections: Vec<VersionAnswer>,
}

/// One partition of a version.
#[derive(Debug, Clone, Object)]
#[oai(skip_serializing_if_is_none)]
pub(crate) struct PartitionAnswer {
    /// The partition.
    partition: i32,
    /// The durable mark, exclusive: everything below is in the table.
    position: i64,
    /// Rows that are not deleted.
    rows: u64,
    /// Whether its table exists.
    has_table: bool,
    /// Whether its whole history was in at some commit.
    reached_log_end: bool,
    /// Epoch of the owner; grows with every take-over.
    epoch: i64,
    /// Events that the mark stands behind the version that serves reads.
    behind_active_events: Option<u64>,
    /// Time of the latest commit.
    last_commit_at: Option<String>,
}

/// The partitions of a version.
#[derive(Debug, Clone, Object)]
pub(crate) struct PartitionsAnswer {
    /// The version's label.
    version: String,
    /// Its partitions in order.
    partitions: Vec<PartitionAnswer>,
}

/// Where the serving version stands.
struct Serving {
    row: ActiveRow,
    marks: HashMap<Partition, Offset>,
}

async fn serving(state: &ApiState, name: &str) -> Result<Option<Serving>, RegistryError> {
    let Some(row) = state.registry.active(name).await? else {
        return Ok(None);
    };
    let marks = state.registry.marks(row.version).await?;
    let marks = marks.into_iter().map(|m| (m.partition, m.next)).collect();
    Ok(Some(Serving { row, marks }))
}

/// All versions of one projection, or of every projection when `only` is `None`.
/// `default` names the projection whose generation is shown.
pub(crate) async fn all(
    state: &ApiState,
    only: Option<&str>,
    default: &str,
) -> Result<ProjectionsAnswer, RegistryError> {
    let mut by_name: HashMap<String, Option<Serving>> = HashMap::new();
    let mut projections = Vec::new();
    for version in state.versions().await? {
        if only.is_some_and(|name| name != version.name) {
            continue;
        }
        if !by_name.contains_key(&version.name) {
            let found = serving(state, &version.name).await?;
            by_name.insert(version.name.clone(), found);
        }
        let serving = by_name.get(&version.name).and_then(Option::as_ref);
        let marks = state.registry.marks(version.id).await?;
        projections.push(version_answer(version, &marks, serving));
    }
    let default = by_name.get(default).and_then(Option::as_ref);
    Ok(ProjectionsAnswer {
        generation: default.map(|s| s.row.generation),
        projections,
    })
}

/// One version, and the generation of its projection.
pub(crate) async fn one(
    state: &ApiState,
    label: &str,
) -> Result<(VersionAnswer, Option<i64>), RegistryError> {
    let version = state.registry.version(label).await?;
    let serving = serving(state, &version.name).await?;
    let marks = state.registry.marks(version.id).await?;
    let generation = serving.as_ref().map(|s| s.row.generation);
    Ok((
        version_answer(version, &marks, serving.as_ref()),
        generation,
    ))
}

fn version_answer(
    version: VersionRow,
    marks: &[MarkRow],
    serving: Option<&Serving>,
) -> VersionAnswer {
    let active = serving.filter(|s| s.row.version == version.id);
    let behind = serving.map(|s| marks.iter().map(|m| behind(m, s)).sum());
    let at_tail = marks.iter().filter(|m| m.has_leaf && m.reached_log_end);
    let last_commit = marks.iter().filter_map(|m| m.committed_at).max();
    VersionAnswer {
        projection: version.name,
        version: version.label,
        state: version.state.word().to_owned(),
        generation: active.map(|s| s.row.generation),
        code: version.code_hash,
        topic: version.log.topic,
        partitions: version.log.partitions,
        partitions_at_tail: u32::try_from(at_tail.count()).unwrap_or(u32::MAX),
        rows: marks.iter().map(|m| m.rows).sum(),
        offset_sum: marks.iter().map(|m| m.next.0).sum(),
        behind_active_events: behind,
        last_commit_at: last_commit.map(rfc3339::text),
        created_at: rfc3339::text(version.created_at),
        note: version.note,
    }
}

fn behind(mark: &MarkRow, serving: &Serving) -> u64 {
    let live = serving.marks.get(&mark.partition);
    live.map_or(0, |at| mark.next.lag_to(*at))
}

/// The partitions of one version.
pub(crate) async fn partitions(
    state: &ApiState,
    label: &str,
) -> Result<PartitionsAnswer, RegistryError> {
    let version = state.registry.version(label).await?;
    let serving = serving(state, &version.name).await?;
    let marks = state.registry.marks(version.id).await?;
    let partitions = marks.iter().map(|mark| PartitionAnswer {
        partition: mark.partition.0,
        position: mark.next.0,
        rows: mark.rows,
        has_table: mark.has_leaf,
        reached_log_end: mark.reached_log_end,
        epoch: mark.epoch,
        behind_active_events: serving.as_ref().map(|s| behind(mark, s)),
        last_commit_at: mark.committed_at.map(|at: SystemTime| rfc3339::text(at)),
    });
    Ok(PartitionsAnswer {
        version: version.label,
        partitions: partitions.collect(),
    })
}
