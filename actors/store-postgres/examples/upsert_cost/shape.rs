//! Ways of writing a batch of changed rows.

use std::pin::pin;
use std::str::FromStr;

use futures::future;
use tokio_postgres::Client;
use tokio_postgres::Statement;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::ToSql;
use tokio_postgres::types::Type;

use crate::Outcome;
use crate::batch::Batch;

/// Rows of one `values` list: the protocol takes 65,535 parameters, twelve a row.
const LISTED: usize = 1_000;

/// The types of the table's columns.
const TYPES: [Type; 12] = [
    Type::INT8,
    Type::INT8,
    Type::TEXT,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::TIMESTAMPTZ,
    Type::TIMESTAMPTZ,
    Type::TEXT,
    Type::INT8,
    Type::INT8,
    Type::BOOL,
];

const COPY: &str = "copy incoming from stdin (format binary)";
const ROW: &str = concat!(include_str!("row.sql"), include_str!("conflict.sql"));

/// Where a statement has its rows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A parameter a column.
    Arrays,
    /// One parameter, an array of rows of the table's type.
    Composites,
    /// A temporary table, which a binary copy fills.
    Copied,
}

impl Source {
    /// The rows under the name `new`.
    fn sql(self) -> &'static str {
        match self {
            Self::Arrays => include_str!("arrays.sql"),
            Self::Composites => "unnest($1::account[]) as new ",
            Self::Copied => "(select * from incoming order by key) as new ",
        }
    }

    /// Inserts what is not there and replaces the older of what is.
    fn upsert(self) -> String {
        let conflict = include_str!("conflict.sql");
        format!(
            "insert into account as leaf select new.* from {}\n{conflict}",
            self.sql()
        )
    }

    fn merge(self) -> String {
        let actions = include_str!("merge.sql");
        format!("merge into account as leaf using {}\n{actions}", self.sql())
    }

    /// Replaces the older of what is there.
    fn update(self) -> String {
        let update = include_str!("update.sql");
        format!(
            "{update} {} where leaf.key = new.key and new.off > leaf.off",
            self.sql()
        )
    }

    /// Inserts what is not there.
    fn add(self) -> String {
        format!(
            "insert into account select new.* from {} on conflict (key) do nothing",
            self.sql()
        )
    }
}

/// A way of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `insert ... select from unnest ... on conflict do update`, an array a column, rows in key
    /// order: what the product did first.
    Unnest,
    /// The same with the rows as they come.
    UnnestUnsorted,
    /// `insert ... values (...), (...) ... on conflict do update`, in key order.
    Values,
    /// A binary copy into a temporary table, and an insert from there.
    Copied,
    /// `update ... from unnest`, and an insert of what was not there.
    UpdateInsert,
    /// `merge ... using unnest`.
    Merge,
    /// The same, with one array of whole rows instead of an array a column.
    Composites,
    /// The same array and `merge`: what the product does.
    CompositesMerge,
    /// The same array, `update`, and an insert of what was not there.
    CompositesUpdateInsert,
    /// The copy into a temporary table, and a merge from there.
    CopiedMerge,
    /// A statement a row, all sent before the first answer is waited for.
    RowByRow,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "unnest" => Self::Unnest,
            "unnest-unsorted" => Self::UnnestUnsorted,
            "values" => Self::Values,
            "copied" => Self::Copied,
            "update-insert" => Self::UpdateInsert,
            "merge" => Self::Merge,
            "composites" => Self::Composites,
            "composites-merge" => Self::CompositesMerge,
            "composites-update-insert" => Self::CompositesUpdateInsert,
            "copied-merge" => Self::CopiedMerge,
            "row-by-row" => Self::RowByRow,
            other => return Err(format!("{other} is no shape")),
        })
    }
}

/// Whoever writes batches in one shape.
pub(crate) struct Writer {
    pub(crate) client: Client,
    shape: Shape,
    statements: Vec<Statement>,
}

