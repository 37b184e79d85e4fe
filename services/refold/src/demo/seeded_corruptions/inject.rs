//! Doing damage, and undoing it to the byte.

use std::sync::Arc;

use refold_domain::fold::AnyProjection;
use refold_domain::position::Partition;
use refold_store_postgres::PgVerifier;
use refold_store_postgres::SessionOptions;

use super::kinds::Kind;
use super::kinds::Where;
use crate::cli::Failure;
use crate::connect::query;

/// One table of one version.
#[derive(Debug, Clone)]
struct Leaf {
    projection: Arc<dyn AnyProjection>,
    version: i64,
    partition: i32,
}

impl Leaf {
    fn name(&self) -> String {
        format!("rm.v{}_p{}", self.version, self.partition)
    }

    /// Where its rows are kept while it is damaged.
    fn kept(&self) -> String {
        format!("kept.v{}_p{}", self.version, self.partition)
    }
}

/// Where damage is done.
pub(super) struct Ground {
    pub(super) postgres: String,
    pub(super) session: SessionOptions,
    pub(super) old: Arc<dyn AnyProjection>,
    pub(super) new: Arc<dyn AnyProjection>,
    pub(super) partitions: i32,
}

/// Damage that was done.
pub(super) struct Damage {
    leaves: Vec<Leaf>,
    /// What was done, in one line.
    pub(super) told: String,
}

impl Ground {
    /// Asks the database.
    pub(super) async fn sql(&self, sql: &str) -> Result<String, Failure> {
        query(&self.postgres, sql).await
    }

    async fn leaf(
        &self,
        projection: &Arc<dyn AnyProjection>,
        partition: i32,
    ) -> Result<Leaf, Failure> {
        let label = projection.spec().label();
        let id = format!("select id from refold.versions where label = '{label}'");
        let id = self.sql(&id).await?;
        let version = id.trim().parse();
        Ok(Leaf {
            projection: Arc::clone(projection),
            version: version.map_err(|error| Failure::error("read a version's id", error))?,
            partition,
        })
    }

    /// Does `kind` to a random row.
    pub(super) async fn inject(
        &self,
        kind: &Kind,
        dice: &mut fastrand::Rng,
    ) -> Result<Damage, Failure> {
        let partition = dice.i32(0..self.partitions);
        let other = (partition + dice.i32(1..self.partitions)) % self.partitions;
        let target = self.leaf(&self.new, partition).await?;
        let beside = self.leaf(&self.new, other).await?;
        let key = self.random_key(&target, kind, dice).await?;
        let mut leaves = vec![target.clone()];
        match kind.tables {
            Where::New => {}
            Where::NewTwice => leaves.push(beside.clone()),
            Where::Both => leaves.push(self.leaf(&self.old, partition).await?),
        }
        self.sql("create schema if not exists kept").await?;
        for leaf in &leaves {
            let keep = format!(
                "drop table if exists {1}; create table {1} as select * from {0}; \
                 create table {1}_mark as select sums, rows from refold.offsets \
                 where version = {2} and partition = {3}",
                leaf.name(),
                leaf.kept(),
                leaf.version,
                leaf.partition
            );
            self.sql(&keep).await?;
        }
        let changed: Vec<_> = match kind.tables {
            Where::Both => leaves.iter().collect(),
            Where::New | Where::NewTwice => vec![&target],
        };
        for leaf in changed {
            self.sql(&kind.sql(&leaf.name(), key, &beside.name()))
                .await?;
        }
        if kind.sums_follow {
            for leaf in &leaves {
                self.let_sums_follow(leaf).await?;
            }
        }
        Ok(Damage {
            told: format!("{} to key {key} of {}", kind.name, target.name()),
            leaves,
        })
    }

    async fn random_key(
        &self,
        leaf: &Leaf,
        kind: &Kind,
        dice: &mut fastrand::Rng,
    ) -> Result<i64, Failure> {
        let eligible = kind.eligible.replace("{leaf}", &leaf.name());
        let table = leaf.name();
        let count = format!("select count(*) from {table} where {eligible}");
        let count: u64 = self.number(&count).await?.unsigned_abs();
        if count == 0 {
            let sentence = format!("{table} has no row for {}; take a larger log", kind.name);
            return Err(Failure::usage(sentence));
        }
        let at = dice.u64(0..count);
        let pick =
            format!("select key from {table} where {eligible} order by key offset {at} limit 1");
        self.number(&pick).await
    }

    async fn number(&self, sql: &str) -> Result<i64, Failure> {
        let answer = self.sql(sql).await?;
        let number = answer.trim().parse();
        number.map_err(|error| Failure::error("read a number", error))
    }

    /// Writes what the rows add up to into the mark's row, as whoever computes both alike does.
    async fn let_sums_follow(&self, leaf: &Leaf) -> Result<(), Failure> {
        let verifier = PgVerifier::new(&self.session);
        let spec = leaf.projection.spec();
        let export = verifier
            .open_export(spec, Partition(leaf.partition))
            .await?;
        let report = export.read(|_| ()).await?;
        let mut hex = String::new();
        for byte in report.recomputed.to_bytes() {
            hex.push_str(&format!("{byte:02x}"));
        }
        let follow = format!(
            "update refold.offsets set sums = '\\x{hex}', rows = {} \
             where version = {} and partition = {}",
            report.rows, leaf.version, leaf.partition
        );
        self.sql(&follow).await.map(drop)
    }

    /// Makes the tables what they were.
    pub(super) async fn undo(&self, damage: Damage) -> Result<(), Failure> {
        for leaf in &damage.leaves {
            let undo = format!(
                "begin; truncate {0}; insert into {0} select * from {1}; \
                 update refold.offsets o set sums = k.sums, rows = k.rows from {1}_mark k \
                 where o.version = {2} and o.partition = {3}; \
                 drop table {1}; drop table {1}_mark; commit",
                leaf.name(),
                leaf.kept(),
                leaf.version,
                leaf.partition
            );
            self.sql(&undo).await?;
        }
        Ok(())
    }
}
