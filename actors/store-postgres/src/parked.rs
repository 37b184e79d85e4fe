//! Events that were put aside: stored with the batch that passed them, and read.

use refold_domain::parking::ParkedEvent;
use refold_domain::parking::Parking;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::version::VersionId;
use refold_ports::registry::RegistryError;
use refold_ports::sink::StoreError;

use crate::error::store_error;
use crate::parameter::Parameter;
use crate::parameter::typed;
use crate::registry::PgRegistry;
use crate::session::Session;
use crate::transaction::field;

const INSERT: &str = include_str!("sql/insert_parked.sql");
const TAINTED: &str = include_str!("sql/tainted.sql");
const PARKED: &str = include_str!("sql/parked.sql");

/// Parked events as one array per column.
pub(crate) struct ParkedArrays<'a> {
    offsets: Vec<i64>,
    keys: Vec<&'a [u8]>,
    reasons: Vec<String>,
    values: Vec<Option<&'a [u8]>>,
}

impl<'a> ParkedArrays<'a> {
    pub(crate) fn new(events: &'a [ParkedEvent]) -> Self {
        Self {
            offsets: events.iter().map(|e| e.offset.0).collect(),
            keys: events.iter().map(|e| &e.key[..]).collect(),
            // A reason may cite what was read, and the server's text knows no zero.
            reasons: events
                .iter()
                .map(|e| e.reason.replace('\0', "\u{fffd}"))
                .collect(),
            values: events.iter().map(|e| e.value.as_deref()).collect(),
        }
    }

    /// Stores the events; does not go to the server for none. What is there already stays.
    pub(crate) async fn insert(
        &self,
        session: &Session,
        owner: (i64, i32),
    ) -> Result<(), tokio_postgres::Error> {
        if self.offsets.is_empty() {
            return Ok(());
        }
        let (version, partition) = owner;
        let parameters: [&dyn Parameter; 6] = [
            &version,
            &partition,
            &self.offsets,
            &self.keys,
            &self.reasons,
            &self.values,
        ];
        let parameters = typed(&parameters);
        // One message: it is under way between the fence and the commit.
        let inserted = session.client().query_typed(INSERT, &parameters);
        inserted.await.map(drop)
    }
}

/// The aggregates of a partition whose events were put aside. Nobody but the owner of the
/// newest epoch adds to them.
pub(crate) async fn parking(session: &Session, owner: (i64, i32)) -> Result<Parking, StoreError> {
    let what = "read the tainted aggregates";
    let asked: [&dyn Parameter; 2] = [&owner.0, &owner.1];
    let asked = typed(&asked);
    let rows = session
        .within(what, session.client().query_typed(TAINTED, &asked))
        .await?;
    let mut parking = Parking::new();
    for row in rows {
        let key: Vec<u8> = row.try_get("key").map_err(|e| store_error(what, &e))?;
        let since: i64 = row.try_get("since").map_err(|e| store_error(what, &e))?;
        parking.taint(&key, Offset(since));
    }
    Ok(parking)
}

impl PgRegistry {
    /// The parked events of a version, of one partition or of all of them, in the order of the
    /// log, `limit` of them at most.
    ///
    /// # Errors
    /// [`RegistryError::Unreachable`] when the database is away.
    pub async fn parked(
        &self,
        version: VersionId,
        partition: Option<Partition>,
        limit: Option<u64>,
    ) -> Result<Vec<(Partition, ParkedEvent)>, RegistryError> {
        let partition = partition.map(|p| p.0);
        let limit = limit.map(u64::cast_signed);
        let what = "read the parked events";
        let asked: [&dyn Parameter; 3] = [&version.0, &partition, &limit];
        let rows = self.sessions().query(what, PARKED, &asked).await?;
        let event = |row: &tokio_postgres::Row| {
            let parked = ParkedEvent {
                offset: Offset(field(row, "at_offset")?),
                key: field(row, "key")?,
                reason: field(row, "reason")?,
                value: field(row, "payload")?,
            };
            Ok((Partition(field(row, "partition")?), parked))
        };
        rows.iter().map(event).collect()
    }
}