impl Writer {
    pub(crate) async fn prepare(client: Client, shape: Shape, batch: usize) -> Outcome<Self> {
        let texts = match shape {
            Shape::Unnest | Shape::UnnestUnsorted => vec![Source::Arrays.upsert()],
            Shape::Composites => vec![Source::Composites.upsert()],
            Shape::Values => {
                let mut sizes = vec![batch.min(LISTED)];
                let rest = batch % LISTED;
                sizes.extend((batch > LISTED && rest > 0).then_some(rest));
                sizes.into_iter().map(listed).collect()
            }
            Shape::Copied => vec![COPY.to_owned(), Source::Copied.upsert()],
            Shape::CopiedMerge => vec![COPY.to_owned(), Source::Copied.merge()],
            Shape::UpdateInsert => vec![Source::Arrays.update(), Source::Arrays.add()],
            Shape::CompositesUpdateInsert => {
                vec![Source::Composites.update(), Source::Composites.add()]
            }
            Shape::Merge => vec![Source::Arrays.merge()],
            Shape::CompositesMerge => vec![Source::Composites.merge()],
            Shape::RowByRow => vec![ROW.to_owned()],
        };
        let mut statements = Vec::new();
        for text in &texts {
            statements.push(client.prepare(text).await?);
        }
        Ok(Self {
            client,
            shape,
            statements,
        })
    }

    /// Writes a batch in a transaction of its own.
    pub(crate) async fn write(&mut self, batch: &Batch) -> Outcome<()> {
        let transaction = self.client.transaction().await?;
        let client = transaction.client();
        let sorted;
        let batch = match self.shape {
            Shape::UnnestUnsorted => batch,
            _ => {
                sorted = batch.sorted();
                &sorted
            }
        };
        let rows = batch.rows.len() as u64;
        let written = match self.shape {
            Shape::Unnest | Shape::UnnestUnsorted | Shape::Merge | Shape::UpdateInsert => {
                let columns = batch.columns();
                in_turn(client, &self.statements, &columns.parameters(), rows).await?
            }
            Shape::Composites | Shape::CompositesMerge | Shape::CompositesUpdateInsert => {
                in_turn(client, &self.statements, &[&batch.rows], rows).await?
            }
            Shape::Copied | Shape::CopiedMerge => copied(client, &self.statements, batch).await?,
            Shape::Values => values(client, &self.statements, batch).await?,
            Shape::RowByRow => {
                let each = batch.rows.iter().map(|row| {
                    let statement = &self.statements[0];
                    async move { client.execute(statement, &row.cells()).await }
                });
                future::try_join_all(each).await?.into_iter().sum()
            }
        };
        if written != rows {
            return Err(format!("{written} of {rows} rows were written").into());
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// Rows that the statements wrote, each of which is only asked while `wanted` are not reached.
async fn in_turn(
    client: &Client,
    statements: &[Statement],
    parameters: &[&(dyn ToSql + Sync)],
    wanted: u64,
) -> Outcome<u64> {
    let mut written = 0;
    for statement in statements {
        if written < wanted {
            written += client.execute(statement, parameters).await?;
        }
    }
    Ok(written)
}

async fn copied(client: &Client, statements: &[Statement], batch: &Batch) -> Outcome<u64> {
    let sink = client.copy_in(&statements[0]).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &TYPES));
    for row in &batch.rows {
        writer.as_mut().write(&row.cells()).await?;
    }
    writer.finish().await?;
    Ok(client.execute(&statements[1], &[]).await?)
}

async fn values(client: &Client, statements: &[Statement], batch: &Batch) -> Outcome<u64> {
    let mut written = 0;
    for rows in batch.rows.chunks(LISTED) {
        let parameters: Vec<_> = rows.iter().flat_map(|row| row.cells()).collect();
        let fits = |statement: &&Statement| statement.params().len() == parameters.len();
        let statement = statements.iter().find(fits);
        let statement = statement.ok_or("a list of a length that was not prepared")?;
        written += client.execute(statement, &parameters).await?;
    }
    Ok(written)
}

/// The statement of one row for `rows` of them.
fn listed(rows: usize) -> String {
    let one: Vec<_> = (1..=TYPES.len()).map(|n| format!("${n}")).collect();
    let list = |row: usize| {
        let first = row * TYPES.len();
        let places = (1..=TYPES.len()).map(|n| format!("${}", first + n));
        format!("({})", places.collect::<Vec<_>>().join(", "))
    };
    let lists: Vec<_> = (0..rows).map(list).collect();
    ROW.replace(&format!("({})", one.join(", ")), &lists.join(", "))
}
