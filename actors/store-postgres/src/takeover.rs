//! Taking a partition over: the only legal way to begin and to resume.

use std::sync::Arc;

use async_trait::async_trait;
use refold_domain::log::RecordFingerprint;
use refold_domain::parking::Parking;
use refold_domain::position::Offset;
use refold_domain::sums::SumLayout;
use refold_domain::sums::Sums;
use refold_ports::probe::Probe;
use refold_ports::probe::Probed;
use refold_ports::sink::Lease;
use refold_ports::sink::PartitionWriter;
use refold_ports::sink::Sink;
use refold_ports::sink::StoreError;
use refold_ports::sink::TakeOver;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::ddl::Leaf;
use crate::error::store_error;
use crate::parked::parking;
use crate::session::Session;
use crate::session::SessionOptions;
use crate::writer::PostgresWriter;

const TAKE_OVER: &str = include_str!("sql/take_over.sql");
const END_OWNER: &str = include_str!("sql/end_owner.sql");
const INSERT_GAPS: &str = include_str!("sql/insert_gaps.sql");
#[cfg(not(feature = "mutation-no-fence"))]
const FENCE: &str = include_str!("sql/fence.sql");
#[cfg(feature = "mutation-no-fence")]
const FENCE: &str = include_str!("sql/mutation_no_fence.sql");

/// How often the row's lock is asked for, each time for `lock_timeout` (2 s).
/// The owner's session is ended after the first time, so that the second one
/// waits for milliseconds; the third is for an owner in between.
const ATTEMPTS: usize = 3;

/// Partitions in Postgres, each written through a connection of its own.
#[derive(Debug, Clone)]
pub struct PostgresSink {
    options: SessionOptions,
    probed: Probed,
}

impl PostgresSink {
    /// A sink on the server of these options. Connects when a partition is taken over.
    pub fn new(options: SessionOptions) -> Self {
        Self {
            options,
            probed: Probed::default(),
        }
    }

    /// With a hook inside every transaction that writes.
    #[must_use]
    pub fn with_probe(mut self, probe: Arc<dyn Probe>) -> Self {
        self.probed = Probed::by(probe);
        self
    }
}

#[async_trait]
impl Sink for PostgresSink {
    async fn take_over(
        &self,
        wanted: TakeOver<'_>,
    ) -> Result<Box<dyn PartitionWriter>, StoreError> {
        let TakeOver {
            version,
            spec,
            partition,
            ..
        } = wanted;
        let leaf = Leaf::new(version, partition, spec)?;
        let name = format!("refold writer v{version} {partition}");
        let session = Session::open(&self.options, &name).await?;
        let claim = Claim {
            wanted,
            code_hash: spec.code_hash(),
            layout: spec.sum_layout(),
        };
        let mut lease = claim.take(&session).await?;
        lease.parking = parking(&session, (version.0, partition.0)).await?;
        let prepared = futures::future::try_join(
            session.client().prepare(FENCE),
            session.client().prepare(INSERT_GAPS),
        );
        let (fence, gaps) = session.within("prepare the fence", prepared).await?;
        tracing::debug!(%version, %partition, epoch = lease.epoch, next = %lease.next, "took over");
        Ok(Box::new(PostgresWriter {
            options: self.options.clone(),
            probed: self.probed.clone(),
            session: Some(session),
            leaf,
            lease,
            fence,
            gaps,
            upsert: None,
            fetch: None,
            load: None,
            checkpoint: None,
        }))
    }
}

/// What is taken over.
struct Claim<'a> {
    wanted: TakeOver<'a>,
    code_hash: String,
    layout: SumLayout,
}

impl Claim<'_> {
    /// Raises the epoch. Waits for a transaction that holds the row; when that
    /// takes longer than `lock_timeout`, its session is ended: the owner is stopped,
    /// or works for a partition that is not its own any more.
    async fn take(&self, session: &Session) -> Result<Lease, StoreError> {
        let mut attempt = 1;
        loop {
            match self.ask(session).await {
                Err(StoreError::Retry(reason)) if attempt < ATTEMPTS => {
                    let ended = self.end_owner(session).await?;
                    tracing::info!(
                        version = %self.wanted.version, partition = %self.wanted.partition, %reason, ended,
                        "the owner holds the mark's lock"
                    );
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn ask(&self, session: &Session) -> Result<Lease, StoreError> {
        let what = "take the partition over";
        let empty = Sums::zero(&self.layout).to_bytes();
        let parameters: [&(dyn ToSql + Sync); 6] = [
            &self.wanted.version.0,
            &self.wanted.partition.0,
            &self.code_hash,
            &self.wanted.start.0,
            &empty,
            &self.wanted.own_up_to,
        ];
        let row = session.one(what, TAKE_OVER, &parameters).await?;
        self.lease(&row)
            .map_err(|e| StoreError::Refused(format!("{what}: {e}")))
    }

    fn lease(&self, row: &Row) -> Result<Lease, Box<dyn std::error::Error>> {
        let last_record = match row.try_get::<_, Option<&[u8]>>("last_record")? {
            None => None,
            Some(bytes) => Some(
                RecordFingerprint::from_bytes(bytes)
                    .ok_or("the stored record fingerprint is not 24 bytes long")?,
            ),
        };
        Ok(Lease {
            version: self.wanted.version,
            partition: self.wanted.partition,
            epoch: row.try_get("epoch")?,
            start: Offset(row.try_get("start_offset")?),
            next: Offset(row.try_get("next_offset")?),
            last_record,
            sums: Sums::from_bytes(&self.layout, row.try_get("sums")?)?,
            has_leaf: row.try_get("has_leaf")?,
            has_checkpoint: row.try_get("has_checkpoint")?,
            reached_log_end: row.try_get("reached_log_end")?,
            switch: row.try_get::<_, Option<i64>>("switch")?.map(Offset),
            parking: Parking::new(),
        })
    }

    async fn end_owner(&self, session: &Session) -> Result<bool, StoreError> {
        let what = "end the owner's session";
        let wanted = &self.wanted;
        let parameters: [&(dyn ToSql + Sync); 3] =
            [&wanted.version.0, &wanted.partition.0, &wanted.own_up_to];
        let row = session.one(what, END_OWNER, &parameters).await?;
        row.try_get(0).map_err(|e| store_error(what, &e))
    }
}
