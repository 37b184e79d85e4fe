//! One aggregate in two versions, by one statement over connections of its own.
//!
//! A comparison must not hold a read up, so it shares nothing with the point reads: a
//! candidate whose table is locked, or whose rows are slow, is waited for here alone.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::version::VersionId;
use refold_ports::pair::Declared;
use refold_ports::pair::Pair;
use refold_ports::pair::PairReads;
use refold_ports::pair::PairSide;
use refold_ports::pair::StoredRow;
use refold_ports::registry::ReadError;
use refold_projection::KeyType;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::array::cells_of;
use crate::ddl;
use crate::read_model::KeyParameter;
use crate::session::SessionOptions;
use crate::shared_client::SharedClients;
use crate::shared_client::TypedValue;

/// How long a connection may take to be made, at least.
const CONNECT: Duration = Duration::from_secs(2);

/// Fields of a side in front of its columns.
const FIELDS: usize = 5;

/// Reads of pairs on Postgres.
pub struct PgPairReads {
    clients: SharedClients,
    deadline: Duration,
}

impl fmt::Debug for PgPairReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgPairReads")
            .field("clients", &self.clients)
            .field("deadline", &self.deadline)
            .finish()
    }
}

impl PgPairReads {
    /// Reads over one connection, made when it is needed. A pair that is not there within
    /// `deadline` is given up, and its connection with it.
    pub fn new(options: &SessionOptions, deadline: Duration) -> Self {
        Self {
            clients: SharedClients::new(options, "refold shadow", 1, deadline.max(CONNECT)),
            deadline,
        }
    }
}

#[async_trait]
impl PairReads for PgPairReads {
    async fn read_pair(
        &self,
        first: Declared<'_>,
        second: Declared<'_>,
        partition: Partition,
        key: &str,
    ) -> Result<Option<Pair>, ReadError> {
        let key_type = first.spec.key_type;
        let parsed = key_type.parse(key);
        let parsed = parsed.map_err(|e| ReadError::BadKey(e.to_string()))?;
        let mut cell = Vec::new();
        parsed.write_cell(&mut cell);
        let sql = sql(first, second, partition)?;
        let parameter: KeyParameter<'_> = parsed.into();
        let parameters: [TypedValue<'_>; 1] = [(parameter.as_sql(), sql_type(key_type))];
        let client = self.clients.get().await?;
        let rows = tokio::time::timeout(self.deadline, client.query(&sql, &parameters)).await;
        let rows = match rows {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(None),
            Ok(Err(error)) => return Err(unavailable(&error)),
            Err(_) => {
                self.clients.discard(&client);
                let sentence = format!("no answer within {:?}", self.deadline);
                return Err(ReadError::Unavailable(sentence));
            }
        };
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let columns = first.spec.columns.len();
        let firsts = side(row, 0, columns).map_err(|e| unavailable(&e))?;
        let seconds = side(row, FIELDS + columns, second.spec.columns.len());
        Ok(Some(Pair {
            key: cell,
            first: firsts,
            second: seconds.map_err(|e| unavailable(&e))?,
        }))
    }
}

fn unavailable(error: &tokio_postgres::Error) -> ReadError {
    ReadError::Unavailable(error.to_string())
}

pub(crate) fn sql_type(key_type: KeyType) -> Type {
    match key_type {
        KeyType::Int8 => Type::INT8,
        KeyType::Uuid => Type::UUID,
        KeyType::Text => Type::TEXT,
    }
}

/// Both sides in one row, each as mark, key, position, tombstone and columns. No row comes
/// back while a version has no mark.
fn sql(
    first: Declared<'_>,
    second: Declared<'_>,
    partition: Partition,
) -> Result<String, ReadError> {
    let fields = |side: &str, of: Declared<'_>| {
        let mut fields = format!(
            "{side}m.next_offset, {side}.key is not null, {side}.agg_version, {side}.off, \
             {side}.deleted"
        );
        for column in of.spec.columns {
            let name = ddl::checked(column.name);
            let name = name.map_err(|e| ReadError::Unavailable(e.to_string()))?;
            fields.push_str(&format!(", {side}.\"{name}\""));
        }
        Ok(fields)
    };
    let mark = |side: &str, version: VersionId| {
        format!(
            "{side}m.version = {version} and {side}m.partition = {}",
            partition.0
        )
    };
    let leaf = |of: Declared<'_>| ddl::leaf_name(of.version, partition);
    Ok(format!(
        "select {}, {} from refold.offsets am join refold.offsets bm on {} \
         left join {} a on a.key = $1 left join {} b on b.key = $1 where {}",
        fields("a", first)?,
        fields("b", second)?,
        mark("b", second.version),
        leaf(first),
        leaf(second),
        mark("a", first.version),
    ))
}

/// The side whose fields begin at `at`.
fn side(row: &Row, at: usize, columns: usize) -> Result<PairSide, tokio_postgres::Error> {
    let next = Offset(row.try_get(at)?);
    if !row.try_get::<_, bool>(at + 1)? {
        return Ok(PairSide { next, stored: None });
    }
    let applied_seq: i64 = row.try_get(at + 2)?;
    let first = at + FIELDS;
    Ok(PairSide {
        next,
        stored: Some(StoredRow {
            cells: cells_of(row, first..first + columns)?,
            applied_seq: applied_seq.cast_unsigned(),
            off: Offset(row.try_get(at + 3)?),
            deleted: row.try_get(at + 4)?,
        }),
    })
}
