//! Changed rows, one list a column.

use std::error::Error;
use std::time::Duration;
use std::time::SystemTime;

use bytes::BufMut;
use bytes::BytesMut;
use tokio_postgres::types::IsNull;
use tokio_postgres::types::Kind;
use tokio_postgres::types::ToSql;
use tokio_postgres::types::Type;

/// When every account was opened: seconds since 1970.
const OPENED: Duration = Duration::from_secs(1_700_000_000);

/// The balance that the row of a key gets from the event at an offset.
pub(crate) fn balance(key: i64, offset: i64) -> i64 {
    key * 1_000 + offset
}

/// Rows with distinct keys.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) rows: Vec<Row>,
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) key: i64,
    balance: i64,
    status: &'static str,
    largest_deposit: i64,
    deposits_count: i64,
    reversed_total: i64,
    opened_at: SystemTime,
    closed_at: Option<SystemTime>,
    currency: &'static str,
    agg_version: i64,
    off: i64,
    deleted: bool,
}

impl Batch {
    pub(crate) fn push(&mut self, key: i64, version: i64, offset: i64) {
        self.rows.push(Row {
            key,
            balance: balance(key, offset),
            status: "open",
            largest_deposit: offset,
            deposits_count: version,
            reversed_total: 0,
            opened_at: SystemTime::UNIX_EPOCH + OPENED,
            closed_at: None,
            currency: "EUR",
            agg_version: version,
            off: offset,
            deleted: false,
        });
    }

    /// The same rows in the order of their keys.
    pub(crate) fn sorted(&self) -> Self {
        let mut rows = self.rows.clone();
        rows.sort_unstable_by_key(|row| row.key);
        Self { rows }
    }

    pub(crate) fn columns(&self) -> Columns {
        macro_rules! list {
            ($field:ident) => {
                Box::new(self.rows.iter().map(|row| row.$field).collect::<Vec<_>>())
            };
        }
        Columns([
            list!(key),
            list!(balance),
            list!(status),
            list!(largest_deposit),
            list!(deposits_count),
            list!(reversed_total),
            list!(opened_at),
            list!(closed_at),
            list!(currency),
            list!(agg_version),
            list!(off),
            list!(deleted),
        ])
    }
}

/// A batch as one array a column.
pub(crate) struct Columns([Box<dyn ToSql + Sync + Send>; 12]);

impl Columns {
    pub(crate) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.0
            .iter()
            .map(|list| -> &(dyn ToSql + Sync) { list.as_ref() })
            .collect()
    }
}

impl Row {
    /// The cells in table order.
    pub(crate) fn cells(&self) -> [&(dyn ToSql + Sync); 12] {
        [
            &self.key,
            &self.balance,
            &self.status,
            &self.largest_deposit,
            &self.deposits_count,
            &self.reversed_total,
            &self.opened_at,
            &self.closed_at,
            &self.currency,
            &self.agg_version,
            &self.off,
            &self.deleted,
        ]
    }
}

/// A row as a value of the table's type: the number of fields, and each with its type and length.
impl ToSql for Row {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let Kind::Composite(fields) = ty.kind() else {
            return Err(format!("{ty} is no row").into());
        };
        let cells = self.cells();
        if fields.len() != cells.len() {
            return Err(format!("{} cells for {} fields", cells.len(), fields.len()).into());
        }
        out.put_i32(i32::try_from(cells.len())?);
        for (field, cell) in fields.iter().zip(cells) {
            out.put_u32(field.type_().oid());
            let length_at = out.len();
            out.put_i32(-1);
            if let IsNull::No = cell.to_sql_checked(field.type_(), out)? {
                let length = i32::try_from(out.len() - length_at - 4)?;
                out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(ty.kind(), Kind::Composite(_))
    }

    tokio_postgres::types::to_sql_checked!();
}
