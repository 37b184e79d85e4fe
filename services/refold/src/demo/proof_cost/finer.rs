//! What a comparison would take if partitions were summed in more buckets than they are.
//!
//! The product keeps few buckets and a sum of each for every column, see
//! `refold_domain::sums::BUCKETS`. What a comparison costs goes by the number of sums, so as many
//! columns of a made-up pair of versions as make up for the buckets cost the same: they go through
//! the same tables, the same statement and the same comparison.

use std::time::Instant;

use refold_domain::barrier::ROW_COUNT;
use refold_domain::spec::ProjectionSpec;
use refold_domain::sums::APPLIED_SEQ;
use refold_domain::sums::BUCKETS;
use refold_ports::Registry;
use refold_projection::Column;
use refold_projection::ColumnType;
use refold_projection::Compare;

use crate::cli::Failure;
use crate::cli::Kind;
use crate::connect::query;
use crate::demo::scene::Scene;

/// Buckets a partition that the goal for a comparison is set for.
pub(super) const FINE_BUCKETS: usize = 256;

/// A barrier that two made-up versions have reached, with random sums that are equal.
pub(super) struct FinerBarrier {
    specs: [ProjectionSpec; 2],
    columns: Vec<&'static str>,
    barrier: i64,
}

impl FinerBarrier {
    /// Writes as many sums for each of `partitions` as [`FINE_BUCKETS`] of `columns` columns have,
    /// and looks whether a single one that differs is found.
    ///
    /// # Errors
    /// What the database says, or that a comparison is wrong.
    pub(super) async fn write(
        scene: &mut Scene,
        like: &ProjectionSpec,
        (partitions, columns): (i32, usize),
    ) -> Result<Self, Failure> {
        let names = column_names(columns * FINE_BUCKETS / BUCKETS);
        let specs = [1, 2].map(|number| ProjectionSpec {
            name: NAME,
            number,
            replaces: None,
            columns: int_columns(&names),
            ..like.clone()
        });
        // Counts are half as wide as sums.
        let halves = BUCKETS / 2 + names.len() * BUCKETS + BUCKETS;
        let answer = query(scene.postgres(), &fill_sql(partitions, halves)).await?;
        let barrier = answer.trim().parse();
        let barrier = barrier.map_err(|error| Failure::error("read a barrier's number", error))?;
        let finer = Self {
            specs,
            columns: names.into_iter().chain([APPLIED_SEQ]).collect(),
            barrier,
        };
        finer.expect_differences(scene, 0).await?;
        query(scene.postgres(), &flip_sql(barrier)).await?;
        finer.expect_differences(scene, 1).await?;
        query(scene.postgres(), &flip_sql(barrier)).await?;
        Ok(finer)
    }

    /// Sums of one version, over all partitions, are `sums() * partitions`.
    pub(super) fn sums(&self) -> usize {
        self.columns.len() * BUCKETS
    }

    /// Milliseconds that one comparison takes.
    ///
    /// # Errors
    /// What the database says, or that the comparison finds what is not there.
    pub(super) async fn compare(&self, scene: &mut Scene) -> Result<f64, Failure> {
        self.expect_differences(scene, 0).await
    }

    async fn expect_differences(&self, scene: &mut Scene, wanted: usize) -> Result<f64, Failure> {
        let registry = scene.registry().await?;
        let [old, new] = &self.specs;
        let began = Instant::now();
        let proof = registry.compare_at_barrier(self.barrier, old, new, &self.columns);
        let differences = proof.await?.differences;
        let elapsed = began.elapsed();
        let found = differences.iter().filter(|d| d.column != ROW_COUNT);
        if differences.len() != wanted || found.count() != wanted {
            let found = differences.len();
            let sentence = format!("{found} sums differ where {wanted} do");
            return Err(Failure::new(Kind::Differences, sentence));
        }
        Ok(elapsed.as_secs_f64() * 1_000.0)
    }
}

/// The projection of the made-up versions, which no process runs.
const NAME: &str = "finer";

/// Names of the columns beside [`APPLIED_SEQ`] that `columns` in all need. They live as long as
/// the process, like those of a linked projection.
fn column_names(columns: usize) -> Vec<&'static str> {
    (1..columns)
        .map(|at| &*Box::leak(format!("column_{at}").into_boxed_str()))
        .collect()
}

fn int_columns(names: &[&'static str]) -> &'static [Column] {
    let columns = names.iter().map(|name| Column {
        name,
        ty: ColumnType::Int8,
        nullable: false,
        compare: Compare::Same,
    });
    Vec::leak(columns.collect())
}

/// Two versions, a barrier between them, and its record in every partition: `halves` times 16
/// bytes, the same in both versions. Answers with the barrier's number.
fn fill_sql(partitions: i32, halves: usize) -> String {
    format!(
        "with versions as (
            insert into refold.versions
                (name, number, label, state, code_hash, key_type, columns, cluster_id, topic, partitions)
            select '{NAME}', n, '{NAME}_v' || n, 'ready', '', 'bigint', '[]', '', '', {partitions}
            from generate_series(1, 2) n returning id, number
        ), barrier as (
            insert into refold.barriers (version_from, version_to, state)
            select one.id, two.id, 'complete' from versions one, versions two
            where one.number = 1 and two.number = 2 returning *
        ), switch as (
            insert into refold.barrier_switch
            select id, p, 0 from barrier, generate_series(0, {partitions} - 1) p
        ), sums as (
            select p, decode(string_agg(md5(p || ' ' || i), ''), 'hex') as sums
            from generate_series(0, {partitions} - 1) p, generate_series(1, {halves}) i group by p
        ), acks as (
            insert into refold.barrier_acks
            select b.id, v, p, sums, 0
            from barrier b, unnest(array[version_from, version_to]) v, sums
        )
        select id from barrier"
    )
}

/// Turns the last bit of one version's last partition around.
fn flip_sql(barrier: i64) -> String {
    format!(
        "update refold.barrier_acks set sums =
            set_bit(sums, octet_length(sums) * 8 - 1, 1 - get_bit(sums, octet_length(sums) * 8 - 1))
        where (barrier, version, partition) =
            (select barrier, version, partition from refold.barrier_acks where barrier = {barrier}
            order by version desc, partition desc limit 1)"
    )
}
